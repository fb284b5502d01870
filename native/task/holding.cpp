#include "task/holding.h"

#include <utility>

namespace multipy {

namespace {
thread_local Holdings current;
}

std::uint64_t new_session() noexcept {
  static std::atomic<std::uint64_t> last = 0;
  return ++last;
}

Holdings without_ended(const Holdings& chain) {
  if (!chain) return nullptr;
  const Holdings outer = without_ended(chain->outer);
  if (chain->ended->load(std::memory_order_relaxed)) return outer;
  return outer == chain->outer ? chain : std::make_shared<const Holding>(Holding{chain->session, chain->ended, outer});
}

Holdings current_holdings() noexcept {
  while (current && current->ended->load(std::memory_order_relaxed)) current = current->outer;
  return current;
}

void set_current_holdings(Holdings holdings) noexcept { current = std::move(holdings); }

}  // namespace multipy
