// Heaps of threads that were widened: what they will grow into is writable already.
#include <doctest/doctest.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "base/heap.h"

namespace {

constexpr std::size_t kMegabyte = 1 << 20;
constexpr std::size_t kFarAhead = 40 * kMegabyte;

using Block = std::unique_ptr<void, decltype(&std::free)>;
Block small_block() { return {std::malloc(1000), &std::free}; }

/// How many bytes after `address` are mapped for writing without a break.
std::size_t writable_after(const void* address) {
  const auto wanted = reinterpret_cast<std::uintptr_t>(address);
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);) {
    std::istringstream fields(line);
    std::uintptr_t first = 0, last = 0;
    char dash = 0;
    std::string protection;
    fields >> std::hex >> first >> dash >> last >> protection;
    if (wanted >= first && wanted < last) return protection[1] == 'w' ? last - wanted : 0;
  }
  return 0;
}

/// What is writable after the thread's next small block, in each of its first two heaps, asked as `import` would.
std::vector<std::size_t> ahead_in_two_heaps(bool widens) {
  std::vector<std::size_t> ahead;
  std::thread([&] {
    if (widens) multipy::widen_heap();
    ahead.push_back(writable_after(small_block().get()));
    std::vector<Block> blocks;
    for (std::size_t filled = 0; filled < 66 * kMegabyte; filled += kMegabyte) {
      while (blocks.size() < (filled + kMegabyte) / 1024) blocks.push_back(small_block());
      multipy::widen_next_heap();
    }
    ahead.push_back(writable_after(blocks.back().get()));
  }).join();
  return ahead;
}

}  // namespace

TEST_CASE("a thread that asks has heaps that are writable far ahead, its next ones too") {
  // In this order: a thread takes over the heaps of one that has ended, and what other tests' threads grew by then.
  for (const std::size_t ahead : ahead_in_two_heaps(false)) CHECK(ahead < kFarAhead);
  for (const std::size_t ahead : ahead_in_two_heaps(true)) CHECK(ahead > kFarAhead);
}
