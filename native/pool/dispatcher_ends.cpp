// What holds up the end of interpreters, those that have ended, and those that take their seats.
#include <algorithm>
#include <iterator>
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
    for (const Desk* desk : seat.desks) {
      Calls own;
      for (const auto& call : desk->in_hand) own.push_back(call.lock());
      std::erase(own, nullptr);
      if (own.empty()) continue;
      since = since ? std::min(*since, desk->started) : desk->started;
      given_up &= (own.front()->done() || own.front()->killed()) && !own.front()->runs_aside();
      std::move(own.begin(), own.end(), std::back_inserter(calls));
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
    auto asides = Runner::asides(runner);
    std::move(asides.begin(), asides.end(), std::back_inserter(calls));
  }
  found.owes = std::any_of(calls.begin(), calls.end(), [](const std::shared_ptr<Call>& call) { return call->owed(); });
  std::erase_if(calls, [](const std::shared_ptr<Call>& call) { return call->done(); });
  found.open = std::move(calls);
  return found;
}

Dispatcher::Calls Dispatcher::retire(std::size_t interpreter) {
  Seat& seat = seat_at(interpreter);
  Calls calls;
  Desk* next = nullptr;
  std::vector<Desk*> roused;
  {
    const std::lock_guard lock(mutex_);
    seat.retired = true;
    seat.busy.end_all();
    take_out_first(seat, calls);
    std::vector<Mailbox*> emptied;
    for (Lane* lane : std::exchange(seat.lanes, {})) {
      if (--lane->live > 0) continue;
      take_out(*lane, true, calls, emptied);
      for (auto& [id, mailbox] : mailboxes_) {
        if (mailbox.lane == lane) disturb(mailbox);
      }
    }
    if (Lane* const claim = std::exchange(seat.claim, nullptr)) {
      --claim->claims;
      next = summon(*claim);
    }
    drop_mailboxes(emptied);
    rouse_all(seat, roused);
  }
  notify(next);
  std::for_each(roused.begin(), roused.end(), notify);
  std::erase_if(calls, has_ended);
  return calls;
}

Dispatcher::Calls Dispatcher::replace(std::size_t interpreter, RunnerId runner) {
  Seat& seat = seat_at(interpreter);
  Calls calls;
  std::vector<std::shared_ptr<Servers>> servers;
  std::vector<Desk*> roused;
  Desk* next = nullptr;
  const RunnerId before = seat.runner.exchange(runner);
  {
    const std::lock_guard lock(mutex_);
    seat.holders.clear();
    rouse_all(seat, roused);
    for (Desk* desk : std::exchange(seat.desks, {})) {
      desk->gone = true;
      desk->in_hand.clear();
      desk->preparing = nullptr;
      set_at_work(seat, *desk, false);
    }
    seat.busy.end_all();
    seat.woken = false;
    seat.closed = false;
    seat.expected = 0;
    take_out_first(seat, calls);
    std::vector<Mailbox*> emptied;
    for (Lane* lane : seat.lanes) {
      if (lane->runners) servers.push_back(lane->runners);
      if (lane->live == 1) take_out(*lane, false, calls, emptied);
    }
    if (Lane* const claim = std::exchange(seat.claim, nullptr)) {
      --claim->claims;
      next = summon(*claim);
    }
    drop_mailboxes(emptied);
  }
  notify(next);
  std::for_each(roused.begin(), roused.end(), notify);
  for (const auto& list : servers) Runner::replace(*list, before, runner);
  std::erase_if(calls, has_ended);
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

Dispatcher::Calls Dispatcher::put_back(const Calls& calls) {
  Calls homeless;
  std::vector<Desk*> roused;
  {
    const std::lock_guard lock(mutex_);
    for (auto call = calls.rbegin(); call != calls.rend(); ++call) {
      const auto found = mailboxes_.find((*call)->mailbox());
      const auto is_gone = [this](std::size_t server) { return seats_[server].retired || seats_[server].closed; };
      if (found == mailboxes_.end() || std::ranges::all_of(*found->second.lane->servers, is_gone)) {
        homeless.push_back(*call);
        continue;
      }
      Mailbox& box = found->second;
      (*call)->enter_queue(box.signals);
      box.calls.push_front({next_first_ticket_--, *call});
      ++box.lane->queued;
      box.settle();
      roused.push_back(summon(*box.lane));
    }
  }
  std::for_each(roused.begin(), roused.end(), notify);
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

void Dispatcher::take_out_first(Seat& seat, Calls& calls) {
  std::move(seat.first.begin(), seat.first.end(), std::back_inserter(calls));
  seat.first.clear();
}

bool Dispatcher::holds(std::uint64_t session, std::size_t interpreter) const {
  const std::lock_guard lock(mutex_);
  const auto& holders = seat_at(interpreter).holders;
  return std::find(holders.begin(), holders.end(), session) != holders.end();
}

}  // namespace multipy
