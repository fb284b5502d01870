// Looking a little longer before going to sleep.
//
// Waking a thread on another CPU costs tens of microseconds, often more than the call it waits for. So a waiter first
// spins for a moment, but only if whoever ends the wait runs on another CPU: on its own it would keep it from running.
// Each thread remembers whether spinning paid lately and gives up where it does not; an idle thread sleeps.
#pragma once

#include <sched.h>

#include <atomic>
#include <chrono>

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

/// Spins until `done()`, for 30 µs at most; not at all if `other_cpu`, of who will end the wait, is this one or
/// unknown.
template <typename Done>
void spin_until(int other_cpu, Done&& done) {
  constexpr auto kLongest = std::chrono::microseconds(30);
  constexpr int kMostCredit = 8;
  constexpr int kRetry = 32;  // waits without spinning before it is tried again
  thread_local int credit = kMostCredit;
  if (other_cpu == kNoCpu || other_cpu == ::sched_getcpu()) return;
  if (credit <= 0) {
    if (--credit > -kRetry) return;
    credit = 1;
  }
  const auto end = Clock::now() + kLongest;
  do {
    for (int i = 0; i < 16; ++i) {
      if (done()) {
        credit = credit < kMostCredit ? credit + 1 : kMostCredit;
        return;
      }
      pause_cpu();
    }
  } while (Clock::now() < end);
  --credit;
}

}  // namespace multipy
