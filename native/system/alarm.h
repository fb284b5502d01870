// The alarm clock of one interpreter: alarm() and setitimer(ITIMER_REAL).
//
// Problem: the process has one such clock, whose signal goes to the host and ends it where it has no handler. Code that
// bounds its own time by SIGALRM must have a clock of its own.
//
// Model: a time at which it goes off, and a period after which it does so again. One thread of the process waits for
// the next of all clocks and calls what each is to do; it is started with the first clock that is set.
//
// Threads and locks: any. One mutex of the process guards all clocks; it is not held while a clock goes off.
//
// Guarantees: once cancel() has returned, the clock neither goes off nor is going off.
#pragma once

#include <sys/time.h>

#include <chrono>
#include <functional>

#include "base/export.h"

namespace multipy {

class MULTIPY_API Alarm {
 public:
  /// `ring` is called on the thread of the clocks.
  explicit Alarm(std::function<void()> ring);
  ~Alarm();
  Alarm(const Alarm&) = delete;
  Alarm& operator=(const Alarm&) = delete;

  /// Sets it, and returns what it was set to: the time left, and the period. All zeros: it is off. Fails with EINVAL,
  /// for what is no time, or with EAGAIN, where no thread can be had.
  int set(const itimerval& setting, itimerval* old) noexcept;
  itimerval get() const noexcept;
  void cancel() noexcept;

 private:
  friend class Alarms;
  using Clock = std::chrono::steady_clock;

  const std::function<void()> ring_;
  // Guarded by the mutex of all clocks.
  Clock::time_point due_{};  // the epoch: it is off
  Clock::duration period_{};
  bool rings_ = false;
};

}  // namespace multipy
