// Threads with a stack of a given size, which those of the standard library have not.
//
// glibc gives a thread as much stack as the limit of the main thread's says, but 2 MiB on x86-64 where there is no
// limit
// (`ulimit -s unlimited`, as on many clusters). The recursion that Python allows by default needs more than that.
#pragma once

#include <cstddef>
#include <functional>

#include "base/export.h"

namespace multipy {

/// The stack in bytes of a thread that stands for the main thread of a process: as large as that would be, and
/// 64 MiB, of which only what is used is taken, where that would have no limit.
MULTIPY_API std::size_t main_thread_stack();

/// Has a new thread run `body`; nobody joins it. Throws std::system_error if there can be none.
MULTIPY_API void start_thread(std::size_t stack, std::function<void()> body);

}  // namespace multipy
