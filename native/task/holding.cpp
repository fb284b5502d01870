#include "task/holding.h"

#include <utility>

namespace multipy {

namespace {
thread_local Holdings current;
}

Holdings current_holdings() noexcept {
  while (current && current->ended.load(std::memory_order_relaxed)) current = current->outer;
  return current;
}

void set_current_holdings(Holdings holdings) noexcept { current = std::move(holdings); }

}  // namespace multipy
