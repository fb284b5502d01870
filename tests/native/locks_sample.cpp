// A library that waits for locks, as the CUDA driver does. Its references to libc are what the tests redirect.
#include <pthread.h>

#define SAMPLE extern "C" __attribute__((visibility("default")))

SAMPLE int sample_lock(pthread_mutex_t* mutex) { return pthread_mutex_lock(mutex); }
SAMPLE int sample_read(pthread_rwlock_t* lock) { return pthread_rwlock_rdlock(lock); }
SAMPLE int sample_write(pthread_rwlock_t* lock) { return pthread_rwlock_wrlock(lock); }
