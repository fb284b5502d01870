#include "base/heap.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

namespace multipy {

namespace {

constexpr std::size_t kBlock = 120 << 10;  // just below what glibc would map on its own
constexpr std::size_t kWide = 60 << 20;    // just below where glibc begins another heap
constexpr std::size_t kHeap = 64 << 20;    // glibc's heaps are aligned to this
constexpr std::size_t kMostHeaps = 8;      // of a thread; other allocators may give out any address

using Block = std::unique_ptr<void, decltype(&std::free)>;

Block allocate() { return {std::malloc(kBlock), &std::free}; }
std::uintptr_t heap_of(const Block& block) { return reinterpret_cast<std::uintptr_t>(block.get()) / kHeap; }

struct Widened {
  std::array<std::uintptr_t, kMostHeaps> heaps{};
  std::size_t count = 0;
};
thread_local Widened widened;

void widen(Block first) {
  const std::uintptr_t heap = heap_of(first);
  widened.heaps[widened.count++] = heap;
  std::vector<Block> blocks;
  blocks.reserve(kWide / kBlock);
  blocks.push_back(std::move(first));
  while (blocks.size() < kWide / kBlock) {
    Block next = allocate();
    if (heap_of(next) != heap) return;
    blocks.push_back(std::move(next));
  }
}

}  // namespace

void widen_heap() {
  if (widened.count == 0) widen(allocate());
}

void widen_next_heap() {
  if (widened.count == 0 || widened.count == kMostHeaps) return;
  Block block = allocate();
  const auto end = widened.heaps.begin() + static_cast<std::ptrdiff_t>(widened.count);
  if (std::find(widened.heaps.begin(), end, heap_of(block)) == end) widen(std::move(block));
}

}  // namespace multipy
