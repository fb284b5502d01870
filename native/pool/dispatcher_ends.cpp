// What holds up the end of interpreters, those that have ended, and those that take their seats.
#include <algorithm>
#include <iterator>
#include <new>
#include <optional>
#include <utility>

#include "base/error.h"
#include "pool/dispatcher.h"

namespace multipy {

Dispatcher::HoldUp Dispatcher::hold_up(std::size_t interpreter) const {
  HoldUp found;
  Calls calls;
  {
    const std::lock_guard lock(mutex_);
    const Seat& seat = seat_at(interpreter);
    found.closed = seat.closed;
    found.taken = seat.taken;
    std::optional<Clock::time_point> since;
    if (seat.closed) since = seat.closed_at;
    bool given_up = true;
    calls.reserve(count_in_hand(seat));
    for (const Desk* desk : seat.desks) {
      const std::size_t before = calls.size();
      add_in_hand(*desk, calls);
      if (calls.size() == before) continue;
      const Call& first = *calls[before];
      since = since ? std::min(*since, desk->started) : desk->started;
      given_up &= (first.done() || first.killed()) && !first.runs_aside();
    }
    for (const Lane* lane : seat.lanes) {
      const auto is_owed = [](const Queued& queued) { return queued.call->owed(); };
      for (const auto& [front, box] : lane->fronts)
        found.is_needed |= std::any_of(box->calls.begin(), box->calls.end(), is_owed);
    }
    if (since) found.busy = Clock::now() - *since;
    found.given_up = given_up && !calls.empty();
  }
  if (!calls.empty()) {
    const auto open = std::find_if(calls.begin(), calls.end(), [](const auto& call) { return !call->done(); });
    found.label = (open != calls.end() ? *open : calls.front())->label();
  }
  if (const RunnerId runner = seat_at(interpreter).runner; runner != 0) {
    Runner::Asides asides(runner);
    while (auto call = asides.next()) calls.push_back(std::move(call));
  }
  found.owes = std::any_of(calls.begin(), calls.end(), [](const std::shared_ptr<Call>& call) { return call->owed(); });
  return found;
}

bool Dispatcher::was_told_of_end(std::size_t interpreter) const noexcept {
  const std::lock_guard lock(mutex_);
  return seats_[interpreter].closed;
}

CallList Dispatcher::retire(std::size_t interpreter) noexcept {
  Seat& seat = seats_[interpreter];
  CallList calls;
  Desk* next = nullptr;
  {
    const std::lock_guard lock(mutex_);
    seat.retired = true;
    seat.busy.end_all();
    take_out_first(seat, calls);
    Emptied emptied;
    for (Lane* lane : std::exchange(seat.lanes, {})) {
      if (--lane->live > 0) continue;
      take_out(*lane, true, calls, emptied);
      for (auto& [id, mailbox] : mailboxes_) {
        if (mailbox.lane == lane) disturb(mailbox);
      }
    }
    for (Desk* desk : seat.desks) {
      if (Lane* const claim = take_back_claim(*desk)) next = summon(*claim);  // one of them at most has one
    }
    drop_mailboxes(emptied);
    rouse_all(seat);
  }
  notify(next);
  calls.remove_if(has_ended);
  return calls;
}

CallList Dispatcher::replace(std::size_t interpreter, RunnerId runner, Calls* in_hand) {
  Seat& seat = seat_at(interpreter);
  CallList calls;
  std::vector<std::shared_ptr<Servers>> servers;
  Desk* next = nullptr;
  RunnerId before;
  {
    const std::lock_guard lock(mutex_);
    servers.reserve(seat.lanes.size());
    if (in_hand != nullptr) *in_hand = in_hand_at(seat);
    before = seat.runner.exchange(runner);
    seat.holders.clear();
    rouse_all(seat);
    Lane* claim = nullptr;
    for (Desk* desk : std::exchange(seat.desks, {})) {
      desk->gone = true;
      if (Lane* const theirs = take_back_claim(*desk)) claim = theirs;  // one of them at most has one
      desk->in_hand.clear();
      desk->preparing = nullptr;
      set_at_work(seat, *desk, false);
    }
    seat.busy.end_all();
    seat.woken = false;
    seat.closed = false;
    seat.expected = 0;
    take_out_first(seat, calls);
    Emptied emptied;
    for (Lane* lane : seat.lanes) {
      if (lane->runners) servers.push_back(lane->runners);
      if (lane->live == 1) take_out(*lane, false, calls, emptied);
    }
    if (claim != nullptr) next = summon(*claim);
    drop_mailboxes(emptied);
  }
  notify(next);
  for (const auto& list : servers) Runner::replace(*list, before, runner);
  calls.remove_if(has_ended);
  return calls;
}

bool Dispatcher::awaits_another(std::size_t interpreter) const {
  const std::lock_guard lock(mutex_);
  for (const Lane* lane : seat_at(interpreter).lanes) {
    for (const auto& [front, box] : lane->fronts) {
      for (const Queued& queued : box->calls) {
        if (waits_for_another(*box, queued) && !has_ended(queued.call)) return true;
      }
    }
  }
  return false;
}

CallList Dispatcher::put_back(CallList calls) noexcept {
  CallList last_first;
  while (auto call = calls.pop_front()) last_first.push_front(std::move(call));
  CallList homeless;
  const std::lock_guard lock(mutex_);
  while (auto call = last_first.pop_front()) {
    const auto found = mailboxes_.find(call->mailbox());
    const auto is_gone = [this](std::size_t server) { return seats_[server].retired || seats_[server].closed; };
    if (found == mailboxes_.end() || std::ranges::all_of(*found->second.lane->servers, is_gone)) {
      homeless.push_back(std::move(call));
      continue;
    }
    Mailbox& box = found->second;
    Queued queued{next_first_ticket_--, std::move(call)};
    Call& again = *queued.call;
    try {
      box.put(queued, true);
    } catch (const std::bad_alloc&) {
      homeless.push_back(std::move(queued.call));
      continue;
    }
    again.enter_queue(box.signals);
    notify(summon(*box.lane));
  }
  return homeless;
}

void Dispatcher::put_first(std::size_t interpreter, const Calls& calls) {
  Seat& seat = seat_at(interpreter);
  static const auto never = std::make_shared<const std::atomic<bool>>(false);
  // What these calls ask for themselves gets through, and nothing else.
  for (const auto& call : calls)
    call->set_holdings(std::make_shared<const Holding>(Holding{new_session(), never, call->holdings()}));
  const std::lock_guard lock(mutex_);
  seat.first.insert(seat.first.end(), calls.begin(), calls.end());
}

void Dispatcher::take_out_first(Seat& seat, CallList& calls) noexcept {
  for (auto& call : seat.first) calls.push_back(std::move(call));
  seat.first.clear();
}

bool Dispatcher::holds(std::uint64_t session, std::size_t interpreter) const {
  const std::lock_guard lock(mutex_);
  const auto& holders = seat_at(interpreter).holders;
  return std::find(holders.begin(), holders.end(), session) != holders.end();
}

}  // namespace multipy
