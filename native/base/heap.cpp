#include "base/heap.h"

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <vector>

namespace multipy {

void widen_heap() {
  thread_local bool widened = false;
  if (widened) return;
  widened = true;
  constexpr std::size_t kBlock = 120 << 10;  // just below what glibc would map on its own
  constexpr std::size_t kHeap = 60 << 20;    // just below where glibc begins another heap
  std::vector<std::unique_ptr<void, decltype(&std::free)>> blocks;
  blocks.reserve(kHeap / kBlock);
  for (std::size_t i = 0; i < kHeap / kBlock; ++i) blocks.emplace_back(std::malloc(kBlock), &std::free);
}

}  // namespace multipy
