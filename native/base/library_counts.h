// How many libraries glibc has loaded into the process so far, and how many it has unloaded: whether there is need to
// look again for one, and whether another may lie where one was known to.
#pragma once

#include <link.h>

#include <cstddef>

namespace multipy {

struct LibraryCounts {
  unsigned long long loaded = 0;
  unsigned long long unloaded = 0;

  bool operator==(const LibraryCounts&) const = default;

  static LibraryCounts now() noexcept {
    LibraryCounts counts;
    const auto note = [](dl_phdr_info* info, std::size_t, void* out) {
      *static_cast<LibraryCounts*>(out) = {info->dlpi_adds, info->dlpi_subs};
      return 1;
    };
    ::dl_iterate_phdr(note, &counts);
    return counts;
  }
};

}  // namespace multipy
