// Addresses and sizes in whole pages of this machine.
#pragma once

#include <unistd.h>

#include <cstdint>

namespace multipy::elf {

inline std::uint64_t page_size() {
  static const auto size = static_cast<std::uint64_t>(::getpagesize());
  return size;
}
inline std::uint64_t page_down(std::uint64_t value) { return value & ~(page_size() - 1); }
inline std::uint64_t page_up(std::uint64_t value) { return page_down(value + page_size() - 1); }

}  // namespace multipy::elf
