// Whose code called a function of the seam, and what is said to it when an interpreter may not have what it asks for.
#pragma once

#include <unistd.h>

#include <cerrno>
#include <new>
#include <span>
#include <string_view>
#include <type_traits>

#include "elf/namespace.h"

namespace multipy::elf {

struct Caller {
  explicit Caller(const void* return_address) : image(image_at(return_address)) {
    space = image != nullptr ? &image->owner() : thread_namespace();
  }
  /// Not in a child that was forked: that is a process of its own, and nothing there is the host's.
  bool is_in_interpreter() const noexcept { return space != nullptr && ::getpid() == space->process(); }

  const Image* image;
  Namespace* space;  // null: the host
};
#define MULTIPY_CALLER const Caller caller(__builtin_return_address(0))

/// Fails a call of the seam: errno is ENOTSUP, of which strerror then says `reason` to this thread. Returns -1.
int refuse(const char* reason);

/// Makes a call for C code, through which nothing may be thrown. Without memory it is `failed`, and errno says so.
template <typename Call, typename Result = std::invoke_result_t<Call>>
Result answer_or_errno(Call call, Result failed) {
  try {
    return call();
  } catch (const std::bad_alloc&) {
    errno = ENOMEM;
    return failed;
  }
}
/// For functions that return -1 then.
template <typename Call>
int answer_or_errno(Call call) {
  return answer_or_errno(call, -1);
}

/// A function of libc and what it is bound to.
struct SeamFunction {
  std::string_view name;
  void* function;
  bool in_shared = false;  // also in shared libraries that interpreters use: shared_calls.h
};

// What the files of the seam add to it.
std::span<const SeamFunction> functions_of_programs();
std::span<const SeamFunction> functions_of_threads();
std::span<const SeamFunction> functions_of_process();
std::span<const SeamFunction> functions_of_time();
std::span<const SeamFunction> functions_of_locale();
std::span<const SeamFunction> functions_of_signals();

}  // namespace multipy::elf
