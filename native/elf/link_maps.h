// Where glibc keeps the images: in a link-map namespace of their own, beside that of the process.
//
// glibc walks the list of a namespace's libraries whenever it opens, closes or looks up one there. Thousands of images
// in the process's own list would have the host's every dlopen wait for them; in another list they do not. That list
// holds nothing but images: they have no dependencies that glibc knows of, so no second libc comes with it.
//
// Exceptions must still find the images. An unwinder that asks _dl_find_object (glibc 2.35, libgcc 12) sees every
// namespace; one that walks with dl_iterate_phdr sees its own alone, the process's. So the images get their namespace
// only if every unwinder in sight asks _dl_find_object: the one that C++ code of the process uses (a preloaded one, a
// sanitizer's, LLVM's) and the libgcc_s that glibc itself loads for pthread_cancel and backtrace. Otherwise, and
// where glibc has no namespace left (it has 16), they are opened among the process's libraries. This is decided once,
// when the first image is opened; it takes glibc's lock for loading and must not be waited for under that lock.
//
// LLVM's unwinder, which comes with libc++, is made an image itself by the standard policy (policy.h).
//
// Not seen here: an unwinder that a *shared* library hides inside (-static-libgcc of an older toolchain) does not
// unwind through images. One hidden in an image does: its dl_iterate_phdr is the seam's, which shows it the images.
// Debuggers follow glibc to every namespace (gdb 13 does); older ones show images without their symbols.
#pragma once

#include <link.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/unique_fd.h"

namespace multipy::elf {

/// An empty file in memory, which may be run. Throws Error.
UniqueFd create_memfd(const std::string& name);

/// Writes `bytes` into it. Throws Error.
void fill(const UniqueFd& memfd, const void* bytes, std::size_t count, std::uint64_t offset = 0);

/// A path of the descriptor that no library had before: glibc compares names before files. The serial number is
/// written in ways of spelling a slash, so nothing on disk is ever named, and nobody else can put a file there. A
/// debugger that is told of the library opens the path too, so it must not begin with /proc/self.
std::string unique_path(int fd);

/// Has glibc load the library in `memfd` as an image: dlopen's handle, or null and dlerror's reason.
void* open_image(const UniqueFd& memfd);

/// Has debuggers and backtraces find the file, and its symbols, by the name the image has in glibc's list.
void name_for_debuggers(link_map& map, const std::string& path);

}  // namespace multipy::elf
