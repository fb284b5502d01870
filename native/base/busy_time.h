// For how long at least one of a few threads has been at work, up to now.
//
// Problem: an interpreter's code runs on its worker's thread and on that of its event loop. While both are at work,
// that is time once; and what is under way counts before it ends.
//
// Model: one word. Its lowest bits say who is at work; the rest is a number of nanoseconds: the time so far or, while
// somebody is at work, that less the moment at which the first of them began.
//
// Threads: begin() and end() of one party are called by one thread at a time; total() by any. Nobody waits.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include "base/futex.h"

namespace multipy {

class BusyTime {
 public:
  enum Party : std::int64_t { worker = 1, event_loop = 2 };

  /// `party` is at work from `now` on.
  void begin(Party party, Clock::time_point now = Clock::now()) noexcept { change(party, party, now); }
  /// It is not any more. Nothing if it was not.
  void end(Party party, Clock::time_point now = Clock::now()) noexcept { change(party, 0, now); }
  /// Nobody is any more, as the threads have ended.
  void end_all(Clock::time_point now = Clock::now()) noexcept { change(kUnit - 1, 0, now); }

  std::chrono::nanoseconds total() const noexcept {
    const std::int64_t word = word_.load(std::memory_order_relaxed);
    return std::chrono::nanoseconds(time_of(word) + (parties_of(word) != 0 ? since_start(Clock::now()) : 0));
  }

 private:
  static constexpr std::int64_t kUnit = 4;  // of the time, above the parties

  static std::int64_t parties_of(std::int64_t word) noexcept { return word & (kUnit - 1); }
  static std::int64_t time_of(std::int64_t word) noexcept { return (word - parties_of(word)) / kUnit; }
  static std::int64_t since_start(Clock::time_point moment) noexcept {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(moment.time_since_epoch()).count();
  }

  void change(std::int64_t parties, std::int64_t to, Clock::time_point now) noexcept {
    std::int64_t before = word_.load(std::memory_order_relaxed);
    std::int64_t after;
    do {
      const std::int64_t were = parties_of(before);
      const std::int64_t are = (were & ~parties) | to;
      if (are == were) return;
      std::int64_t time = time_of(before);
      if (were == 0) time -= since_start(now);
      if (are == 0) time += since_start(now);
      after = time * kUnit + are;
    } while (!word_.compare_exchange_weak(before, after, std::memory_order_relaxed));
  }

  std::atomic<std::int64_t> word_ = 0;
};

}  // namespace multipy
