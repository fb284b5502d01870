// Mailboxes and the lanes they share: opened, moved, swept and dropped.
#include <algorithm>
#include <climits>
#include <iterator>
#include <utility>

#include "base/error.h"
#include "base/futex.h"
#include "base/room.h"
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
  const MailboxId id = next_mailbox_++;
  try {
    mailboxes_.emplace(id, Mailbox{.lane = &lane, .id = id, .limit = limit, .outlives = outlives});
  } catch (...) {
    if (lane.mailboxes == 0) drop_lane(lane);
    throw;
  }
  ++lane.mailboxes;
  return id;
}

Dispatcher::Lane& Dispatcher::lane_of(Interpreters interpreters) {
  if (const auto known = lanes_.find(interpreters); known != lanes_.end()) return known->second;
  Servers runners;
  for (const std::size_t server : interpreters) {
    if (const RunnerId runner = seats_[server].runner; runner != 0) runners.push_back(runner);
    make_room_in(seats_[server].lanes);
  }
  auto shared = runners.empty() ? nullptr : std::make_shared<Servers>(std::move(runners));
  const auto entry = lanes_.try_emplace(std::move(interpreters)).first;
  Lane& lane = entry->second;
  lane.servers = &entry->first;
  lane.runners = std::move(shared);
  lane.live = 0;
  for (const std::size_t server : entry->first) {
    if (seats_[server].retired) continue;
    ++lane.live;
    seats_[server].lanes.push_back(&lane);
  }
  return lane;
}

CallList Dispatcher::close_mailbox(MailboxId mailbox) noexcept {
  CallList calls;
  {
    const std::lock_guard lock(mutex_);
    const auto found = mailboxes_.find(mailbox);
    if (found == mailboxes_.end()) return calls;
    found->second.take_all([](const Queued&) { return true; }, calls);
    drop_mailbox(found->second);
  }
  calls.remove_if(has_ended);
  return calls;
}

void Dispatcher::close_mailbox_when_empty(MailboxId mailbox) noexcept {
  const std::lock_guard lock(mutex_);
  const auto found = mailboxes_.find(mailbox);
  if (found == mailboxes_.end()) return;
  found->second.closing = true;
  if (found->second.calls.empty()) drop_mailbox(found->second);
}

bool Dispatcher::leave(MailboxId mailbox, std::size_t interpreter, CallList& calls) {
  const std::lock_guard lock(mutex_);
  const auto found = mailboxes_.find(mailbox);
  if (found == mailboxes_.end()) return true;
  Mailbox& box = found->second;
  Lane& before = *box.lane;
  if (!std::ranges::binary_search(*before.servers, interpreter)) return false;
  const auto serves = [&](std::size_t server) { return server != interpreter && !seats_[server].retired; };
  if (std::ranges::none_of(*before.servers, serves)) {
    box.take_all([](const Queued&) { return true; }, calls);
    drop_mailbox(box);
    return true;
  }
  Interpreters rest = *before.servers;
  std::erase(rest, interpreter);
  Lane& after = lane_of(std::move(rest));
  ++after.mailboxes;
  if (box.front) after.fronts.insert(before.fronts.extract({*box.front, &box}));
  box.count(-std::ssize(box.calls));
  box.lane = &after;
  box.count(std::ssize(box.calls));
  if (--before.mailboxes == 0) drop_lane(before);
  disturb(box);  // who waits for room depends on others now
  while (Desk* desk = summon(after)) notify(desk);
  for (const std::size_t server : *after.servers) {
    if (!seats_[server].holders.empty()) notify(rouse(seats_[server]));
  }
  return false;
}

void Dispatcher::drop_mailbox(Mailbox& mailbox) noexcept {
  Lane& lane = *mailbox.lane;
  disturb(mailbox);
  mailboxes_.erase(mailbox.id);
  if (--lane.mailboxes == 0) drop_lane(lane);
}

void Dispatcher::drop_mailboxes(Emptied& emptied) noexcept {
  while (Mailbox* const mailbox = emptied.first) {
    emptied.first = mailbox->next_emptied;
    drop_mailbox(*mailbox);
  }
}

void Dispatcher::disturb(Mailbox& mailbox) noexcept {
  for (auto* word : {&mailbox.signals->room, &mailbox.signals->arrivals}) {
    word->fetch_add(1, std::memory_order_relaxed);
    futex_wake(*word, INT_MAX);
  }
}

bool Dispatcher::taken_from(Mailbox& mailbox) noexcept {
  mailbox.signals->tell_of_room();
  return mailbox.closing && mailbox.calls.empty();
}

void Dispatcher::allow_rows(MailboxId mailbox, bool allowed) noexcept {
  const std::lock_guard lock(mutex_);
  const auto found = mailboxes_.find(mailbox);
  if (found == mailboxes_.end()) return;
  Mailbox& box = found->second;
  box.count(-std::ssize(box.calls));
  box.rows = allowed;
  box.count(std::ssize(box.calls));
}

void Dispatcher::Mailbox::count(std::ptrdiff_t more) noexcept {
  lane->queued += static_cast<std::size_t>(more);
  if (!rows) lane->in_order += static_cast<std::size_t>(more);
}

void Dispatcher::Mailbox::settle() {
  const auto now = calls.empty() ? std::nullopt : std::optional(calls.front().ticket);
  if (now == front) return;
  auto& fronts = lane->fronts;
  if (!front) {
    fronts.emplace(*now, this);
  } else {
    auto entry = fronts.extract({*front, this});
    if (now) {
      entry.value().first = *now;
      fronts.insert(std::move(entry));
    }
  }
  front = now;
}

void Dispatcher::Mailbox::put(Queued& queued, bool first) {
  first ? calls.push_front(std::move(queued)) : calls.push_back(std::move(queued));
  try {
    settle();
  } catch (...) {
    queued = std::move(first ? calls.front() : calls.back());
    first ? calls.pop_front() : calls.pop_back();
    throw;
  }
  count(1);
}

Dispatcher::Queued Dispatcher::Mailbox::take(std::deque<Queued>::iterator place) noexcept {
  Queued taken = std::move(*place);
  calls.erase(place);
  count(-1);
  settle();
  return taken;
}

template <typename IsMeant>
void Dispatcher::Mailbox::take_all(IsMeant is_meant, CallList& taken) noexcept {
  count(-static_cast<std::ptrdiff_t>(std::erase_if(calls, [&](Queued& queued) {
    if (!is_meant(queued)) return false;
    queued.call->leave_queue();
    taken.push_back(std::move(queued.call));
    return true;
  })));
  settle();
}

void Dispatcher::sweep(Mailbox& mailbox, CallList& ended) noexcept {
  const auto ended_here = mailbox.signals->ended.load();
  if (ended_here < kFewEnded || 2 * ended_here < static_cast<std::int64_t>(mailbox.calls.size())) return;
  mailbox.take_all([](const Queued& queued) { return has_ended(queued.call); }, ended);
}

void Dispatcher::take_out(Lane& lane, bool all, CallList& calls, Emptied& emptied) noexcept {
  for (auto next = lane.fronts.begin(); next != lane.fronts.end();) {
    Mailbox& box = *next->second;
    ++next;  // what is left in this one may come further back, and is looked at again
    box.take_all([&](const Queued& queued) { return all || !waits_for_another(box, queued); }, calls);
    disturb(box);
    if (box.closing && box.calls.empty()) emptied.add(box);
  }
}

void Dispatcher::drop_lane(Lane& lane) noexcept {
  for (const std::size_t server : *lane.servers) {
    std::erase(seats_[server].lanes, &lane);
    for (Desk* desk : seats_[server].desks) {
      if (desk->claim == &lane) desk->claim = nullptr;
    }
  }
  lanes_.erase(lanes_.find(*lane.servers));
}

}  // namespace multipy
