// How long a thread runs at a stretch while more threads want to run than there are CPUs.
#pragma once

#include "base/export.h"

namespace multipy {

/// Asks the kernel for long time slices for the calling thread, or for the usual ones again. Work that goes through
/// much memory, such as an import, is faster so: the others, at each of their turns, push what it uses out of the
/// caches. It gets no more of the CPUs, but waits longer for its turns, so it is not for what answers others. Linux
/// before 6.12 has one length of slices for all; there, and where a thread has a length of its own choice, this changes
/// nothing. Linux hands the length on: threads and processes that are started meanwhile keep it.
MULTIPY_API void want_long_slices(bool wanted);

}  // namespace multipy
