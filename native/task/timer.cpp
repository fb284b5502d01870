#include "task/timer.h"

#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "base/blocked_signals.h"
#include "task/call.h"

namespace multipy {

namespace {

class Timer {
 public:
  Timer() {
    const BlockedSignals blocked;
    std::thread([this] { run(); }).detach();
  }

  void add(const std::shared_ptr<Call>& call, Clock::time_point when) {
    const std::lock_guard lock(mutex_);
    if (entries_.size() >= sweep_at_) {
      std::erase_if(entries_, [](const Entry& entry) { return entry.call.expired(); });
      std::make_heap(entries_.begin(), entries_.end(), later);
      sweep_at_ = std::max<std::size_t>(kLeast, 2 * entries_.size());
    }
    entries_.push_back({when, call});
    std::push_heap(entries_.begin(), entries_.end(), later);
    if (entries_.front().when == when) changed_.notify_one();
  }

  pid_t process() const noexcept { return process_; }

 private:
  struct Entry {
    Clock::time_point when;
    std::weak_ptr<Call> call;
  };
  static constexpr std::size_t kLeast = 1024;

  static bool later(const Entry& left, const Entry& right) { return left.when > right.when; }

  void run() {
    std::unique_lock lock(mutex_);
    for (;;) {
      if (entries_.empty()) {
        changed_.wait(lock);
      } else if (const auto when = entries_.front().when; when > Clock::now()) {
        changed_.wait_until(lock, when);
      } else {
        std::pop_heap(entries_.begin(), entries_.end(), later);
        auto call = entries_.back().call.lock();
        entries_.pop_back();
        lock.unlock();
        if (call) call->expire();
        call.reset();  // it may be the last reference, and what goes with it may do anything
        lock.lock();
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

void expire_at(const std::shared_ptr<Call>& call, Clock::time_point when) {
  static std::mutex mutex;
  static Timer* timer = nullptr;  // never destroyed: its thread goes on to the end of the process
  Timer* current;
  {
    const std::lock_guard lock(mutex);
    // A forked child has none of its parent's threads.
    if (timer == nullptr || timer->process() != ::getpid()) timer = new Timer;
    current = timer;
  }
  current->add(call, when);
}

}  // namespace multipy
