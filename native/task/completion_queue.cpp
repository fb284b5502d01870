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
  Place place;
  place.push_back(std::move(call));
  return push(std::move(place));
}

bool CompletionQueue::push(Place place) noexcept {
  bool sleeping;
  {
    const std::lock_guard lock(mutex_);
    if (closed_) return false;
    incoming_.splice(incoming_.end(), place);
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
  while (taken_.empty()) {
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
  std::shared_ptr<Call> next = std::move(taken_.front());
  taken_.pop_front();
  return next;
}

}  // namespace multipy
