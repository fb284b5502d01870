// A wait without the GIL, by a thread on which calls run.
//
// Problem: what ends a wait is often done by a thread of the same interpreter, which still has the GIL for the few
// bytecodes before its own next wait. Who asks for the GIL meanwhile sleeps a second time, and is woken a second time.
//
// Model: an interpreter counts those of its workers' threads that are in Python. One that comes out of its wait looks
// on, for some microseconds, until none is; it gives that up where it does not pay, as beside an actor that computes.
// The count is a hint: threads that user code has started and the event loop's are not in it.
#pragma once

#include <Python.h>

namespace multipy::bindings {

class GilPause {
 public:
  GilPause() noexcept;
  ~GilPause();
  GilPause(const GilPause&) = delete;
  GilPause& operator=(const GilPause&) = delete;

 private:
  PyThreadState* const thread_;
};

/// Whether calls run on this thread, which has the GIL and is a worker's.
void count_in_python(bool counts) noexcept;

}  // namespace multipy::bindings
