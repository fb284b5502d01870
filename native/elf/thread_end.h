// The end of a thread that reaches for the GIL of a Python that is being finalised.
//
// Problem: before 3.14 Python ends such a thread, a daemon, on the spot: PyThread_exit_thread calls pthread_exit, which
// unwinds the stack by force. C++ code may be on that stack: whoever released the GIL in order to wait takes it back in
// a destructor, and functions of nanobind and pybind11 let nothing out. Destructors and these functions are noexcept,
// so the unwinding ends in std::terminate, and the process with it.
//
// Model: libpython's reference to pthread_exit is bound to end_thread(): in an interpreter by the seam, in the host by
// let_threads_rest(). It looks at the stack first. If a function on it has anything to say about unwinding, as those of
// C++ have that destroy or catch something or are noexcept, the thread sleeps for ever instead, as every such thread
// does from 3.14 on. Otherwise it ends as ever.
//
// What a thread that sleeps holds stays held; but then it was in the middle of taking the GIL, which code that holds
// a lock must not do. Of the host's threads nobody sees that they sleep, as the process is about to end. An interpreter
// leaves their stacks behind.
//
// Rejected: to catch the unwinding where this library takes the GIL back. It would also have to be caught around all
// code of nanobind's that may run Python, collect garbage say, and would do nothing for torch's own waits.
#pragma once

#include "base/export.h"

namespace multipy::elf {

/// Ends this thread with `value`, or has it sleep. `caller` is the return address of the call of pthread_exit.
[[noreturn]] void end_thread(void* value, const void* caller);

/// Has the Python that has the function at `address` end threads so. Returns how many references were redirected.
MULTIPY_API int let_threads_rest(const void* address);

}  // namespace multipy::elf
