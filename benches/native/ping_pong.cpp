// The physical limit of a hand-over: two threads that wake each other through a futex and do nothing else.
//
// Prints the median and the 99th percentile of a round trip (there and back) in nanoseconds. Both threads always
// sleep: a spinning one would measure the cache and not the scheduler.

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

namespace {

std::atomic<uint32_t> turn{0};
static_assert(sizeof(turn) == sizeof(uint32_t), "the kernel looks at this word");

void wait_for(uint32_t mine) {
  for (uint32_t seen; (seen = turn.load(std::memory_order_acquire)) != mine;)
    syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, seen, nullptr, nullptr, 0);
}

void pass_to(uint32_t other) {
  turn.store(other, std::memory_order_release);
  syscall(SYS_futex, &turn, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
}

}  // namespace

int main(int argc, char** argv) {
  using Clock = std::chrono::steady_clock;
  const int trips = argc > 1 ? std::max(100, std::atoi(argv[1])) : 10000;
  const int warm_up = trips / 10;
  std::thread partner([=] {
    for (int i = 0; i < warm_up + trips; ++i) {
      wait_for(1);
      pass_to(0);
    }
  });
  std::vector<int64_t> taken;
  for (int i = 0; i < warm_up + trips; ++i) {
    const auto start = Clock::now();
    pass_to(1);
    wait_for(0);
    if (i >= warm_up) taken.push_back(std::chrono::nanoseconds(Clock::now() - start).count());
  }
  partner.join();
  std::sort(taken.begin(), taken.end());
  std::printf("%lld %lld\n", static_cast<long long>(taken[taken.size() / 2]),
              static_cast<long long>(taken[taken.size() * 99 / 100]));
}
