// The part of the seam that starts and ends threads: what code of an interpreter starts belongs to it as well.
//
// The working directory, the root and the umask need no doing: a thread shares those of the thread that starts it. What
// is noted here is whose thread it is, for code of shared libraries that runs on it, and its locale.
#include <pthread.h>

#include <array>
#include <cerrno>
#include <memory>
#include <new>

#include "elf/caller.h"
#include "elf/thread_end.h"

namespace multipy::elf {

namespace {

struct Start {
  void* (*routine)(void*);
  void* argument;
  Namespace* space;
};

void* run(void* argument) {
  // Nothing is left to be done when it returns: Python ends threads by pthread_exit, which never does.
  const Start start = *static_cast<Start*>(argument);
  delete static_cast<Start*>(argument);
  enter_thread(*start.space);
  return start.routine(start.argument);
}

int seam_pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*routine)(void*), void* argument) {
  MULTIPY_CALLER;
  if (caller.space == nullptr) return ::pthread_create(thread, attributes, routine, argument);
  std::unique_ptr<Start> start(new (std::nothrow) Start{routine, argument, caller.space});
  if (start == nullptr) return EAGAIN;
  const int failure = ::pthread_create(thread, attributes, run, start.get());
  if (failure == 0) start.release();
  return failure;
}

/// Whether it is a libpython.
bool is_python(const Image* image) {
  return image != nullptr && image->file().find(SymbolName("PyThread_exit_thread")).has_value();
}

/// Python ends threads by it that reach for its GIL when it is being finalised; all others do what they say.
[[noreturn]] void seam_pthread_exit(void* value) {
  const void* const from = __builtin_return_address(0);
  if (is_python(image_at(from))) end_thread(value, from);
  ::pthread_exit(value);
}

}  // namespace

std::span<const SeamFunction> functions_of_threads() {
  static const std::array functions{
      SeamFunction{"pthread_create", reinterpret_cast<void*>(seam_pthread_create), true},
      SeamFunction{"pthread_exit", reinterpret_cast<void*>(seam_pthread_exit)},
  };
  return functions;
}

}  // namespace multipy::elf
