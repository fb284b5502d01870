#include "base/heap.h"

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

using Block = std::unique_ptr<void, decltype(&std::free)>;

Block allocate() { return {std::malloc(kBlock), &std::free}; }
std::uintptr_t heap_of(const Block& block) { return reinterpret_cast<std::uintptr_t>(block.get()) / kHeap; }

thread_local std::uintptr_t widened = 0;  // the thread's heap, if it asked

void widen(Block first) {
  widened = heap_of(first);
  std::vector<Block> blocks;
  blocks.reserve(kWide / kBlock);
  blocks.push_back(std::move(first));
  while (blocks.size() < kWide / kBlock) {
    Block next = allocate();
    if (heap_of(next) != widened) return;
    blocks.push_back(std::move(next));
  }
}

}  // namespace

void widen_heap() {
  if (widened == 0) widen(allocate());
}

void widen_next_heap() {
  if (widened == 0) return;
  Block block = allocate();
  if (heap_of(block) != widened) widen(std::move(block));
}

}  // namespace multipy
