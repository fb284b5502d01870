// A library that ends threads, as libpython does. Its reference to libc is what the tests redirect.
#include <pthread.h>

#define SAMPLE extern "C" __attribute__((visibility("default")))

SAMPLE void* sample_exit(void* value) { pthread_exit(value); }
