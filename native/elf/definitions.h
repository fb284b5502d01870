// Which library of a scope defines what a file refers to: looked up once for all interpreters.
//
// What a lookup among private images finds follows from the files alone: from the one that refers, and from those of
// the scope in their order. Interpreters that load the same libraries in the same order, as most do, look up the same
// hundred thousand names; so the answers are kept here, by symbol of the referring file, as a place in the scope and a
// symbol there. What depends on more than files (the seam, symbols that are unique in a namespace, the process's shared
// libraries) is not kept.
//
// Any thread may read and note answers at any time, also while others do for the same file: all find the same.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "elf/file.h"

namespace multipy::elf {

/// A symbol of one of the files of a scope.
struct Definition {
  std::uint32_t place = 0;  // of the file in the scope
  std::uint32_t symbol = 0;
};

class Definitions {
 public:
  /// Of what `file` refers to in `scope`. One scope is kept for each file, the latest. Both must come from File::open,
  /// whose files live for ever.
  static std::shared_ptr<Definitions> of(const File& file, const std::vector<const File*>& scope);

  explicit Definitions(std::size_t symbols) : answers_(symbols) {}

  std::optional<Definition> find(std::uint32_t symbol) const noexcept {
    const std::uint64_t answer = answers_[symbol].load(std::memory_order_relaxed);
    if (answer == 0) return std::nullopt;
    return Definition{static_cast<std::uint32_t>(answer >> 32) - 1, static_cast<std::uint32_t>(answer)};
  }
  void note(std::uint32_t symbol, Definition found) noexcept {
    answers_[symbol].store((std::uint64_t{found.place} + 1) << 32 | found.symbol, std::memory_order_relaxed);
  }

 private:
  std::vector<std::atomic<std::uint64_t>> answers_;  // 0: not looked up yet
};

}  // namespace multipy::elf
