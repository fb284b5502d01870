#include "pool/dispatcher.h"

#include <pthread.h>

#include <algorithm>
#include <climits>
#include <functional>
#include <iterator>
#include <numeric>
#include <optional>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/room.h"
#include "base/spin.h"
#include "exchange/return_queue.h"
#include "pool/placement.h"
#include "task/waits.h"

namespace multipy {

namespace {

void add(std::atomic<std::uint64_t>& figure, std::uint64_t amount) noexcept {
  figure.fetch_add(amount, std::memory_order_relaxed);
}

}  // namespace

Dispatcher::Dispatcher(std::size_t interpreters, Servers runners)
    : count_(interpreters), seats_(std::make_unique<Seat[]>(interpreters)) {
  for (std::size_t index = 0; index < runners.size(); ++index) seats_[index].runner = runners[index];
}

Dispatcher::~Dispatcher() = default;

Dispatcher::Seat& Dispatcher::seat_at(std::size_t interpreter) const {
  if (interpreter >= count_) {
    throw Error("there is no interpreter " + std::to_string(interpreter) + ", only " + std::to_string(count_));
  }
  return seats_[interpreter];
}

Dispatcher::Mailbox& Dispatcher::open_for_posts(MailboxId mailbox) {
  if (closed_) throw ClosedError("the pool is closed");
  const auto found = mailboxes_.find(mailbox);
  if (found == mailboxes_.end() || found->second.closing) throw ClosedError("the mailbox is closed");
  if (found->second.lane->live == 0) throw ClosedError("the interpreters that served the mailbox have ended");
  return found->second;
}

Dispatcher::Desk* Dispatcher::queue(Mailbox& box, Queued& queued, CallList& ended) {
  sweep(box, ended);
  Call& posted = *queued.call;
  queued.ticket = next_ticket_++;
  box.put(queued);
  posted.set_mailbox(box.id, box.lane->runners);
  posted.enter_queue(box.signals);
  int cpu = kNoCpu;
  Desk* const desk = summon(*box.lane, &cpu);
  posted.expect_on(cpu);
  if (desk != nullptr || cpu != kNoCpu) return desk;
  if (posted.holdings()) {
    if (Desk* const held = rouse_held(*box.lane, posted)) return held;
  }
  return set_watch(*box.lane);
}

void Dispatcher::post(MailboxId mailbox, std::shared_ptr<Call> call, bool limited) {
  Desk* desk;
  CallList ended;  // dropped after the mutex
  std::shared_ptr<Signals> gathered;
  if (!call->holdings()) call->set_holdings(current_holdings());
  Queued queued{0, std::move(call)};  // the same, if it stays here
  {
    const std::lock_guard lock(mutex_);
    Mailbox& box = open_for_posts(mailbox);
    if (limited && box.is_full()) throw FullError("there are " + std::to_string(box.open()) + " calls waiting already");
    desk = queue(box, queued, ended);
    if (box.signals->gatherers.load(std::memory_order_relaxed) > 0) {
      gathered = box.signals;
      gathered->arrivals.fetch_add(1, std::memory_order_relaxed);
    }
  }
  if (gathered) futex_wake(gathered->arrivals, 1);
  notify(desk);
}

void Dispatcher::post_alone(std::size_t interpreter, std::shared_ptr<Call> call) {
  const MailboxId mailbox = open_mailbox({interpreter});
  try {
    post(mailbox, std::move(call));
  } catch (...) {
    close_mailbox(mailbox);
    throw;
  }
  close_mailbox_when_empty(mailbox);
}

void Dispatcher::request(MailboxId mailbox, std::shared_ptr<Call> call, std::uint64_t session) {
  Desk* desk = nullptr;
  CallList ended;  // dropped after the mutex
  Queued queued{0, call, session};
  std::optional<std::size_t> nested;
  {
    const std::lock_guard lock(mutex_);
    Mailbox& box = open_for_posts(mailbox);
    const Interpreters& servers = *box.lane->servers;
    const auto is_free = [this](std::size_t server) { return seats_[server].idle && seats_[server].holders.empty(); };
    const auto is_ours = [&](std::size_t server) { return acts_in(*call, seats_[server]) && !seats_[server].retired; };
    const auto ours = std::find_if(servers.begin(), servers.end(), is_ours);
    if (ours != servers.end() && std::none_of(servers.begin(), servers.end(), is_free)) {
      seats_[*ours].holders.push_back(session);
      nested = *ours;
    } else {
      desk = queue(box, queued, ended);
    }
  }
  notify(desk);
  if (nested) grant(*call, session, *nested);
}

void Dispatcher::grant(Call& call, std::uint64_t session, std::size_t interpreter) {
  call.set_worker(static_cast<std::int64_t>(interpreter), seats_[interpreter].runner);
  if (!call.start()) return release(session);
  Payload index;
  index.data = std::string(1, static_cast<char>(0xce));  // MessagePack's 32-bit unsigned integer
  for (const int shift : {24, 16, 8, 0}) index.data += static_cast<char>(interpreter >> shift);
  call.succeed(std::move(index));
}

void Dispatcher::release(std::uint64_t session) noexcept {
  Desk* roused = nullptr;
  {
    const std::lock_guard lock(mutex_);
    for (std::size_t index = 0; index < count_; ++index) {
      if (std::erase(seats_[index].holders, session) > 0 && seats_[index].holders.empty())
        roused = rouse(seats_[index]);
    }
  }
  notify(roused);
}

WaitResult Dispatcher::wait_for_room(MailboxId mailbox, Deadline deadline, const std::string& label,
                                     std::uint64_t actor, std::size_t at_once) {
  std::shared_ptr<Signals> signals;
  std::shared_ptr<const Servers> servers;
  struct Counted {
    std::shared_ptr<Signals>& of;
    ~Counted() {
      if (of) of->waiters.fetch_sub(1, std::memory_order_relaxed);
    }
  } counted{signals};
  std::uint32_t before;
  {
    const std::lock_guard lock(mutex_);
    const auto found = mailboxes_.find(mailbox);
    if (closed_ || found == mailboxes_.end() || found->second.lane->live == 0) return WaitResult::woken;
    signals = found->second.signals;
    servers = found->second.lane->runners;
    // Counted before the look, so that whoever makes room from here on tells.
    signals->waiters.fetch_add(1);
    before = signals->room.load();
    if (!found->second.is_full()) return WaitResult::woken;
  }
  Wait waiting(*signals, actor, at_once, label, std::move(servers), deadline.has_value());
  if (waiting.disturbed()) return WaitResult::interrupted;
  return futex_wait(signals->room, before, deadline);
}

Dispatcher::Desk* Dispatcher::summon(Lane& lane, int* cpu) {
  if (idle_ == 0 || lane.queued <= lane.claims) return nullptr;
  LeastLoaded least_loaded;
  for (const std::size_t server : *lane.servers) {
    const Seat& seat = seats_[server];
    if (seat.idle && seat.holders.empty() &&
        (seat.desks.size() < 2 || oldest_for(seat, lane, first_is_next(seat)).first != nullptr))
      least_loaded.consider(server, seat.taken);
  }
  const auto choice = least_loaded.choice();
  if (!choice) return nullptr;
  Seat& seat = seats_[*choice];
  const std::size_t sleeper = best_sleeper(seat);
  seat.asleep[sleeper]->claim = &lane;
  ++lane.claims;
  if (cpu != nullptr) *cpu = seat.asleep[sleeper]->cpu;
  return rouse(seat, sleeper);
}

Dispatcher::Lane* Dispatcher::take_back_claim(Desk& desk) noexcept {
  Lane* const lane = std::exchange(desk.claim, nullptr);
  if (lane != nullptr) --lane->claims;
  return lane;
}

Dispatcher::Desk* Dispatcher::rouse_held(const Lane& lane, const Call& call) {
  for (const std::size_t server : *lane.servers) {
    Seat& seat = seats_[server];
    if (seat.idle && acts_in(call, seat)) return rouse(seat);
  }
  return nullptr;
}

bool Dispatcher::acts_in(const Call& call, const Seat& seat) noexcept {
  for (const Holding* holding = call.holdings().get(); holding != nullptr; holding = holding->outer.get()) {
    if (std::find(seat.holders.begin(), seat.holders.end(), holding->session) != seat.holders.end()) return true;
  }
  return false;
}

void Dispatcher::make_room(Seat& seat, Desk& desk) {
  make_room_in(desk.in_hand);
  make_room_in(seat.holders);
  if (!desk.sits) make_room_in(seat.desks);
  seat.asleep.reserve(seat.desks.capacity());
}

Dispatcher::Delivery Dispatcher::take(std::size_t interpreter, Desk& desk) {
  Seat& seat = seat_at(interpreter);
  Delivery delivery;
  std::uint64_t session = 0;
  CallList ended;
  Emptied emptied;
  set_current_holdings(nullptr);
  std::unique_lock lock(mutex_);
  if (desk.home != 0 && desk.home != seat.runner) desk.gone = true;
  if (desk.gone) return delivery;
  make_room(seat, desk);
  if (!std::exchange(desk.sits, true)) {
    ::pthread_getcpuclockid(::pthread_self(), &desk.clock);
    seat.desks.push_back(&desk);
    if (!desk.main && seat.expected > 0) --seat.expected;
  }
  set_at_work(seat, desk, false);
  clear(seat, desk);
  while (true) {
    Lane* const claim = take_back_claim(desk);
    Lane* from = nullptr;
    bool found = false;
    Desk* first = nullptr;
    if (seat.at_work == 0 && !leaves_to_first(seat, desk, first)) {
      if (std::exchange(seat.woken, false)) {
        delivery.kind = Delivery::woken;
        found = true;
      } else {
        found = take_first(seat, desk, delivery, ended) ||
                (from = pick(seat, desk, delivery, session, ended, emptied)) != nullptr;
      }
    }
    Desk* next = claim != nullptr && claim != from ? summon(*claim) : nullptr;
    if (!found) {
      drop_mailboxes(emptied);
      const bool ends = closed_ || seat.retired;
      const bool stays = closed_ && !seat.retired && seat.watch == nullptr && may_be_held_up(seat);
      if (!ends || (desk.main ? seat.desks.size() > 1 : stays)) {
        lie_down(seat, desk, stays && !desk.main);
        lock.unlock();
        notify(std::exchange(next, nullptr));
        notify(first);
        while (!ended.empty()) ended.pop_front();
        const bool needed = sleep(seat, desk, lock);
        if (desk.gone) return {};
        set_at_work(seat, desk, false);
        if (needed) {
          make_room(seat, desk);
          continue;
        }
      }
      delivery.kind = Delivery::closed;
      Desk* const last = leave(seat, desk);
      lock.unlock();
      notify(next);
      notify(first);
      notify(last);
      ReturnQueue::call_owners();
      return delivery;
    }
    const bool held = session != 0 && !closed_;
    if (held) seat.holders.push_back(session);
    Desk* beside = nullptr;
    if (session == 0) {
      set_at_work(seat, desk, !desk.expects_stall);
      if (seat.at_work == 0 && has_something(seat)) beside = rouse(seat);
      if (beside == nullptr) beside = set_watch(seat);
      delivery.is_last =
          seat.asleep.empty() && seat.expected == 0 && has_room(seat) && (!closed_ || may_be_held_up(seat));
    }
    drop_mailboxes(emptied);
    lock.unlock();
    notify(next);
    notify(beside);
    if (session != 0) {
      const auto call = std::exchange(delivery, {}).call;
      held ? grant(*call, session, interpreter) : static_cast<void>(call->abandon({}));
      session = 0;
      lock.lock();
      make_room(seat, desk);
      continue;
    }
    ReturnQueue::call_owners();
    if (delivery.call) {
      set_current_holdings(delivery.call->holdings());
      delivery.call->set_worker(static_cast<std::int64_t>(interpreter),
                                desk.runner != 0 ? desk.runner : seat.runner.load());
    }
    return delivery;
  }
}

void Dispatcher::finished(std::size_t interpreter, bool ok) noexcept {
  Seat& seat = seats_[interpreter];
  add(seat.done, 1);
  if (!ok) add(seat.failed, 1);
}

void Dispatcher::finished_aside(std::size_t interpreter, bool ok) noexcept {
  add(seats_[interpreter].done, 1);
  if (!ok) add(seats_[interpreter].failed, 1);
}

void Dispatcher::event_loop_runs(std::size_t interpreter, bool runs) noexcept {
  BusyTime& busy = seats_[interpreter].busy;
  runs ? busy.begin(BusyTime::event_loop) : busy.end(BusyTime::event_loop);
}

std::shared_ptr<Call> Dispatcher::take_more(std::size_t interpreter, Desk& desk, MailboxId mailbox,
                                            Clock::time_point deadline, const Call* first) {
  if (first != nullptr && first->batch().empty()) return nullptr;
  Seat& seat = seat_at(interpreter);
  CallList ended;
  std::shared_ptr<Signals> signals;
  std::shared_ptr<Call> call;
  while (true) {
    std::uint32_t before = 0;
    {
      const std::lock_guard lock(mutex_);
      const auto found = mailboxes_.find(mailbox);
      if (found == mailboxes_.end()) break;
      Mailbox& box = found->second;
      make_room_in(desk.in_hand);
      if (!signals) {
        signals = box.signals;
        signals->gatherers.fetch_add(1, std::memory_order_relaxed);
      }
      before = signals->arrivals.load(std::memory_order_relaxed);
      bool emptied = false;
      bool other = false;
      while (!call) {
        const auto next = std::find_if(box.calls.begin(), box.calls.end(), [&](const Queued& queued) {
          return seat.holders.empty() || acts_in(*queued.call, seat);
        });
        if (next == box.calls.end()) break;
        other = first != nullptr && !has_ended(next->call) && next->call->batch() != first->batch();
        if (other) break;
        Queued taken = box.take(next);
        if (taken.call->leave_queue()) {
          ended.push_back(std::move(taken.call));
        } else {
          call = std::move(taken.call);
        }
        emptied = taken_from(box);
      }
      if (emptied) drop_mailbox(box);
      if (call) {
        desk.in_hand.emplace_back(call);
        desk.row = 0;  // a batch is no beginning of a row
      }
      if (call || other || closed_ || emptied) break;
    }
    if (Clock::now() >= deadline) break;
    futex_wait(signals->arrivals, before, deadline);
  }
  if (signals) signals->gatherers.fetch_sub(1, std::memory_order_relaxed);
  if (call)
    call->set_worker(static_cast<std::int64_t>(interpreter), desk.runner != 0 ? desk.runner : seat.runner.load());
  return call;
}

void Dispatcher::wake(std::size_t interpreter) {
  Seat& seat = seat_at(interpreter);
  Desk* desk;
  {
    const std::lock_guard lock(mutex_);
    seat.woken = true;
    desk = rouse(seat);
  }
  notify(desk);
}

void Dispatcher::close() noexcept {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  for (auto& [id, mailbox] : mailboxes_) disturb(mailbox);
  for (std::size_t index = 0; index < count_; ++index) {
    seats_[index].holders.clear();
    rouse_all(seats_[index]);
  }
}

std::size_t Dispatcher::count_in_hand(const Seat& seat) noexcept {
  const auto add_its = [](std::size_t sum, const Desk* desk) { return sum + desk->in_hand.size(); };
  return std::accumulate(seat.desks.begin(), seat.desks.end(), std::size_t{0}, add_its);
}

void Dispatcher::add_in_hand(const Desk& desk, Calls& calls) noexcept {
  for (const auto& held : desk.in_hand) {
    if (auto call = held.lock()) calls.push_back(std::move(call));
  }
}

Dispatcher::Calls Dispatcher::in_hand_at(const Seat& seat) {
  Calls calls;
  calls.reserve(count_in_hand(seat));
  for (const Desk* desk : seat.desks) add_in_hand(*desk, calls);
  return calls;
}

Dispatcher::Calls Dispatcher::in_hand(std::size_t interpreter) const {
  const std::lock_guard lock(mutex_);
  return in_hand_at(seat_at(interpreter));
}

std::shared_ptr<Call> Dispatcher::next_in_hand(std::size_t interpreter, Place& place) const noexcept {
  const std::lock_guard lock(mutex_);
  const auto& desks = seats_[interpreter].desks;
  const auto is_before = [](const Desk* left, const Desk* right) { return std::less<>()(left, right); };
  for (;;) {
    if (std::find(desks.begin(), desks.end(), place.desk) != desks.end()) {
      while (place.index < place.desk->in_hand.size()) {
        if (auto call = place.desk->in_hand[place.index++].lock()) return call;
      }
    }
    // In the order of their addresses, as they come and go.
    const Desk* next = nullptr;
    for (const Desk* desk : desks) {
      if (is_before(place.desk, desk) && (next == nullptr || is_before(desk, next))) next = desk;
    }
    if (next == nullptr) return nullptr;
    place = {next, 0};
  }
}

CallList Dispatcher::cancel_pending() noexcept {
  CallList calls;
  {
    const std::lock_guard lock(mutex_);
    Emptied emptied;
    for (auto& [servers, lane] : lanes_) take_out(lane, true, calls, emptied);
    for (std::size_t index = 0; index < count_; ++index) take_out_first(seats_[index], calls);
    drop_mailboxes(emptied);
  }
  calls.remove_if([](const std::shared_ptr<Call>& call) { return !call->cancel(); });
  return calls;
}

std::size_t Dispatcher::queued(MailboxId mailbox) const {
  const std::lock_guard lock(mutex_);
  const auto found = mailboxes_.find(mailbox);
  return found == mailboxes_.end() ? 0 : found->second.open();
}

std::vector<std::size_t> Dispatcher::servers(MailboxId mailbox) const {
  const std::lock_guard lock(mutex_);
  const auto found = mailboxes_.find(mailbox);
  return found == mailboxes_.end() ? Interpreters() : *found->second.lane->servers;
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
  statistics.busy = seat.busy.total();
  const std::lock_guard lock(mutex_);
  for (const auto& [id, mailbox] : mailboxes_) {
    if (std::find(seat.lanes.begin(), seat.lanes.end(), mailbox.lane) != seat.lanes.end())
      (mailbox.lane->live == 1 ? statistics.queued : statistics.queued_shared) += mailbox.open();
  }
  return statistics;
}

}  // namespace multipy
