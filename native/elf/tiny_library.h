// A library of nothing, for glibc to open: it has neither code nor symbols, and needs nobody.
#pragma once

#include <link.h>

#include <array>
#include <string_view>

namespace multipy::elf {

/// The file, byte for byte.
struct TinyLibrary {
  ElfW(Ehdr) header {};
  std::array<ElfW(Phdr), 3> segments{};
  std::array<ElfW(Dyn), 5> dynamic{};
  ElfW(Sym) no_symbol {};
  std::array<char, 64> strings{};
};

/// `search_path` becomes its DT_RUNPATH; of at most 62 characters.
TinyLibrary make_tiny_library(std::string_view search_path = {});

}  // namespace multipy::elf
