#include "task/completion_queue.h"

#include <utility>

#include "task/call.h"

namespace multipy {

CompletionQueue::CompletionQueue() = default;
CompletionQueue::~CompletionQueue() = default;

bool CompletionQueue::rouse() noexcept {
  if (!std::exchange(asleep_, false)) return false;
  signal_.fetch_add(1, std::memory_order_relaxed);
  return true;
}

bool CompletionQueue::push(std::shared_ptr<Call> call) {
  bool sleeping;
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return false;
    incoming_.push_back(std::move(call));
    sleeping = rouse();
  }
  if (sleeping) futex_wake(signal_, 1);
  return true;
}

void CompletionQueue::wake() {
  bool sleeping;
  {
    const std::lock_guard lock(mutex_);
    woken_ = true;
    sleeping = rouse();
  }
  if (sleeping) futex_wake(signal_, 1);
}

void CompletionQueue::close() {
  bool sleeping;
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    sleeping = rouse();
  }
  if (sleeping) futex_wake(signal_, 1);
}

bool CompletionQueue::closed() const {
  const std::lock_guard lock(mutex_);
  return closed_;
}

std::shared_ptr<Call> CompletionQueue::pop(Deadline deadline) {
  WaitResult waited = WaitResult::woken;
  while (next_ == taken_.size()) {
    taken_.clear();
    next_ = 0;
    std::uint32_t expected;
    {
      const std::lock_guard lock(mutex_);
      asleep_ = false;
      taken_.swap(incoming_);
      if (!taken_.empty()) break;
      if (std::exchange(woken_, false) || closed_ || waited != WaitResult::woken) return nullptr;
      asleep_ = true;
      expected = signal_.load(std::memory_order_relaxed);
    }
    waited = futex_wait(signal_, expected, deadline);
  }
  return std::move(taken_[next_++]);
}

}  // namespace multipy
