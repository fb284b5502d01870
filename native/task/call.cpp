#include "task/call.h"

#include <pthread.h>

#include <algorithm>
#include <climits>
#include <new>
#include <utility>

#include "base/spin.h"
#include "task/completion_queue.h"
#include "task/waits.h"

namespace multipy {

namespace {

constexpr std::uint32_t state_mask = 0b111;
constexpr std::uint32_t claimed = 1u << 3;
constexpr std::uint32_t awaited = 1u << 4;
constexpr std::uint32_t watched = 1u << 5;
constexpr std::uint32_t turned = 1u << 6;
constexpr std::uint32_t queued = 1u << 7;

constexpr CallState state_of(std::uint32_t word) { return static_cast<CallState>(word & state_mask); }
constexpr std::uint32_t bits_of(CallState state) { return static_cast<std::uint32_t>(state); }
constexpr bool is_final(std::uint32_t word) { return state_of(word) >= CallState::succeeded; }
/// Nobody has started, cancelled or begun to finish it.
constexpr bool is_free(std::uint32_t word) { return state_of(word) == CallState::pending && !(word & claimed); }

/// How many forks lie between the first process and this one.
std::atomic<std::uint32_t> forks = 0;
[[maybe_unused]] const int counts_forks =
    ::pthread_atfork(nullptr, nullptr, [] { forks.fetch_add(1, std::memory_order_relaxed); });

}  // namespace

Call::Call(Payload request, std::shared_ptr<CallGroup> group)
    : word_(bits_of(CallState::pending)),
      forks_(forks.load(std::memory_order_relaxed)),
      group_(std::move(group)),
      request_(std::move(request)) {
  if (group_ != nullptr) actor_ = group_->actor;
}

Call::~Call() = default;

std::uint64_t Call::number() noexcept {
  // Few calls are asked: one counter for all of them would be a word that all callers write to.
  static std::atomic<std::uint64_t> last = 0;
  std::uint64_t number = number_.load(std::memory_order_acquire);
  if (number != 0) return number;
  const std::uint64_t fresh = last.fetch_add(1, std::memory_order_relaxed) + 1;
  return number_.compare_exchange_strong(number, fresh, std::memory_order_acq_rel) ? fresh : number;
}

void Backlog::tell_of_room() noexcept {
  if (waiters.load() == 0) return;
  room.fetch_add(1, std::memory_order_relaxed);
  futex_wake(room, 1);
}

void Call::enter_queue(std::shared_ptr<Backlog> backlog) noexcept {
  backlog_ = std::move(backlog);
  if (is_final(word_.fetch_or(queued, std::memory_order_acq_rel))) backlog_->ended.fetch_add(1);
}

bool Call::leave_queue() noexcept {
  if (!is_final(word_.fetch_and(~queued, std::memory_order_acq_rel))) return false;
  backlog_->ended.fetch_sub(1);
  return true;
}

bool Call::is_lost() const noexcept {
  return forks_ != forks.load(std::memory_order_relaxed) && !is_final(word_.load(std::memory_order_acquire));
}

CallState Call::state() const noexcept {
  if (is_lost()) return CallState::failed;
  return state_of(word_.load(std::memory_order_acquire));
}

bool Call::start() noexcept {
  std::uint32_t word = word_.load(std::memory_order_relaxed);
  while (is_free(word)) {
    const std::uint32_t running = (word & ~state_mask) | bits_of(CallState::running);
    if (word_.compare_exchange_weak(word, running, std::memory_order_acq_rel)) return true;
  }
  return false;
}

Payload Call::take_request() {
  if (!keeps_request_) return std::exchange(request_, {});
  const std::lock_guard lock(watch_mutex_);
  return request_;
}

bool Call::take_back() noexcept {
  if (!may_be_retried() || interrupted()) return false;
  std::uint32_t word = word_.load(std::memory_order_relaxed);
  if (is_free(word)) return true;
  do {
    if (state_of(word) != CallState::running || (word & claimed)) return false;
  } while (!word_.compare_exchange_weak(word, (word & ~state_mask) | bits_of(CallState::pending),
                                        std::memory_order_acq_rel));
  if (retries_.load(std::memory_order_relaxed) > 0) retries_.fetch_sub(1, std::memory_order_relaxed);
  if (runs_aside_.exchange(false)) begin_aside();
  end_aside();
  set_worker(no_worker, 0);
  return true;
}

bool Call::succeed(Payload result) noexcept {
  CallState before;
  if (!claim(CallState::running, before)) return false;
  result_ = std::move(result);
  publish(CallState::succeeded);
  return true;
}

bool Call::fail(Payload error) noexcept {
  CallState before;
  if (!claim(CallState::running, before)) return false;
  result_ = std::move(error);
  publish(CallState::failed);
  return true;
}

bool Call::abandon(Payload error) noexcept {
  CallState before;
  if (!claim(CallState::pending, before)) return false;
  result_ = std::move(error);
  // A running call's request is in the hands of its worker.
  if (before == CallState::pending) drop_request();
  publish(CallState::failed);
  return true;
}

bool Call::abandon_with(const Payload& error) noexcept {
  Payload copy;
  try {
    copy = error;
  } catch (const std::bad_alloc&) {
    copy = {};
  }
  return abandon(std::move(copy));
}

bool Call::cancel() noexcept {
  if (is_lost()) return false;
  std::uint32_t word = word_.load(std::memory_order_relaxed);
  while (is_free(word)) {
    if (word_.compare_exchange_weak(word, bits_of(CallState::cancelled), std::memory_order_acq_rel)) {
      drop_request();
      announce(word);
      return true;
    }
  }
  return false;
}

bool Call::claim(CallState lowest, CallState& before) noexcept {
  std::uint32_t word = word_.load(std::memory_order_relaxed);
  while (!is_final(word) && !(word & claimed) && state_of(word) >= lowest) {
    if (word_.compare_exchange_weak(word, word | claimed, std::memory_order_acq_rel)) {
      before = state_of(word);
      return true;
    }
  }
  return false;
}

void Call::drop_request() noexcept {
  Payload request;  // dropped after the mutex
  std::unique_lock lock(watch_mutex_, std::defer_lock);
  if (keeps_request_) lock.lock();
  request = std::exchange(request_, {});
}

void Call::publish(CallState outcome) noexcept {
  if (keeps_request_) drop_request();
  if (group_) {
    group_->done.fetch_add(1, std::memory_order_relaxed);
    if (outcome == CallState::failed) group_->failed.fetch_add(1, std::memory_order_relaxed);
  }
  announce(word_.exchange(bits_of(outcome), std::memory_order_acq_rel));
}

void Call::run_aside(std::shared_ptr<CompletionQueue> queue) {
  CompletionQueue::Place place(1);
  const RunnerId home = Runner::put_aside(std::static_pointer_cast<Call>(shared_from_this()));
  // Nothing below fails.
  {
    const std::lock_guard lock(watch_mutex_);
    interrupts_ = std::move(queue);
    place_of_interrupt_ = std::move(place);
  }
  if (backlog_) {
    backlog_->aside.fetch_add(1);
    counts_aside_.store(true);
  }
  if (home != 0) runner_.store(home, std::memory_order_release);
  // An interrupt is either seen here, or sees that the call runs aside; hence the order of all these.
  runs_aside_.store(true);
  if (interrupted()) push_to_interrupts();
  look_for_circles(*this);
}

void Call::wait_for_turn(std::size_t turns) {
  turns_.store(turns);
  if (backlog_) {
    backlog_->group.store(group_.get());
    backlog_->turns.store(turns);
  }
  look_for_circles(*this);
}

void Call::begin_aside() noexcept {
  turns_.store(0);
  if (!counts_aside_.exchange(false)) return;
  backlog_->aside.fetch_sub(1);
  backlog_->tell_of_room();
}

void Call::end_aside() noexcept {
  std::shared_ptr<CompletionQueue> queue;  // dropped after the mutex
  const std::lock_guard lock(watch_mutex_);
  queue.swap(interrupts_);
}

bool Call::push_to_interrupts() noexcept {
  std::shared_ptr<CompletionQueue> queue;
  CompletionQueue::Place place;
  {
    const std::lock_guard lock(watch_mutex_);
    if (interrupts_ == nullptr) return false;
    queue = interrupts_;
    try {
      place.emplace_back();
    } catch (const std::bad_alloc&) {
      place.swap(place_of_interrupt_);
    }
  }
  if (place.empty()) return true;  // it is asked for the second time, and was not told of the first
  place.front() = std::static_pointer_cast<Call>(shared_from_this());
  return queue->push(std::move(place));
}

bool Call::interrupt() noexcept {
  if (is_lost()) return false;
  interrupted_.store(true);
  if (runs_aside()) return push_to_interrupts();
  const RunnerId id = runner();
  if (id == 0) return false;
  const Runner::Reached reached = Runner::interrupt(id, this, nullptr);
  if (reached == Runner::Reached::shared_code) abandon({});
  return reached != Runner::Reached::nothing;
}

bool Call::expire() noexcept {
  expired_.store(true, std::memory_order_release);
  return abandon({}) && interrupt();
}

void Call::disturb_waiters() noexcept {
  word_.fetch_xor(turned, std::memory_order_acq_rel);
  futex_wake(word_, INT_MAX);
}

void Call::announce(std::uint32_t word) noexcept {
  if (word & queued) {
    backlog_->ended.fetch_add(1);
    backlog_->tell_of_room();
  }
  if (runs_aside()) begin_aside();
  if (word & awaited) futex_wake(word_, INT_MAX);
  if (!(word & watched)) return;
  std::vector<Watcher> watchers;
  {
    const std::lock_guard lock(watch_mutex_);
    watchers.swap(watchers_);
  }
  for (auto& [queue, place] : watchers) {
    place.front() = std::static_pointer_cast<Call>(shared_from_this());
    queue->push(std::move(place));
  }
}

WaitResult Call::wait(Deadline deadline) {
  if (is_lost()) return WaitResult::woken;
  std::uint32_t word = word_.load(std::memory_order_acquire);
  if (!is_final(word)) {
    spin_until(expected_cpu_.load(std::memory_order_relaxed),
               [&] { return is_final(word = word_.load(std::memory_order_acquire)); });
  }
  if (is_final(word)) return WaitResult::woken;
  Wait waiting(this, deadline.has_value());
  if (waiting.made_room()) {
    thread_local SpinCredit credit;
    credit.spin([&] { return is_final(word = word_.load(std::memory_order_acquire)); });
  }
  while (!is_final(word)) {
    if (waiting.disturbed()) return WaitResult::interrupted;
    if (!(word & awaited)) {
      if (!word_.compare_exchange_weak(word, word | awaited, std::memory_order_acquire)) continue;
      word |= awaited;
    }
    const WaitResult waited = futex_wait(word_, word, deadline);
    word = word_.load(std::memory_order_acquire);
    // A call that ended in the last moment is worth more to the caller than a timeout.
    if (waited != WaitResult::woken && !is_final(word)) return waited;
  }
  return WaitResult::woken;
}

void Call::watch(std::shared_ptr<CompletionQueue> queue) {
  std::uint32_t word = word_.load(std::memory_order_acquire);
  if (!is_final(word) && !is_lost()) {
    const std::lock_guard lock(watch_mutex_);
    watchers_.push_back({queue, CompletionQueue::Place(1)});
    // The flag goes up while the entry is in place and the lock held: a finisher either sees the flag and
    // comes for the entry, or its outcome is what we find in the word.
    while (!is_final(word)) {
      if (word_.compare_exchange_weak(word, word | watched, std::memory_order_acq_rel, std::memory_order_acquire)) {
        return;
      }
    }
    watchers_.pop_back();
  }
  queue->push(std::static_pointer_cast<Call>(shared_from_this()));
}

void Call::unwatch(const CompletionQueue& queue) {
  std::shared_ptr<CompletionQueue> taken_back;  // dropped after the mutex
  const std::lock_guard lock(watch_mutex_);
  const auto found = std::find_if(watchers_.begin(), watchers_.end(),
                                  [&queue](const auto& watcher) { return watcher.queue.get() == &queue; });
  if (found == watchers_.end()) return;
  taken_back = std::move(found->queue);
  watchers_.erase(found);
}

WaitResult wait_for_some(const std::vector<std::shared_ptr<Call>>& calls, std::size_t needed, Deadline deadline,
                         bool until_failure) {
  std::vector<Call*> open;
  for (const auto& call : calls) {
    if (!call->done()) open.push_back(call.get());
  }
  const std::size_t done = calls.size() - open.size();
  const auto has_failed = [](const auto& call) { return call->state() == CallState::failed; };
  if (done >= needed || (until_failure && std::any_of(calls.begin(), calls.end(), has_failed)))
    return WaitResult::woken;
  std::size_t missing = needed - done;
  const auto queue = std::make_shared<CompletionQueue>();
  struct Watching {
    const std::vector<Call*>& calls;
    const CompletionQueue& queue;
    ~Watching() {
      for (Call* call : calls) call->unwatch(queue);
    }
  } watching{open, *queue};
  for (Call* call : open) call->watch(queue);
  // A failure may end it at any time, so as long as one of them may end, it is not in vain.
  Wait waiting(open, until_failure ? 1 : missing, *queue, deadline.has_value());
  while (missing > 0) {
    if (waiting.disturbed()) return WaitResult::interrupted;
    if (const auto call = queue->pop(deadline)) {
      --missing;
      if (!until_failure || missing == 0) continue;
      if (has_failed(call)) break;
      waiting.leave_out(*call);
    } else if (deadline && Clock::now() >= *deadline) {
      return WaitResult::timed_out;
    } else {
      waiting.disturbed();  // it may throw; else there was a signal, or an interrupt
      return WaitResult::interrupted;
    }
  }
  return WaitResult::woken;
}

}  // namespace multipy
