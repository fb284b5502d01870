#include "task/timer.h"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "base/blocked_signals.h"
#include "base/process_lock.h"
#include "task/call.h"

namespace multipy {

namespace {

class Timer {
 public:
  Timer() {
    const BlockedSignals blocked;
    std::thread([this] { run(); }).detach();
  }

  void add(const std::shared_ptr<Call>& call, Clock::duration patience, bool given_up) {
    const std::lock_guard lock(mutex_);
    add({Clock::now() + patience, call, std::max(patience, kLeastPatience), given_up});
  }

  pid_t process() const noexcept { return process_; }

 private:
  struct Entry {
    Clock::time_point when;
    std::weak_ptr<Call> call;
    Clock::duration patience;
    bool given_up;  // it is only to be interrupted again
  };
  static constexpr std::size_t kLeast = 1024;
  static constexpr Clock::duration kLeastPatience = std::chrono::seconds(1);

  static bool later(const Entry& left, const Entry& right) { return left.when > right.when; }

  /// With the mutex held.
  void add(Entry entry) {
    if (entries_.size() >= sweep_at_) {
      std::erase_if(entries_, [](const Entry& known) { return known.call.expired(); });
      std::make_heap(entries_.begin(), entries_.end(), later);
      sweep_at_ = std::max<std::size_t>(kLeast, 2 * entries_.size());
    }
    const auto when = entry.when;
    // There is always room for the one that the thread has taken out.
    if (entries_.capacity() < entries_.size() + 2) entries_.reserve(2 * entries_.size() + 2);
    entries_.push_back(std::move(entry));
    std::push_heap(entries_.begin(), entries_.end(), later);
    if (entries_.front().when == when) changed_.notify_one();
  }

  void run() {
    ::pthread_setname_np(::pthread_self(), "multipy-timer");
    std::unique_lock lock(mutex_);
    for (;;) {
      if (entries_.empty()) {
        changed_.wait(lock);
      } else if (const auto when = entries_.front().when; when > Clock::now()) {
        changed_.wait_until(lock, when);
      } else {
        std::pop_heap(entries_.begin(), entries_.end(), later);
        Entry entry = std::move(entries_.back());
        entries_.pop_back();
        lock.unlock();
        auto call = entry.call.lock();
        const bool runs = call && (entry.given_up ? call->interrupt() : call->expire());
        call.reset();  // it may be the last reference, and what goes with it may do anything
        lock.lock();
        if (runs) add({Clock::now() + entry.patience, std::move(entry.call), entry.patience, true});
      }
    }
  }

  const pid_t process_ = ::getpid();
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Entry> entries_;  // a heap, the first to come at the front
  std::size_t sweep_at_ = kLeast;
};

}  // namespace

/// The process's only one.
static Timer& timer() {
  static auto& mutex = *new ProcessLock<std::mutex>(ForkOrder::time_limits);
  static Timer* current = nullptr;  // never destroyed: its thread goes on to the end of the process
  const std::lock_guard lock(mutex);
  // A forked child has none of its parent's threads.
  if (current == nullptr || current->process() != ::getpid()) current = new Timer;
  return *current;
}

void expire_at(const std::shared_ptr<Call>& call, Clock::time_point when) {
  timer().add(call, when - Clock::now(), false);
}

void interrupt_until_over(const std::shared_ptr<Call>& call, Clock::duration patience) {
  timer().add(call, patience, true);
}

}  // namespace multipy
