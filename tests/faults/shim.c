// Preloaded: has the k-th call of one function fail, counted from when fault_arm() was called, in all threads.
// gcc -shared -fPIC -O1 -o shim.so shim.c
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MMAP, MEMFD_CREATE, PTHREAD_CREATE, MREMAP, MPROTECT, FTRUNCATE, PWRITE, MALLOC, KINDS };
static const char* const kNames[KINDS] = {"mmap",     "memfd_create", "pthread_create", "mremap",
                                          "mprotect", "ftruncate",    "pwrite",         "malloc"};

static atomic_int armed = -1;    // the function that is to fail; -1: none
static atomic_long seen;         // its calls so far
static atomic_long wanted;       // the one that fails
static atomic_long failed;
static atomic_int shows_stack;

int fault_kind(const char* name) {
  for (int kind = 0; kind < KINDS; ++kind)
    if (strcmp(kNames[kind], name) == 0) return kind;
  return -1;
}
void fault_arm(int kind, long call, int show) {
  seen = 0;
  failed = 0;
  wanted = call;
  shows_stack = show;
  armed = kind;
}
void fault_disarm(void) { armed = -1; }
long fault_seen(void) { return seen; }
long fault_failed(void) { return failed; }

static int fails(int kind) {
  if (atomic_load_explicit(&armed, memory_order_relaxed) != kind) return 0;
  if (atomic_fetch_add(&seen, 1) + 1 != wanted) return 0;
  armed = -1;
  ++failed;
  if (shows_stack) {
    void* frames[40];
    backtrace_symbols_fd(frames, backtrace(frames, 40), 2);
  }
  return 1;
}

void* mmap(void* address, size_t length, int protection, int flags, int fd, off_t offset) {
  if (fails(MMAP)) return errno = ENOMEM, MAP_FAILED;
  return (void*)syscall(SYS_mmap, address, length, protection, flags, fd, offset);
}
void* mmap64(void* address, size_t length, int protection, int flags, int fd, off_t offset) {
  return mmap(address, length, protection, flags, fd, offset);
}
void* mremap(void* address, size_t length, size_t wanted_length, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  void* target = va_arg(rest, void*);
  va_end(rest);
  if (fails(MREMAP)) return errno = ENOMEM, MAP_FAILED;
  return (void*)syscall(SYS_mremap, address, length, wanted_length, flags, target);
}
int mprotect(void* address, size_t length, int protection) {
  if (fails(MPROTECT)) return errno = ENOMEM, -1;
  return (int)syscall(SYS_mprotect, address, length, protection);
}
int memfd_create(const char* name, unsigned flags) {
  if (fails(MEMFD_CREATE)) return errno = EMFILE, -1;
  return (int)syscall(SYS_memfd_create, name, flags);
}
int ftruncate(int fd, off_t length) {
  if (fails(FTRUNCATE)) return errno = ENOSPC, -1;
  return (int)syscall(SYS_ftruncate, fd, length);
}
int ftruncate64(int fd, off_t length) { return ftruncate(fd, length); }
ssize_t pwrite(int fd, const void* bytes, size_t count, off_t offset) {
  if (fails(PWRITE)) return errno = ENOSPC, -1;
  return syscall(SYS_pwrite64, fd, bytes, count, offset);
}
ssize_t pwrite64(int fd, const void* bytes, size_t count, off_t offset) { return pwrite(fd, bytes, count, offset); }

typedef int Create(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*function)(void*), void* argument) {
  static _Atomic(Create*) real;
  if (fails(PTHREAD_CREATE)) return EAGAIN;
  if (real == NULL) real = (Create*)dlsym(RTLD_NEXT, "pthread_create");
  return real(thread, attributes, function, argument);
}

extern void* __libc_malloc(size_t);
extern void* __libc_calloc(size_t, size_t);
extern void* __libc_realloc(void*, size_t);
void* malloc(size_t size) { return fails(MALLOC) ? (errno = ENOMEM, NULL) : __libc_malloc(size); }
void* calloc(size_t count, size_t size) { return fails(MALLOC) ? (errno = ENOMEM, NULL) : __libc_calloc(count, size); }
void* realloc(void* old, size_t size) { return fails(MALLOC) ? (errno = ENOMEM, NULL) : __libc_realloc(old, size); }
