#include "pool/dispatcher.h"

#include <algorithm>
#include <climits>
#include <iterator>
#include <optional>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/spin.h"
#include "exchange/return_queue.h"
#include "pool/placement.h"
#include "task/waits.h"

namespace multipy {

namespace {

void add(std::atomic<std::uint64_t>& figure, std::uint64_t amount) noexcept {
  figure.fetch_add(amount, std::memory_order_relaxed);
}

// What Seat::asleep may be, beside 0.
constexpr std::uint32_t kSleeping = 1;
constexpr std::uint32_t kSpinning = 2;

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

Dispatcher::Seat* Dispatcher::queue(Mailbox& box, std::shared_ptr<Call> call, std::uint64_t session, Calls& ended) {
  sweep(box, ended);
  Call& posted = *call;
  posted.set_mailbox(box.id, box.lane->runners);
  posted.enter_queue(box.signals);
  box.lane->calls.push_back({next_ticket_++, &box, std::move(call), session});
  ++box.queued;
  int cpu = kNoCpu;
  Seat* const seat = summon(*box.lane, &cpu);
  posted.expect_on(cpu);
  return seat == nullptr && cpu == kNoCpu && posted.holdings() ? rouse_held(*box.lane, posted) : seat;
}

void Dispatcher::post(MailboxId mailbox, std::shared_ptr<Call> call, bool limited) {
  Seat* seat;
  Calls ended;  // dropped after the mutex
  std::shared_ptr<Signals> gathered;
  if (!call->holdings()) call->set_holdings(current_holdings());
  {
    const std::lock_guard lock(mutex_);
    Mailbox& box = open_for_posts(mailbox);
    if (limited && box.is_full()) throw FullError("there are " + std::to_string(box.open()) + " calls waiting already");
    seat = queue(box, std::move(call), 0, ended);
    if (box.signals->gatherers.load(std::memory_order_relaxed) > 0) {
      gathered = box.signals;
      gathered->arrivals.fetch_add(1, std::memory_order_relaxed);
    }
  }
  if (gathered) futex_wake(gathered->arrivals, 1);
  notify(seat);
}

void Dispatcher::request(MailboxId mailbox, std::shared_ptr<Call> call, std::uint64_t session) {
  Seat* seat = nullptr;
  Calls ended;  // dropped after the mutex
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
      seat = queue(box, call, session, ended);
    }
  }
  notify(seat);
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

void Dispatcher::release(std::uint64_t session) {
  Seat* roused = nullptr;
  {
    const std::lock_guard lock(mutex_);
    for (std::size_t index = 0; index < count_; ++index) {
      if (std::erase(seats_[index].holders, session) > 0 && seats_[index].holders.empty())
        roused = rouse(seats_[index]);
    }
  }
  notify(roused);
}

WaitResult Dispatcher::wait_for_room(MailboxId mailbox, Deadline deadline, const std::string& label) {
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
  Wait waiting(*signals, label, std::move(servers), deadline.has_value());
  if (waiting.disturbed()) return WaitResult::interrupted;
  return futex_wait(signals->room, before, deadline);
}

Dispatcher::Seat* Dispatcher::summon(Lane& lane, int* cpu) {
  if (idle_ == 0 || lane.calls.size() <= lane.claims) return nullptr;
  LeastLoaded least_loaded;
  for (const std::size_t server : *lane.servers) {
    const Seat& seat = seats_[server];
    if (seat.idle && seat.holders.empty()) least_loaded.consider(server, seat.taken);
  }
  const auto choice = least_loaded.choice();
  if (!choice) return nullptr;
  seats_[*choice].claim = &lane;
  ++lane.claims;
  if (cpu != nullptr) *cpu = seats_[*choice].cpu;
  return rouse(seats_[*choice]);
}

Dispatcher::Seat* Dispatcher::rouse_held(const Lane& lane, const Call& call) {
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

Dispatcher::Lane* Dispatcher::pick(Seat& seat, Delivery& delivery, std::uint64_t& session, Calls& ended,
                                   std::vector<Mailbox*>& emptied) {
  const auto first_for_seat = [&seat](Lane& lane) {
    if (seat.holders.empty()) return lane.calls.begin();
    // A session within the session was queued because another interpreter was idle: it is for others to take.
    return std::find_if(lane.calls.begin(), lane.calls.end(), [&](const Queued& queued) {
      return (queued.session == 0 || lane.live == 1) && acts_in(*queued.call, seat);
    });
  };
  while (true) {
    Lane* oldest = nullptr;
    std::deque<Queued>::iterator place;
    for (Lane* lane : seat.lanes) {
      const auto first = first_for_seat(*lane);
      if (first == lane->calls.end()) continue;
      if (oldest != nullptr && first->ticket > place->ticket) continue;
      oldest = lane;
      place = first;
    }
    if (oldest == nullptr) return nullptr;
    Queued taken = std::move(*place);
    oldest->calls.erase(place);
    const bool has_ended = taken.call->leave_queue();
    if (taken_from(*taken.mailbox)) emptied.push_back(taken.mailbox);
    if (!has_ended) {
      delivery = {Delivery::call_ready, taken.mailbox->id, std::move(taken.call)};
      session = taken.session;
      ++seat.taken;
      if (session == 0) seat.in_hand.emplace_back(delivery.call);
      return oldest;
    }
    ended.push_back(std::move(taken.call));
  }
}

bool Dispatcher::take_first(Seat& seat, Delivery& delivery, Calls& ended) {
  while (!seat.first.empty()) {
    auto call = std::move(seat.first.front());
    seat.first.pop_front();
    if (!has_ended(call)) {
      delivery = {Delivery::call_ready, 0, std::move(call)};
      seat.in_hand.emplace_back(delivery.call);
      return true;
    }
    ended.push_back(std::move(call));
  }
  return false;
}

Dispatcher::Delivery Dispatcher::take(std::size_t interpreter) {
  Seat& seat = seat_at(interpreter);
  Delivery delivery;
  std::uint64_t session = 0;
  Calls ended;
  std::vector<Mailbox*> emptied;
  set_current_holdings(nullptr);
  std::unique_lock lock(mutex_);
  seat.busy.end(BusyTime::worker);
  seat.in_hand.clear();
  while (true) {
    Lane* const claim = std::exchange(seat.claim, nullptr);
    if (claim != nullptr) --claim->claims;
    Lane* from = nullptr;
    if (std::exchange(seat.woken, false)) {
      delivery.kind = Delivery::woken;
    } else if (!take_first(seat, delivery, ended) &&
               (from = pick(seat, delivery, session, ended, emptied)) == nullptr) {
      if (!closed_ && !seat.retired) {
        drop_mailboxes(std::exchange(emptied, {}));
        seat.idle = true;
        ++idle_;
        seat.cpu = ::sched_getcpu();
        seat.asleep.store(kSpinning, std::memory_order_relaxed);
        lock.unlock();
        ended.clear();
        spin_until(seat.caller_cpu.load(std::memory_order_relaxed),
                   [&] { return seat.asleep.load(std::memory_order_acquire) == 0; });
        ReturnQueue::call_owners();
        std::uint32_t spinning = kSpinning;
        seat.asleep.compare_exchange_strong(spinning, kSleeping, std::memory_order_acq_rel);
        while (seat.asleep.load(std::memory_order_acquire) != 0) futex_wait(seat.asleep, kSleeping, std::nullopt);
        lock.lock();
        continue;
      }
      delivery.kind = Delivery::closed;
      seat.closed = true;
    }
    const bool held = session != 0 && !closed_;
    if (held) seat.holders.push_back(session);
    Seat* const next = claim != nullptr && claim != from ? summon(*claim) : nullptr;
    drop_mailboxes(std::exchange(emptied, {}));
    seat.started = Clock::now();
    if (delivery.call && session == 0) seat.busy.begin(BusyTime::worker, seat.started);
    lock.unlock();
    notify(next);
    if (session != 0) {
      const auto call = std::exchange(delivery, {}).call;
      held ? grant(*call, session, interpreter) : static_cast<void>(call->abandon({}));
      session = 0;
      lock.lock();
      continue;
    }
    ReturnQueue::call_owners();
    if (delivery.call) {
      set_current_holdings(delivery.call->holdings());
      delivery.call->set_worker(static_cast<std::int64_t>(interpreter), seat.runner);
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

std::shared_ptr<Call> Dispatcher::take_more(std::size_t interpreter, MailboxId mailbox, Clock::time_point deadline,
                                            const Call* first) {
  if (first != nullptr && first->batch().empty()) return nullptr;
  Seat& seat = seat_at(interpreter);
  Calls ended;
  std::shared_ptr<Signals> signals;
  std::shared_ptr<Call> call;
  while (true) {
    std::uint32_t before = 0;
    {
      const std::lock_guard lock(mutex_);
      const auto found = mailboxes_.find(mailbox);
      if (found == mailboxes_.end()) break;
      Mailbox& box = found->second;
      if (!signals) {
        signals = box.signals;
        signals->gatherers.fetch_add(1, std::memory_order_relaxed);
      }
      before = signals->arrivals.load(std::memory_order_relaxed);
      auto& calls = box.lane->calls;
      bool emptied = false;
      bool other = false;
      while (box.queued > 0 && !call) {
        const auto next = std::find_if(calls.begin(), calls.end(), [&](const Queued& queued) {
          return queued.mailbox == &box && (seat.holders.empty() || acts_in(*queued.call, seat));
        });
        if (next == calls.end()) break;
        other = first != nullptr && !has_ended(next->call) && next->call->batch() != first->batch();
        if (other) break;
        (next->call->leave_queue() ? ended.emplace_back() : call) = std::move(next->call);
        calls.erase(next);
        emptied = taken_from(box);
      }
      if (emptied) drop_mailbox(box);
      if (call) seat.in_hand.emplace_back(call);
      if (call || other || closed_ || emptied) break;
    }
    if (Clock::now() >= deadline) break;
    futex_wait(signals->arrivals, before, deadline);
  }
  if (signals) signals->gatherers.fetch_sub(1, std::memory_order_relaxed);
  if (call) call->set_worker(static_cast<std::int64_t>(interpreter), seat.runner);
  return call;
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
    for (auto& [id, mailbox] : mailboxes_) disturb(mailbox);
    for (std::size_t index = 0; index < count_; ++index) {
      seats_[index].holders.clear();
      roused.push_back(rouse(seats_[index]));
    }
  }
  std::for_each(roused.begin(), roused.end(), notify);
}

Dispatcher::Calls Dispatcher::cancel_pending() {
  Calls calls;
  {
    const std::lock_guard lock(mutex_);
    std::vector<Mailbox*> emptied;
    for (auto& [servers, lane] : lanes_) take_out(lane, true, calls, emptied);
    for (std::size_t index = 0; index < count_; ++index) take_out_first(seats_[index], calls);
    drop_mailboxes(emptied);
  }
  std::erase_if(calls, [](const std::shared_ptr<Call>& call) { return !call->cancel(); });
  return calls;
}

Dispatcher::HoldUp Dispatcher::hold_up(std::size_t interpreter) const {
  HoldUp found;
  Calls calls;
  {
    const std::lock_guard lock(mutex_);
    const Seat& seat = seat_at(interpreter);
    found.closed = seat.closed;
    found.taken = seat.taken;
    for (const auto& call : seat.in_hand) calls.push_back(call.lock());
    for (const Lane* lane : seat.lanes) {
      const auto is_owed = [](const Queued& queued) { return queued.call->owed(); };
      found.is_needed |= std::any_of(lane->calls.begin(), lane->calls.end(), is_owed);
    }
    if (seat.closed || !calls.empty()) found.busy = Clock::now() - seat.started;
  }
  std::erase(calls, nullptr);
  if (!calls.empty()) {
    found.given_up = (calls.front()->done() || calls.front()->killed()) && !calls.front()->runs_aside();
    found.label = calls.front()->label();
  }
  if (const RunnerId runner = seat_at(interpreter).runner; runner != 0) {
    auto asides = Runner::asides(runner);
    std::move(asides.begin(), asides.end(), std::back_inserter(calls));
  }
  found.owes = std::any_of(calls.begin(), calls.end(), [](const std::shared_ptr<Call>& call) { return call->owed(); });
  std::erase_if(calls, [](const std::shared_ptr<Call>& call) { return call->done(); });
  found.open = std::move(calls);
  return found;
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
