// Waits for a shared library's locks that do not go to sleep at once.
//
// Problem: the CUDA driver has locks for its context, which all interpreters launch kernels in. They are held for a
// microsecond or few, but a thread that finds one taken sleeps, and waking it takes tens of microseconds, during which
// the next ones come and sleep as well. Processes do not meet there, as each has a context of its own.
//
// Model: the library's references to libc's functions that wait for a mutex or a read-write lock are bound to ours,
// which look on for a moment (base/spin.h) before they call libc's. The locks are libc's as before, of whatever kind;
// who has one and who gets it next is decided by libc alone.
#pragma once

#include "base/export.h"

namespace multipy::elf {

/// Does that to the library behind `handle`, which glibc has loaded. Returns how many references there were.
MULTIPY_API int make_locks_patient(void* handle);

}  // namespace multipy::elf
