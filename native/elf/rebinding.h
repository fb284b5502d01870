// Bindings of a library that glibc has loaded, written anew.
//
// A shared library's references were bound by ld.so. Where they must arrive at a function of ours instead, the slots
// that hold them are written again, while threads may be calling through them. What is read to find the slots is what
// glibc has in memory, not the file, which may be another one by now.
#pragma once

#include <link.h>

#include <cstdint>
#include <functional>
#include <string_view>

#include "base/export.h"

namespace multipy::elf {

/// Binds each function that the library refers to without defining it to what `replacement_of` says of its name; 0
/// leaves it as it is. Returns how many references were written.
MULTIPY_API int rebind(const link_map& library, const std::function<std::uintptr_t(std::string_view)>& replacement_of);

}  // namespace multipy::elf
