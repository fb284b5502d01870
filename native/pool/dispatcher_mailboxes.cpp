// Mailboxes and the lanes they share: opened, moved, swept and dropped.
#include <algorithm>
#include <climits>
#include <iterator>
#include <utility>

#include "base/error.h"
#include "base/futex.h"
#include "pool/dispatcher.h"

namespace multipy {

namespace {

/// How many calls that have ended a mailbox may keep, at least.
constexpr std::int64_t kFewEnded = 64;

}  // namespace

Dispatcher::MailboxId Dispatcher::open_mailbox(std::vector<std::size_t> interpreters, std::size_t limit,
                                               bool outlives) {
  std::sort(interpreters.begin(), interpreters.end());
  interpreters.erase(std::unique(interpreters.begin(), interpreters.end()), interpreters.end());
  if (interpreters.empty()) throw Error("a mailbox needs an interpreter to serve it");
  seat_at(interpreters.back());

  const std::lock_guard lock(mutex_);
  if (closed_) throw ClosedError("the pool is closed");
  const auto has_retired = [this](std::size_t server) { return seats_[server].retired; };
  if (std::all_of(interpreters.begin(), interpreters.end(), has_retired))
    throw ClosedError("the interpreters to serve the mailbox have ended");
  Lane& lane = lane_of(std::move(interpreters));
  ++lane.mailboxes;
  const MailboxId id = next_mailbox_++;
  mailboxes_.emplace(id, Mailbox{.lane = &lane, .id = id, .limit = limit, .outlives = outlives});
  return id;
}

Dispatcher::Lane& Dispatcher::lane_of(Interpreters interpreters) {
  const auto [entry, created] = lanes_.try_emplace(std::move(interpreters));
  Lane& lane = entry->second;
  if (!created) return lane;
  lane.servers = &entry->first;
  lane.live = 0;
  Servers runners;
  for (const std::size_t server : entry->first) {
    if (const RunnerId runner = seats_[server].runner; runner != 0) runners.push_back(runner);
    if (seats_[server].retired) continue;
    ++lane.live;
    seats_[server].lanes.push_back(&lane);
  }
  if (!runners.empty()) lane.runners = std::make_shared<Servers>(std::move(runners));
  return lane;
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
      std::transform(lane.calls.begin(), others, std::back_inserter(calls), [](Queued& queued) {
        queued.call->leave_queue();
        return std::move(queued.call);
      });
      lane.calls.erase(lane.calls.begin(), others);
    }
    drop_mailbox(box);
  }
  std::erase_if(calls, has_ended);
  return calls;
}

void Dispatcher::close_mailbox_when_empty(MailboxId mailbox) {
  const std::lock_guard lock(mutex_);
  const auto found = mailboxes_.find(mailbox);
  if (found == mailboxes_.end()) return;
  found->second.closing = true;
  if (found->second.queued == 0) drop_mailbox(found->second);
}

bool Dispatcher::leave(MailboxId mailbox, std::size_t interpreter, Calls& calls) {
  std::vector<Seat*> roused;
  {
    const std::lock_guard lock(mutex_);
    const auto found = mailboxes_.find(mailbox);
    if (found == mailboxes_.end()) return true;
    Mailbox& box = found->second;
    Lane& before = *box.lane;
    Interpreters rest = *before.servers;
    if (std::erase(rest, interpreter) == 0) return false;
    std::vector<Queued> moved;
    const auto others = std::stable_partition(before.calls.begin(), before.calls.end(),
                                              [&box](const Queued& queued) { return queued.mailbox == &box; });
    std::move(before.calls.begin(), others, std::back_inserter(moved));
    before.calls.erase(before.calls.begin(), others);
    const auto has_retired = [this](std::size_t server) { return seats_[server].retired; };
    if (std::all_of(rest.begin(), rest.end(), has_retired)) {
      for (Queued& queued : moved) {
        queued.call->leave_queue();
        calls.push_back(std::move(queued.call));
      }
      drop_mailbox(box);
      return true;
    }
    Lane& after = lane_of(std::move(rest));
    ++after.mailboxes;
    box.lane = &after;
    const auto middle = static_cast<std::ptrdiff_t>(after.calls.size());
    std::move(moved.begin(), moved.end(), std::back_inserter(after.calls));
    std::inplace_merge(after.calls.begin(), after.calls.begin() + middle, after.calls.end(),
                       [](const Queued& left, const Queued& right) { return left.ticket < right.ticket; });
    if (--before.mailboxes == 0) drop_lane(before);
    disturb(box);  // who waits for room depends on others now
    while (Seat* seat = summon(after)) roused.push_back(seat);
    for (const std::size_t server : *after.servers) {
      if (!seats_[server].holders.empty()) roused.push_back(rouse(seats_[server]));
    }
  }
  std::for_each(roused.begin(), roused.end(), notify);
  return false;
}

void Dispatcher::drop_mailbox(Mailbox& mailbox) {
  Lane& lane = *mailbox.lane;
  disturb(mailbox);
  mailboxes_.erase(mailbox.id);
  if (--lane.mailboxes == 0) drop_lane(lane);
}

void Dispatcher::drop_mailboxes(const std::vector<Mailbox*>& mailboxes) {
  for (Mailbox* mailbox : mailboxes) drop_mailbox(*mailbox);
}

void Dispatcher::disturb(Mailbox& mailbox) noexcept {
  for (auto* word : {&mailbox.signals->room, &mailbox.signals->arrivals}) {
    word->fetch_add(1, std::memory_order_relaxed);
    futex_wake(*word, INT_MAX);
  }
}

bool Dispatcher::taken_from(Mailbox& mailbox) {
  --mailbox.queued;
  mailbox.signals->tell_of_room();
  return mailbox.closing && mailbox.queued == 0;
}

void Dispatcher::sweep(Mailbox& mailbox, Calls& ended) {
  const auto ended_here = mailbox.signals->ended.load();
  if (ended_here < kFewEnded || 2 * ended_here < static_cast<std::int64_t>(mailbox.queued)) return;
  std::erase_if(mailbox.lane->calls, [&](Queued& queued) {
    if (queued.mailbox != &mailbox || !has_ended(queued.call)) return false;
    queued.call->leave_queue();
    ended.push_back(std::move(queued.call));
    --mailbox.queued;
    return true;
  });
}

void Dispatcher::take_out(Lane& lane, bool all, Calls& calls, std::vector<Mailbox*>& emptied) {
  std::erase_if(lane.calls, [&](Queued& queued) {
    if (!all && waits_for_another(queued)) return false;
    queued.call->leave_queue();
    if (taken_from(*queued.mailbox)) emptied.push_back(queued.mailbox);
    calls.push_back(std::move(queued.call));
    return true;
  });
}

void Dispatcher::drop_lane(Lane& lane) {
  for (const std::size_t server : *lane.servers) {
    std::erase(seats_[server].lanes, &lane);
    if (seats_[server].claim == &lane) seats_[server].claim = nullptr;
  }
  lanes_.erase(lanes_.find(*lane.servers));
}

}  // namespace multipy
