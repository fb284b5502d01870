// Looking a little longer before going to sleep.
//
// Waking a thread on another CPU costs tens of microseconds, often more than the call it waits for. So a waiter first
// spins for a moment, but not if whoever ends the wait is known to be on its own CPU: it would keep it from running.
// Each thread remembers whether spinning paid lately and gives up where it does not; an idle thread sleeps.
#pragma once

#include <sched.h>

#include <atomic>
#include <chrono>
#include <utility>

#include "base/futex.h"

namespace multipy {

inline constexpr int kNoCpu = -1;

inline void pause_cpu() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("isb");  // `yield` does nothing on most processors; this takes some ten nanoseconds
#endif
}

/// Whether looking on paid lately, for one kind of wait of one thread.
class SpinCredit {
 public:
  /// Calls `done` for 30 µs at most, until it says true; not at all where that did not pay. False: it has not said it.
  template <typename Done>
  bool spin(Done&& done) {
    if (credit_ <= 0) {
      if (--credit_ > -kRetry) return false;
      credit_ = 1;
    }
    const auto end = Clock::now() + kLongest;
    do {
      for (int i = 0; i < 16; ++i) {
        if (done()) {
          credit_ = credit_ < kMost ? credit_ + 1 : kMost;
          return true;
        }
        pause_cpu();
      }
    } while (Clock::now() < end);
    --credit_;
    return false;
  }

 private:
  static constexpr auto kLongest = std::chrono::microseconds(30);
  static constexpr int kMost = 8;
  static constexpr int kRetry = 32;  // waits without spinning before it is tried again
  int credit_ = kMost;
};

/// Spins until `done()`, for 30 µs at most; not at all if `other_cpu`, of who will end the wait, is this one or
/// unknown.
template <typename Done>
void spin_until(int other_cpu, Done&& done) {
  thread_local SpinCredit credit;
  if (other_cpu == kNoCpu || other_cpu == ::sched_getcpu()) return;
  credit.spin(std::forward<Done>(done));
}

}  // namespace multipy
