// Pointers among the initial values of thread-locals: `thread_local int* where = &variable;`.
//
// A thread gets its copy of a static TLS block when the block is made or the thread starts, and those that run already
// get theirs while glibc loads the skeleton: before anything is bound. So what they are to find there must be right by
// then, or the block must not be static. Dynamic blocks are copied when a thread first asks for a variable, which
// nobody can before the image is bound.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "elf/file.h"

namespace multipy::elf {

/// Why an image is refused whose threads would have to find in their thread-locals what only binding can tell.
inline constexpr const char* kPointsElsewhere =
    "a thread-local of the static TLS block begins as a pointer to what is elsewhere";

struct InitialPointers {
  bool any = false;                  // there are such pointers
  std::vector<ElfW(Rela)> relative;  // what is known without binding, as relocations that need no symbol
  std::string foreign;               // the first symbol that only binding can find; empty: none
};

/// Calls `use` with the address of each pointer that packed relocations (DT_RELR) move with the image.
template <typename Use>
void for_each_relative(std::span<const ElfW(Relr)> relocations, Use&& use) {
  std::uint64_t next = 0;
  for (const ElfW(Relr) entry : relocations) {
    if ((entry & 1) == 0) {
      use(entry);
      next = entry + sizeof(std::uintptr_t);
    } else {
      for (unsigned bit = 1; bit < 64; ++bit) {
        if ((entry >> bit) & 1) use(next + (bit - 1) * sizeof(std::uintptr_t));
      }
      next += 63 * sizeof(std::uintptr_t);
    }
  }
}

/// Reads them from the relocations of `file`. Throws OutOfBounds.
InitialPointers initial_pointers(const File& file);

}  // namespace multipy::elf
