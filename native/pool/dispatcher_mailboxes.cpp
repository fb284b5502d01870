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
    box.take_all([](const Queued&) { return true; },
                 [&](Queued& queued) {
                   queued.call->leave_queue();
                   calls.push_back(std::move(queued.call));
                 });
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
  if (found->second.calls.empty()) drop_mailbox(found->second);
}

bool Dispatcher::leave(MailboxId mailbox, std::size_t interpreter, Calls& calls) {
  std::vector<Desk*> roused;
  {
    const std::lock_guard lock(mutex_);
    const auto found = mailboxes_.find(mailbox);
    if (found == mailboxes_.end()) return true;
    Mailbox& box = found->second;
    Lane& before = *box.lane;
    Interpreters rest = *before.servers;
    if (std::erase(rest, interpreter) == 0) return false;
    const auto has_retired = [this](std::size_t server) { return seats_[server].retired; };
    if (std::all_of(rest.begin(), rest.end(), has_retired)) {
      box.take_all([](const Queued&) { return true; },
                   [&](Queued& queued) {
                     queued.call->leave_queue();
                     calls.push_back(std::move(queued.call));
                   });
      drop_mailbox(box);
      return true;
    }
    Lane& after = lane_of(std::move(rest));
    ++after.mailboxes;
    if (box.front) before.fronts.erase({*std::exchange(box.front, std::nullopt), &box});
    before.queued -= box.calls.size();
    after.queued += box.calls.size();
    box.lane = &after;
    box.settle();
    if (--before.mailboxes == 0) drop_lane(before);
    disturb(box);  // who waits for room depends on others now
    while (Desk* desk = summon(after)) roused.push_back(desk);
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
  mailbox.signals->tell_of_room();
  return mailbox.closing && mailbox.calls.empty();
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

Dispatcher::Queued Dispatcher::Mailbox::take(std::deque<Queued>::iterator place) {
  Queued taken = std::move(*place);
  calls.erase(place);
  --lane->queued;
  settle();
  return taken;
}

template <typename IsMeant, typename Receive>
void Dispatcher::Mailbox::take_all(IsMeant is_meant, Receive receive) {
  lane->queued -= std::erase_if(calls, [&](Queued& queued) {
    if (!is_meant(queued)) return false;
    receive(queued);
    return true;
  });
  settle();
}

void Dispatcher::sweep(Mailbox& mailbox, Calls& ended) {
  const auto ended_here = mailbox.signals->ended.load();
  if (ended_here < kFewEnded || 2 * ended_here < static_cast<std::int64_t>(mailbox.calls.size())) return;
  mailbox.take_all([](const Queued& queued) { return has_ended(queued.call); },
                   [&](Queued& queued) {
                     queued.call->leave_queue();
                     ended.push_back(std::move(queued.call));
                   });
}

void Dispatcher::take_out(Lane& lane, bool all, Calls& calls, std::vector<Mailbox*>& emptied) {
  std::vector<Mailbox*> boxes;
  for (const auto& [front, box] : lane.fronts) boxes.push_back(box);
  for (Mailbox* box : boxes) {
    box->take_all([&](const Queued& queued) { return all || !waits_for_another(*box, queued); },
                  [&](Queued& queued) {
                    queued.call->leave_queue();
                    box->signals->tell_of_room();
                    calls.push_back(std::move(queued.call));
                  });
    if (box->closing && box->calls.empty()) emptied.push_back(box);
  }
}

void Dispatcher::drop_lane(Lane& lane) {
  for (const std::size_t server : *lane.servers) {
    std::erase(seats_[server].lanes, &lane);
    if (seats_[server].claim == &lane) seats_[server].claim = nullptr;
  }
  lanes_.erase(lanes_.find(*lane.servers));
}

}  // namespace multipy
