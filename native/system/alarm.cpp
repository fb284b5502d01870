#include "system/alarm.h"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#include "base/blocked_signals.h"
#include "base/process_lock.h"

namespace multipy {

namespace {

using Duration = std::chrono::steady_clock::duration;

bool is_time(const timeval& time) { return time.tv_sec >= 0 && time.tv_usec >= 0 && time.tv_usec < 1'000'000; }

Duration duration_of(const timeval& time) {
  // A century is for ever, and does not overflow.
  const auto seconds = std::min<std::int64_t>(time.tv_sec, 3'155'760'000);
  return std::chrono::seconds(seconds) + std::chrono::microseconds(time.tv_usec);
}

timeval timeval_of(Duration time) {
  const auto all = std::chrono::ceil<std::chrono::microseconds>(time).count();
  return {all / 1'000'000, all % 1'000'000};
}

}  // namespace

/// All clocks that are set, and the thread that waits for them.
class Alarms {
 public:
  static Alarms& get() {
    static Alarms& instance = *new Alarms;
    return instance;
  }

  ProcessLock<std::mutex> mutex{ForkOrder::alarms};
  std::condition_variable changed;  // what is set, or what rings
  std::vector<Alarm*> set;

  /// With the mutex held. Throws std::system_error.
  void add(Alarm& alarm) {
    if (process_ != ::getpid()) {  // a forked child has neither the thread nor anything that was set
      set.clear();
      new (&changed) std::condition_variable;
      process_ = 0;
    }
    if (process_ == 0) {
      const BlockedSignals blocked;
      std::thread([this] { run(); }).detach();
      process_ = ::getpid();
    }
    if (std::find(set.begin(), set.end(), &alarm) == set.end()) set.push_back(&alarm);
    changed.notify_all();
  }

 private:
  void run() {
    ::pthread_setname_np(::pthread_self(), "multipy-alarm");
    std::unique_lock<std::mutex> lock(mutex);
    for (;;) {
      const auto next = std::min_element(
          set.begin(), set.end(), [](const Alarm* left, const Alarm* right) { return left->due_ < right->due_; });
      if (next == set.end()) {
        changed.wait(lock);
      } else if (Alarm& alarm = **next; alarm.due_ > Alarm::Clock::now()) {
        changed.wait_until(lock, Alarm::Clock::time_point(alarm.due_));
      } else {
        alarm.due_ = alarm.period_ == Duration::zero() ? Alarm::Clock::time_point{} : alarm.due_ + alarm.period_;
        if (alarm.due_ == Alarm::Clock::time_point{}) set.erase(next);
        alarm.rings_ = true;
        lock.unlock();
        alarm.ring_();
        lock.lock();
        alarm.rings_ = false;
        changed.notify_all();
      }
    }
  }

  pid_t process_ = 0;  // whose the thread is; 0: nobody's
};

Alarm::Alarm(std::function<void()> ring) : ring_(std::move(ring)) {
  Alarms::get();  // whose memory is had here, and not where nothing may fail
}

Alarm::~Alarm() { cancel(); }

int Alarm::set(const itimerval& setting, itimerval* old) noexcept {
  if (!is_time(setting.it_value) || !is_time(setting.it_interval)) {
    errno = EINVAL;
    return -1;
  }
  const itimerval before = get();
  Alarms& alarms = Alarms::get();
  const std::lock_guard lock(alarms.mutex);
  const Duration wait = duration_of(setting.it_value);
  if (wait == Duration::zero()) {
    due_ = {};
    std::erase(alarms.set, this);
  } else {
    const auto due_before = due_;
    due_ = Clock::now() + wait;
    period_ = duration_of(setting.it_interval);
    try {
      alarms.add(*this);
    } catch (const std::exception&) {
      due_ = due_before;
      errno = EAGAIN;
      return -1;
    }
  }
  if (old != nullptr) *old = before;
  return 0;
}

itimerval Alarm::get() const noexcept {
  const std::lock_guard lock(Alarms::get().mutex);
  if (due_ == Clock::time_point{}) return {};
  // One that is about to go off has a moment left, since 0 means that it is off.
  const Duration left = std::max<Duration>(due_ - Clock::now(), std::chrono::microseconds(1));
  return {timeval_of(period_), timeval_of(left)};
}

void Alarm::cancel() noexcept {
  Alarms& alarms = Alarms::get();
  std::unique_lock<std::mutex> lock(alarms.mutex);
  due_ = {};
  std::erase(alarms.set, this);
  alarms.changed.wait(lock, [this] { return !rings_; });
}

}  // namespace multipy
