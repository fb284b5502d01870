// Which libraries get a private image: data, not code paths.
//
// A library is private when it references the CPython API, needs a private library, or a private pattern names it; a
// shared pattern overrules all of these. Patterns are shell patterns, matched against the file's base name, or against
// the whole path when the pattern contains a slash.
#pragma once

#include <string>
#include <vector>

#include "base/export.h"

namespace multipy::elf {

enum class Verdict { by_content, always_private, always_shared };

struct MULTIPY_API Policy {
  std::vector<std::string> private_patterns;
  std::vector<std::string> shared_patterns;

  /// libc10 keeps one Python per process in a global, so every interpreter needs its own; the rest of torch follows.
  /// OpenBLAS serves one multithreaded call at a time and has one thread count, so interpreters would wait in line.
  /// LLVM's JIT, under numba, looks the CPython API up at run time. HDF5 is guarded by a lock in h5py, one per
  /// interpreter. LLVM's C++ library brings an unwinder that finds images only if it is one (link_maps.h).
  static Policy standard();

  Verdict decide(const std::string& path) const;
};

}  // namespace multipy::elf
