// The library that the tests of elf/ read: functions, data, thread-locals, a constructor, references to others.
#include <cstdlib>
#include <cstring>

extern "C" {
__attribute__((visibility("default"))) int sample_number = 7;
__attribute__((visibility("default"))) int* sample_pointer = &sample_number;
__attribute__((visibility("default"))) thread_local int sample_thread_local = 3;
__attribute__((visibility("default"))) int sample_function(const char* text) {
  ++sample_thread_local;
  return std::getenv(text) == nullptr ? *sample_pointer : static_cast<int>(std::strlen(text));
}
int sample_hidden() { return 1; }
}

__attribute__((constructor)) static void start() { sample_number = 8; }
