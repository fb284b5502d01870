// Failing a call where Python code cannot be relied on: memory or the recursion limit is spent, or what was raised
// fights back when it is asked for its text.
#pragma once

#include <Python.h>

namespace multipy {
class Call;
}

namespace multipy::bindings {

/// Fails `call` with the type of `error`, and its text if that is at hand. False if the call has ended. With the GIL;
/// an error that is set is kept.
bool fail_plainly(Call& call, PyObject* error) noexcept;

/// The recursion limit is what the library needs at least, for its own part of a call; true: it was less. With the GIL.
bool keep_recursion_limit() noexcept;

/// What another thread raises in this one goes to the code that runs; nothing of the user's does. With the GIL.
void drop_late_exception() noexcept;

}  // namespace multipy::bindings
