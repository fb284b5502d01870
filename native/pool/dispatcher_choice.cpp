// Which call an interpreter takes next.
#include <algorithm>
#include <utility>

#include "pool/dispatcher.h"

namespace multipy {

namespace {

/// So many calls of one mailbox are taken one after the other, within so long a time, though others have older ones.
constexpr int kLongestRow = 8;
constexpr Clock::duration kRowTime = std::chrono::microseconds(100);

}  // namespace

std::pair<Dispatcher::Mailbox*, std::deque<Dispatcher::Queued>::iterator> Dispatcher::oldest_for(const Seat& seat,
                                                                                                 const Lane& lane,
                                                                                                 bool is_first) {
  if (seat.holders.empty()) {
    if (!seat.first.empty()) return {};
    for (const auto& [front, box] : lane.fronts) {
      if (!is_busy(seat, box->calls.front(), is_first)) return {box, box->calls.begin()};
    }
    return {};
  }
  std::pair<Mailbox*, std::deque<Queued>::iterator> oldest{};
  for (const auto& [front, box] : lane.fronts) {
    // A session within the session was queued because another interpreter was idle: it is for others to take.
    const auto first = std::find_if(box->calls.begin(), box->calls.end(), [&](const Queued& queued) {
      return (queued.session == 0 || lane.live == 1) && acts_in(*queued.call, seat) && !is_busy(seat, queued, is_first);
    });
    if (first != box->calls.end() && (oldest.first == nullptr || first->ticket < oldest.second->ticket))
      oldest = {box, first};
  }
  return oldest;
}

std::pair<Dispatcher::Mailbox*, std::deque<Dispatcher::Queued>::iterator> Dispatcher::next_in_row(const Seat& seat,
                                                                                                  const Desk& desk) {
  if (desk.row == 0 || desk.in_row >= kLongestRow || !seat.holders.empty() || !seat.first.empty()) return {};
  const auto in_order = [](const Lane* lane) { return lane->in_order > 0; };
  const auto found = mailboxes_.find(desk.row);
  if (found == mailboxes_.end() || !found->second.rows || std::ranges::any_of(seat.lanes, in_order)) return {};
  Mailbox& box = found->second;
  if (box.calls.empty() || box.calls.front().session != 0 || is_busy(seat, box.calls.front(), desk.main)) return {};
  if (std::ranges::find(seat.lanes, box.lane) == seat.lanes.end()) return {};
  if (Clock::now() - desk.row_began >= kRowTime) return {};
  return {&box, box.calls.begin()};
}

Dispatcher::Lane* Dispatcher::pick(Seat& seat, Desk& desk, Delivery& delivery, std::uint64_t& session, CallList& ended,
                                   Emptied& emptied) noexcept {
  while (true) {
    auto next = next_in_row(seat, desk);
    const bool in_row = next.first != nullptr;
    for (auto lane = seat.lanes.begin(); !in_row && lane != seat.lanes.end(); ++lane) {
      const auto oldest = oldest_for(seat, **lane, desk.main);
      if (oldest.first != nullptr && (next.first == nullptr || oldest.second->ticket < next.second->ticket))
        next = oldest;
    }
    Mailbox* const box = next.first;
    if (box == nullptr) return nullptr;
    Queued taken = box->take(next.second);
    const bool has_ended = taken.call->leave_queue();
    Lane* const lane = box->lane;
    if (taken_from(*box)) emptied.add(*box);
    if (!has_ended) {
      delivery = {Delivery::call_ready, box->id, std::move(taken.call)};
      session = taken.session;
      ++seat.taken;
      if (session == 0) {
        deliver(seat, desk, box->id, delivery.call);
        desk.in_row = in_row ? desk.in_row + 1 : 1;
        if (!in_row) {
          desk.row = box->id;
          desk.row_began = desk.started;
        }
        desk.expects_stall = box->stalls > 0;
        if (desk.expects_stall) --box->stalls;
      }
      return lane;
    }
    ended.push_back(std::move(taken.call));
  }
}

bool Dispatcher::take_first(Seat& seat, Desk& desk, Delivery& delivery, CallList& ended) noexcept {
  if (std::any_of(seat.desks.begin(), seat.desks.end(), [](const Desk* other) { return other->preparing != nullptr; }))
    return false;
  while (!seat.first.empty()) {
    auto call = std::move(seat.first.front());
    seat.first.pop_front();
    if (!has_ended(call)) {
      delivery = {Delivery::call_ready, 0, std::move(call)};
      desk.preparing = delivery.call->holdings();
      seat.holders.push_back(desk.preparing->session);
      deliver(seat, desk, 0, delivery.call);
      return true;
    }
    ended.push_back(std::move(call));
  }
  return false;
}

}  // namespace multipy
