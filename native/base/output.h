// Standard output and error, written by many interpreters, line by line.
//
// Problem: interpreters write to the same descriptors, each on its own, and a write to a pipe may be cut where it is
// long. Lines should come out whole, and say whose they are.
//
// Model: a writer (a thread, by whatever number identifies it) hands over pieces of text, mostly whole lines. A piece
// that does not end its line leaves it *open*, and the same writer goes on with it; if another one writes first, the
// open line is ended before. Text that begins with a carriage return redraws a line, as progress bars do: it gets no
// prefix, which would make it too wide for the terminal, and takes the place of a line that was drawn so.
//
// Threads and locks: any thread, without a GIL. One mutex is held while writing, as both descriptors are often the same
// terminal. What the host's Python or C code writes by itself does not come here.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/export.h"

namespace multipy {

/// Writes `text` to `fd`, 1 or 2, with `prefix` before each line that begins in it and is not empty. Waits where the
/// descriptor does not take it at once. Returns 0 or an errno.
MULTIPY_API int write_output(int fd, std::uint64_t writer, std::string_view prefix, std::string_view text);

}  // namespace multipy
