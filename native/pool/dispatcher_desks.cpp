// The threads of an interpreter that take calls: who sleeps, who is at work, who steps aside, who watches.
#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <utility>

#include "base/spin.h"
#include "exchange/return_queue.h"
#include "pool/dispatcher.h"

namespace multipy {

namespace {

// What Desk::asleep may be, beside 0.
constexpr std::uint32_t kSleeping = 1;
constexpr std::uint32_t kSpinning = 2;
constexpr std::uint32_t kWatching = 3;

/// How long a thread that is not its interpreter's first sleeps before it ends.
constexpr Clock::duration kUnneeded = std::chrono::seconds(10);

/// How long whoever watches sleeps between two looks, and how many in a row with nothing to do are enough.
constexpr Clock::duration kFirstNap = std::chrono::milliseconds(1);
constexpr Clock::duration kLongestNap = std::chrono::milliseconds(8);
constexpr int kEnoughLooks = 8;

/// After so long a call that uses no CPU has stalled, and after so long any.
constexpr Clock::duration kShortest = std::chrono::milliseconds(1);
constexpr Clock::duration kLongest = std::chrono::milliseconds(20);

/// So many threads of one interpreter take calls at once, at most, beside those whose calls wait for others.
constexpr std::ptrdiff_t kMostDesks = 256;

/// So many calls of an actor are expected to stall after one that has.
constexpr std::uint8_t kExpected = 8;

std::chrono::nanoseconds cpu_time(clockid_t clock) {
  timespec time{};
  ::clock_gettime(clock, &time);
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

}  // namespace

bool Dispatcher::first_is_next(const Seat& seat) noexcept {
  return !seat.asleep.empty() && seat.asleep[best_sleeper(seat)]->main;
}

bool Dispatcher::is_busy(const Seat& seat, const Queued& queued, bool is_first) noexcept {
  if (seat.desks.size() < 2) return false;
  const std::uint64_t actor = queued.call->actor();
  std::size_t at_once = queued.call->at_once();
  std::size_t others = 0;
  for (const Desk* desk : seat.desks) {
    if (actor != 0 && desk->in_force == actor && desk->main && !is_first && desk->actor != actor) return true;
    if (desk->in_hand.empty()) continue;
    if (queued.session != 0 && !desk->waits) return true;
    if (desk->actor != actor || (actor == 0 && desk->waits)) continue;
    at_once = std::min(at_once, desk->at_once);
    ++others;
  }
  return queued.session == 0 && others >= at_once;
}

bool Dispatcher::has_something(const Seat& seat) {
  const bool is_first = first_is_next(seat);
  return seat.woken || !seat.first.empty() || std::any_of(seat.lanes.begin(), seat.lanes.end(), [&](Lane* lane) {
           return oldest_for(seat, *lane, is_first).first != nullptr;
         });
}

void Dispatcher::settle(Seat& seat) {
  const bool idle = seat.at_work == 0 && !seat.asleep.empty();
  if (std::exchange(seat.idle, idle) == idle) return;
  idle ? ++idle_ : --idle_;
}

void Dispatcher::set_at_work(Seat& seat, Desk& desk, bool at_work) {
  if (std::exchange(desk.at_work, at_work) == at_work) return;
  at_work ? ++seat.at_work : --seat.at_work;
  settle(seat);
}

std::size_t Dispatcher::best_sleeper(const Seat& seat) noexcept {
  for (std::size_t index = 0; index < seat.asleep.size(); ++index) {
    if (seat.asleep[index]->main) return index;
  }
  return seat.asleep.size() - 1;
}

Dispatcher::Desk* Dispatcher::rouse(Seat& seat) { return seat.idle ? rouse(seat, best_sleeper(seat)) : nullptr; }

Dispatcher::Desk* Dispatcher::rouse(Seat& seat, std::size_t sleeper) {
  Desk& desk = *seat.asleep[sleeper];
  seat.asleep.erase(seat.asleep.begin() + static_cast<std::ptrdiff_t>(sleeper));
  if (seat.watch == &desk) seat.watch = nullptr;
  desk.at_work = true;
  ++seat.at_work;
  settle(seat);
  desk.caller_cpu.store(::sched_getcpu(), std::memory_order_relaxed);
  // One that still spins sees it by itself.
  return desk.asleep.exchange(0, std::memory_order_acq_rel) != kSpinning ? &desk : nullptr;
}

bool Dispatcher::has_room(const Seat& seat) noexcept {
  const auto takes_calls = [](const Desk* desk) { return !desk->waits; };
  return std::count_if(seat.desks.begin(), seat.desks.end(), takes_calls) < kMostDesks;
}

void Dispatcher::rouse_all(Seat& seat) noexcept {
  while (!seat.asleep.empty()) notify(rouse(seat, seat.asleep.size() - 1));
}

bool Dispatcher::leaves_to_first(Seat& seat, const Desk& desk, Desk*& first) {
  if (desk.main || seat.asleep.empty() || seat.retired) return false;
  const std::size_t sleeper = best_sleeper(seat);
  if (!seat.asleep[sleeper]->main || !has_something(seat)) return false;
  first = rouse(seat, sleeper);
  return true;
}

bool Dispatcher::may_be_held_up(const Seat& seat) noexcept {
  return std::any_of(seat.lanes.begin(), seat.lanes.end(), [](const Lane* lane) { return lane->queued > 0; }) &&
         std::any_of(seat.desks.begin(), seat.desks.end(), [](const Desk* desk) { return !desk->in_hand.empty(); });
}

void Dispatcher::notify(Desk* desk) noexcept {
  if (desk != nullptr) futex_wake(desk->asleep, 1);
}

void Dispatcher::lie_down(Seat& seat, Desk& desk, bool watches) {
  seat.asleep.push_back(&desk);
  desk.cpu = ::sched_getcpu();
  desk.asleep.store(kSpinning, std::memory_order_relaxed);
  settle(seat);
  if (seat.watch != nullptr || !(watches || (seat.at_work > 0 && has_something(seat)))) return;
  seat.watch = &desk;
  desk.asleep.store(kWatching, std::memory_order_relaxed);
}

Dispatcher::Desk* Dispatcher::set_watch(Seat& seat) {
  if (seat.watch != nullptr || seat.at_work == 0 || seat.asleep.empty() || !has_something(seat)) return nullptr;
  seat.watch = seat.asleep[best_sleeper(seat)];
  return seat.watch->asleep.exchange(kWatching) == kSleeping ? seat.watch : nullptr;
}

Dispatcher::Desk* Dispatcher::set_watch(const Lane& lane) {
  for (const std::size_t server : *lane.servers) {
    Seat& seat = seats_[server];
    if (seat.watch != nullptr || seat.at_work == 0 || seat.asleep.empty()) continue;
    if (Desk* const desk = set_watch(seat)) return desk;
  }
  return nullptr;
}

Dispatcher::Sight Dispatcher::look(Seat& seat) {
  if (seat.at_work == 0 || !has_something(seat)) return Sight::nothing_to_do;
  const auto now = Clock::now();
  bool stalled = true;
  for (Desk* desk : seat.desks) {
    if (!desk->at_work) continue;
    const auto used = cpu_time(desk->clock);
    const bool is_first_look = desk->seen < desk->started;
    const bool rests = !is_first_look && now - desk->started >= kShortest && 2 * (used - desk->used) < now - desk->seen;
    stalled &= !desk->in_hand.empty() && (rests || now - desk->started >= kLongest);
    desk->seen = now;
    desk->used = used;
  }
  return stalled ? Sight::stalled : Sight::progress;
}

void Dispatcher::set_stalled(Seat& seat) {
  for (Desk* desk : seat.desks) {
    if (!desk->at_work) continue;
    set_at_work(seat, *desk, false);
    if (const auto box = mailboxes_.find(desk->mailbox); desk->actor != 0 && box != mailboxes_.end())
      box->second.stalls = kExpected;
  }
}

bool Dispatcher::sleep(Seat& seat, Desk& desk, std::unique_lock<BriefMutex>& lock) {
  spin_until(desk.caller_cpu.load(std::memory_order_relaxed),
             [&] { return desk.asleep.load(std::memory_order_acquire) == 0; });
  ReturnQueue::call_owners();
  std::uint32_t spinning = kSpinning;
  desk.asleep.compare_exchange_strong(spinning, kSleeping, std::memory_order_acq_rel);
  Clock::duration nap = kFirstNap;
  int idle_looks = 0;
  while (const std::uint32_t state = desk.asleep.load(std::memory_order_acquire)) {
    const bool watches = state == kWatching;
    Deadline deadline;
    if (watches || !desk.main) deadline = Clock::now() + (watches ? nap : kUnneeded);
    if (futex_wait(desk.asleep, state, deadline) != WaitResult::timed_out) continue;
    lock.lock();
    if (desk.asleep.load(std::memory_order_relaxed) != state) {
      lock.unlock();
      continue;
    }
    const Sight sight = watches ? look(seat) : Sight::nothing_to_do;
    idle_looks = sight == Sight::nothing_to_do ? idle_looks + 1 : 0;
    if (sight == Sight::stalled) set_stalled(seat);
    const bool looks_further = watches && closed_ && sight == Sight::nothing_to_do;
    if (!looks_further && watches && idle_looks >= kEnoughLooks) {
      seat.watch = nullptr;
      desk.asleep.store(kSleeping);
      idle_looks = 0;
      nap = kFirstNap;
    } else if (looks_further || sight == Sight::stalled || (!watches && !is_needed(seat))) {
      std::erase(seat.asleep, &desk);
      if (watches) seat.watch = nullptr;
      desk.asleep.store(0);
      settle(seat);
      return watches;
    } else if (watches) {
      nap = std::min(2 * nap, kLongestNap);
    }
    lock.unlock();
  }
  lock.lock();
  return true;
}

bool Dispatcher::is_needed(const Seat& seat) noexcept {
  return std::count_if(seat.asleep.begin(), seat.asleep.end(), [](const Desk* desk) { return !desk->main; }) == 1;
}

void Dispatcher::deliver(Seat& seat, Desk& desk, MailboxId mailbox, const std::shared_ptr<Call>& call) noexcept {
  if (desk.in_hand.empty()) {
    desk.actor = call->actor();
    desk.at_once = call->at_once();
    desk.mailbox = mailbox;
    desk.expects_stall = false;
    desk.started = Clock::now();
    seat.busy.begin(BusyTime::worker, desk.started);
  }
  desk.in_hand.emplace_back(call);
}

void Dispatcher::clear(Seat& seat, Desk& desk) {
  desk.in_hand.clear();
  desk.actor = 0;
  desk.mailbox = 0;
  desk.waits = false;
  if (const Holdings preparing = std::exchange(desk.preparing, nullptr)) std::erase(seat.holders, preparing->session);
  if (std::all_of(seat.desks.begin(), seat.desks.end(), [](Desk* other) { return other->in_hand.empty(); }))
    seat.busy.end(BusyTime::worker);
}

Dispatcher::Desk* Dispatcher::leave(Seat& seat, Desk& desk) {
  std::erase(seat.desks, &desk);
  if (seat.watch == &desk) seat.watch = nullptr;
  desk.sits = false;
  if (desk.main) {
    seat.closed = true;
    seat.closed_at = Clock::now();
    return nullptr;
  }
  const auto main = std::find_if(seat.asleep.begin(), seat.asleep.end(), [](Desk* other) { return other->main; });
  const bool is_last = (closed_ || seat.retired) && seat.desks.size() == 1 && main != seat.asleep.end();
  return is_last ? rouse(seat, static_cast<std::size_t>(main - seat.asleep.begin())) : nullptr;
}

bool Dispatcher::step_aside(std::size_t interpreter, Desk& desk) {
  Seat& seat = seat_at(interpreter);
  Desk* roused = nullptr;
  {
    const std::lock_guard lock(mutex_);
    if (desk.waits || desk.in_hand.empty() || desk.gone) return true;
    desk.waits = true;
    set_at_work(seat, desk, false);
    if (seat.asleep.empty()) return seat.at_work > 0 || seat.expected > 0;
    if (seat.at_work > 0) {
      roused = set_watch(seat);
    } else if (has_something(seat)) {
      roused = rouse(seat);
    }
  }
  notify(roused);
  return true;
}

void Dispatcher::keeps_state(std::size_t interpreter, Desk& desk, std::uint64_t actor) noexcept {
  Desk* roused = nullptr;
  {
    const std::lock_guard lock(mutex_);
    desk.in_force = actor;
    if (desk.gone || !desk.sits) return;
    Seat& seat = seat_at(interpreter);
    if (seat.idle && has_something(seat)) roused = rouse(seat);  // nobody is at work beside a call that is to stall
    if (roused == nullptr) roused = set_watch(seat);
  }
  notify(roused);
}

void Dispatcher::expect_thread(std::size_t interpreter, bool comes) noexcept {
  const std::lock_guard lock(mutex_);
  std::size_t& expected = seat_at(interpreter).expected;
  if (comes) {
    ++expected;
  } else if (expected > 0) {
    --expected;
  }
}

void Dispatcher::step_back(std::size_t interpreter, Desk& desk) noexcept {
  const std::lock_guard lock(mutex_);
  desk.waits = false;
  if (!desk.gone && !desk.in_hand.empty()) set_at_work(seat_at(interpreter), desk, true);
}

}  // namespace multipy
