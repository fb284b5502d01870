#include "exchange/return_queue.h"

#include <new>
#include <utility>
#include <vector>

#include "base/process_lock.h"

namespace multipy {

namespace {

/// Of a worker's thread: which queues have something to release that nobody has been told of. Held from the end of one
/// call to the look for the next. A queue that its owner has closed meanwhile is empty, and one that is held here alone
/// runs what is left in it when it is let go of.
struct PutOff {
  bool on = false;
  std::vector<std::shared_ptr<ReturnQueue>> queues;
};

thread_local PutOff put_off;

}  // namespace

ReturnQueue::ReturnQueue() = default;

ReturnQueue::~ReturnQueue() { drain(); }

void ReturnQueue::set_wake(std::function<void()> wake) {
  {
    const std::lock_guard lock(wake_mutex_);
    wake_ = std::move(wake);
  }
  bool pending;
  {
    const std::lock_guard lock(mutex_);
    pending = !pending_.empty();
  }
  if (pending) call_owner();
}

void ReturnQueue::call_owner() {
  const std::lock_guard lock(wake_mutex_);
  if (wake_) wake_();
}

void ReturnQueue::guard_across_forks() {
  multipy::guard_across_forks(
      ForkOrder::releases, this,
      [](void* what) {
        auto* self = static_cast<ReturnQueue*>(what);
        self->wake_mutex_.lock();
        self->mutex_.lock();
      },
      [](void* what) {
        auto* self = static_cast<ReturnQueue*>(what);
        self->mutex_.unlock();
        self->wake_mutex_.unlock();
      },
      [](void* what) {
        auto* self = static_cast<ReturnQueue*>(what);
        new (&self->mutex_) std::mutex;
        new (&self->wake_mutex_) std::recursive_mutex;
        self->draining_ = false;  // who drained it is no more
      });
}

void ReturnQueue::post(Place place) noexcept {
  bool first = false;
  {
    const std::lock_guard lock(mutex_);
    if (!closed_) {
      // A drain under way takes this one along.
      first = pending_.empty() && !draining_;
      pending_.splice(pending_.end(), place);
      has_pending_.store(true, std::memory_order_release);
    }
  }
  for (const Pending& each : place) each.release(each.argument);
  if (first && !put_off_call()) call_owner();
}

bool ReturnQueue::put_off_call() noexcept {
  auto self = put_off.on ? weak_from_this().lock() : nullptr;
  if (self == nullptr) return false;
  try {
    put_off.queues.push_back(std::move(self));
    return true;
  } catch (const std::bad_alloc&) {
    return false;
  }
}

void ReturnQueue::put_off_calls() noexcept { put_off.on = true; }

void ReturnQueue::call_owners() {
  put_off.on = false;
  if (put_off.queues.empty()) return;
  for (const auto& queue : std::exchange(put_off.queues, {})) {
    bool pending;
    {
      const std::lock_guard lock(queue->mutex_);
      pending = !queue->pending_.empty() && !queue->draining_;
    }
    if (pending) queue->call_owner();
  }
}

std::size_t ReturnQueue::drain() {
  if (!has_pending_.load(std::memory_order_acquire)) return 0;
  for (std::size_t count = 0;; ++count) {
    Place next;
    {
      const std::lock_guard lock(mutex_);
      draining_ = !pending_.empty();
      if (!draining_) {
        has_pending_.store(false, std::memory_order_release);
        return count;
      }
      next.splice(next.end(), pending_, pending_.begin());
    }
    next.front().release(next.front().argument);
  }
}

void ReturnQueue::close() {
  set_wake(nullptr);
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
  }
  drain();
}

}  // namespace multipy
