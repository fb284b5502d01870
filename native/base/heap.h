// Spares threads that will allocate much the many small steps in which glibc grows their heaps.
#pragma once

#include "base/export.h"

namespace multipy {

/// glibc makes the heap of a thread other than the first writable a page at a time, as it grows: `import torch` in one
/// costs some 15,000 system calls, each of which takes the process's one lock for mappings. Growing the calling
/// thread's heap once and giving the memory back leaves it writable. Does nothing the second time a thread asks.
MULTIPY_API void widen_heap();

/// A heap is of 64 MiB at most; then glibc begins another. Does the same to that one, if the thread has asked before,
/// and to some more; whoever allocates much calls this now and then.
MULTIPY_API void widen_next_heap();

}  // namespace multipy
