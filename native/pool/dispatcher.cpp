#include "pool/dispatcher.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/spin.h"
#include "pool/placement.h"

namespace multipy {

namespace {

/// Only the worker writes its figures, so that adding needs no locked instruction.
void add(std::atomic<std::uint64_t>& figure, std::uint64_t amount) noexcept {
  figure.store(figure.load(std::memory_order_relaxed) + amount, std::memory_order_relaxed);
}

// What Seat::asleep may be, beside 0.
constexpr std::uint32_t kSleeping = 1;
constexpr std::uint32_t kSpinning = 2;

/// Cancelled or abandoned while it waited.
bool has_ended(const std::shared_ptr<Call>& call) { return call->state() != CallState::pending; }

}  // namespace

Dispatcher::Dispatcher(std::size_t interpreters)
    : count_(interpreters), seats_(std::make_unique<Seat[]>(interpreters)) {}

Dispatcher::~Dispatcher() = default;

Dispatcher::Seat& Dispatcher::seat_at(std::size_t interpreter) const {
  if (interpreter >= count_) {
    throw Error("there is no interpreter " + std::to_string(interpreter) + ", only " + std::to_string(count_));
  }
  return seats_[interpreter];
}

Dispatcher::MailboxId Dispatcher::open_mailbox(std::vector<std::size_t> interpreters) {
  std::sort(interpreters.begin(), interpreters.end());
  interpreters.erase(std::unique(interpreters.begin(), interpreters.end()), interpreters.end());
  if (interpreters.empty()) throw Error("a mailbox needs an interpreter to serve it");
  seat_at(interpreters.back());

  const std::lock_guard lock(mutex_);
  if (closed_) throw ClosedError("the pool is closed");
  const auto live = static_cast<std::size_t>(std::count_if(
      interpreters.begin(), interpreters.end(), [this](std::size_t server) { return !seats_[server].retired; }));
  if (live == 0) throw ClosedError("the interpreters to serve the mailbox have ended");
  const auto [entry, created] = lanes_.try_emplace(std::move(interpreters));
  Lane& lane = entry->second;
  if (created) {
    lane.servers = &entry->first;
    lane.live = live;
    for (const std::size_t server : entry->first) {
      if (!seats_[server].retired) seats_[server].lanes.push_back(&lane);
    }
  }
  ++lane.mailboxes;
  const MailboxId id = next_mailbox_++;
  mailboxes_.emplace(id, Mailbox{&lane, id});
  return id;
}

Dispatcher::Calls Dispatcher::close_mailbox(MailboxId mailbox) {
  Calls calls;
  {
    const std::lock_guard lock(mutex_);
    const auto found = mailboxes_.find(mailbox);
    if (found == mailboxes_.end()) return calls;
    Mailbox& box = found->second;
    Lane& lane = *box.lane;
    if (box.queued > 0) {
      const auto others = std::stable_partition(lane.calls.begin(), lane.calls.end(),
                                                [&box](const Queued& queued) { return queued.mailbox == &box; });
      std::transform(lane.calls.begin(), others, std::back_inserter(calls),
                     [](Queued& queued) { return std::move(queued.call); });
      lane.calls.erase(lane.calls.begin(), others);
    }
    mailboxes_.erase(found);
    if (--lane.mailboxes == 0) drop_lane(lane);
  }
  std::erase_if(calls, has_ended);
  return calls;
}

void Dispatcher::drop_lane(Lane& lane) {
  for (const std::size_t server : *lane.servers) {
    std::erase(seats_[server].lanes, &lane);
    if (seats_[server].claim == &lane) seats_[server].claim = nullptr;
  }
  lanes_.erase(lanes_.find(*lane.servers));
}

void Dispatcher::post(MailboxId mailbox, std::shared_ptr<Call> call) {
  Seat* seat;
  {
    const std::lock_guard lock(mutex_);
    if (closed_) throw ClosedError("the pool is closed");
    const auto found = mailboxes_.find(mailbox);
    if (found == mailboxes_.end()) throw ClosedError("the mailbox is closed");
    Mailbox& box = found->second;
    if (box.lane->live == 0) throw ClosedError("the interpreters that served the mailbox have ended");
    Call& posted = *call;
    box.lane->calls.push_back({next_ticket_++, &box, std::move(call)});
    ++box.queued;
    int cpu = kNoCpu;
    seat = summon(*box.lane, &cpu);
    posted.expect_on(cpu);
  }
  notify(seat);
}

Dispatcher::Seat* Dispatcher::summon(Lane& lane, int* cpu) {
  if (idle_ == 0 || lane.calls.size() <= lane.claims) return nullptr;
  LeastLoaded least_loaded;
  for (const std::size_t server : *lane.servers) {
    if (seats_[server].idle) least_loaded.consider(server, seats_[server].taken);
  }
  const auto choice = least_loaded.choice();
  if (!choice) return nullptr;
  seats_[*choice].claim = &lane;
  ++lane.claims;
  if (cpu != nullptr) *cpu = seats_[*choice].cpu;
  return rouse(seats_[*choice]);
}

Dispatcher::Seat* Dispatcher::rouse(Seat& seat) {
  if (!std::exchange(seat.idle, false)) return nullptr;
  --idle_;
  seat.caller_cpu.store(::sched_getcpu(), std::memory_order_relaxed);
  // One that still spins sees it by itself.
  return seat.asleep.exchange(0, std::memory_order_acq_rel) == kSleeping ? &seat : nullptr;
}

void Dispatcher::notify(Seat* seat) noexcept {
  if (seat != nullptr) futex_wake(seat->asleep, 1);
}

Dispatcher::Lane* Dispatcher::pick(Seat& seat, Delivery& delivery, Calls& ended) {
  while (true) {
    Lane* oldest = nullptr;
    for (Lane* lane : seat.lanes) {
      if (lane->calls.empty()) continue;
      if (oldest == nullptr || lane->calls.front().ticket < oldest->calls.front().ticket) oldest = lane;
    }
    if (oldest == nullptr) return nullptr;
    Queued& front = oldest->calls.front();
    --front.mailbox->queued;
    const bool runnable = !has_ended(front.call);
    if (runnable) {
      delivery = {Delivery::call_ready, front.mailbox->id, std::move(front.call)};
      ++seat.taken;
    } else {
      ended.push_back(std::move(front.call));
    }
    oldest->calls.pop_front();
    if (runnable) return oldest;
  }
}

Dispatcher::Delivery Dispatcher::take(std::size_t interpreter) {
  Seat& seat = seat_at(interpreter);
  Delivery delivery;
  Calls ended;
  std::unique_lock lock(mutex_);
  while (true) {
    Lane* const claim = std::exchange(seat.claim, nullptr);
    if (claim != nullptr) --claim->claims;
    Lane* from = nullptr;
    if (std::exchange(seat.woken, false)) {
      delivery.kind = Delivery::woken;
    } else if ((from = pick(seat, delivery, ended)) == nullptr) {
      if (!closed_ && !seat.retired) {
        seat.idle = true;
        ++idle_;
        seat.cpu = ::sched_getcpu();
        seat.asleep.store(kSpinning, std::memory_order_relaxed);
        lock.unlock();
        ended.clear();
        spin_until(seat.caller_cpu.load(std::memory_order_relaxed),
                   [&] { return seat.asleep.load(std::memory_order_acquire) == 0; });
        std::uint32_t spinning = kSpinning;
        seat.asleep.compare_exchange_strong(spinning, kSleeping, std::memory_order_acq_rel);
        while (seat.asleep.load(std::memory_order_acquire) != 0) futex_wait(seat.asleep, kSleeping, std::nullopt);
        lock.lock();
        continue;
      }
      delivery.kind = Delivery::closed;
    }
    Seat* const next = claim != nullptr && claim != from ? summon(*claim) : nullptr;
    lock.unlock();
    notify(next);
    if (delivery.call) {
      delivery.call->set_worker(static_cast<std::int64_t>(interpreter));
      seat.started = Clock::now();
    }
    return delivery;
  }
}

void Dispatcher::finished(std::size_t interpreter, bool ok) noexcept {
  Seat& seat = seats_[interpreter];
  const auto busy = std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now() - seat.started).count();
  add(seat.busy_ns, static_cast<std::uint64_t>(busy));
  add(seat.done, 1);
  if (!ok) add(seat.failed, 1);
}

void Dispatcher::wake(std::size_t interpreter) {
  Seat& target = seat_at(interpreter);
  Seat* seat;
  {
    const std::lock_guard lock(mutex_);
    target.woken = true;
    seat = rouse(target);
  }
  notify(seat);
}

void Dispatcher::close() {
  std::vector<Seat*> roused;
  {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    for (std::size_t index = 0; index < count_; ++index) roused.push_back(rouse(seats_[index]));
  }
  std::for_each(roused.begin(), roused.end(), notify);
}

Dispatcher::Calls Dispatcher::cancel_pending() {
  Calls calls;
  {
    const std::lock_guard lock(mutex_);
    for (auto& [servers, lane] : lanes_) {
      for (Queued& queued : lane.calls) {
        --queued.mailbox->queued;
        calls.push_back(std::move(queued.call));
      }
      lane.calls.clear();
    }
  }
  std::erase_if(calls, [](const std::shared_ptr<Call>& call) { return !call->cancel(); });
  return calls;
}

Dispatcher::Calls Dispatcher::retire(std::size_t interpreter) {
  Seat& seat = seat_at(interpreter);
  Calls calls;
  Seat* next = nullptr;
  Seat* roused;
  {
    const std::lock_guard lock(mutex_);
    seat.retired = true;
    for (Lane* lane : std::exchange(seat.lanes, {})) {
      if (--lane->live > 0) continue;
      for (Queued& queued : lane->calls) {
        --queued.mailbox->queued;
        calls.push_back(std::move(queued.call));
      }
      lane->calls.clear();
    }
    if (Lane* const claim = std::exchange(seat.claim, nullptr)) {
      --claim->claims;
      next = summon(*claim);
    }
    roused = rouse(seat);
  }
  notify(next);
  notify(roused);
  std::erase_if(calls, has_ended);
  return calls;
}

std::size_t Dispatcher::queued(MailboxId mailbox) const {
  const std::lock_guard lock(mutex_);
  const auto found = mailboxes_.find(mailbox);
  return found == mailboxes_.end() ? 0 : found->second.queued;
}

std::size_t Dispatcher::idle() const {
  const std::lock_guard lock(mutex_);
  return idle_;
}

Dispatcher::Statistics Dispatcher::statistics(std::size_t interpreter) const {
  const Seat& seat = seat_at(interpreter);
  Statistics statistics;
  statistics.done = seat.done.load(std::memory_order_relaxed);
  statistics.failed = seat.failed.load(std::memory_order_relaxed);
  statistics.busy_ns = seat.busy_ns.load(std::memory_order_relaxed);
  const std::lock_guard lock(mutex_);
  for (const Lane* lane : seat.lanes) {
    (lane->live == 1 ? statistics.queued : statistics.queued_shared) += lane->calls.size();
  }
  return statistics;
}

}  // namespace multipy
