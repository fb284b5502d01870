// Finding a library by name, as ld.so(8) does.
//
// Order for a name without a slash: DT_RPATH of the requester, of those who loaded it and of the program (unless the
// requester has a DT_RUNPATH), LD_LIBRARY_PATH as it was at start, the requester's DT_RUNPATH, /etc/ld.so.cache, the
// default folders. $ORIGIN, $LIB and $PLATFORM are expanded (linker.h). A candidate counts only if it is an ELF file of
// this processor. Variants of a library for newer processors (the folders glibc-hwcaps) are passed over: the plain one
// does the same.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "elf/file.h"

namespace multipy::elf {

/// The libraries from the requester up to the one that was opened by name: whose search paths apply.
using Requesters = std::vector<const File*>;

/// The path of `name`, or nothing. A name with a slash is taken as it is, after expansion.
std::optional<std::string> find_library(const std::string& name, const Requesters& requesters);

}  // namespace multipy::elf
