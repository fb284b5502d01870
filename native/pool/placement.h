// Which idle interpreter gets a call: pure policy, with no thread, lock or interpreter in sight.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

namespace multipy {

/// Shown one idle interpreter after the other, remembers the one that has done the least; the lowest index wins
/// a tie, in whatever order they come. Where all have the same work this deals calls out evenly, so that every
/// replica is warm when the burst arrives.
class LeastLoaded {
 public:
  void consider(std::size_t interpreter, std::uint64_t load) noexcept {
    if (choice_ && (load > load_ || (load == load_ && interpreter > *choice_))) return;
    choice_ = interpreter;
    load_ = load;
  }

  /// Nothing if none was shown.
  std::optional<std::size_t> choice() const noexcept { return choice_; }

 private:
  std::optional<std::size_t> choice_;
  std::uint64_t load_ = 0;
};

}  // namespace multipy
