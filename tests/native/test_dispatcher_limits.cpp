// Mailboxes with limits, those that end in one way or another, and workers that gather calls.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "pool/dispatcher.h"
#include "posting.h"

using multipy::Call;
using multipy::CallList;
using multipy::CallState;
using multipy::Clock;
using multipy::ClosedError;
using multipy::Dispatcher;
using multipy::FullError;
using multipy::WaitResult;
using namespace std::chrono_literals;

namespace {

std::shared_ptr<Call> more(Dispatcher& dispatcher, Dispatcher::MailboxId mailbox) {
  return dispatcher.take_more(0, mailbox, Clock::now());
}

/// Waits for room on a thread of its own. `begun` says that it is about to.
class Waiter {
 public:
  Waiter(Dispatcher& dispatcher, Dispatcher::MailboxId mailbox)
      : thread_([this, &dispatcher, mailbox] {
          begun_ = true;
          while (true) {
            try {
              dispatcher.post(mailbox, call);
              return;
            } catch (const FullError&) {
            } catch (const ClosedError&) {
              closed = true;
              return;
            }
            dispatcher.wait_for_room(mailbox, std::nullopt);
          }
        }) {
    while (!begun_) std::this_thread::yield();
  }
  ~Waiter() { join(); }
  void join() {
    if (thread_.joinable()) thread_.join();
  }

  const std::shared_ptr<Call> call = make_call();
  bool closed = false;

 private:
  std::atomic<bool> begun_ = false;
  std::thread thread_;
};

}  // namespace

TEST_CASE("a mailbox takes as many calls as its limit, and further ones as some are taken") {
  Dispatcher dispatcher(1);
  const auto mailbox = dispatcher.open_mailbox({0}, 2);
  const auto unlimited = dispatcher.open_mailbox({0});
  posted(dispatcher, mailbox);
  const auto second = posted(dispatcher, mailbox);
  CHECK_THROWS_WITH_AS(dispatcher.post(mailbox, make_call()), "there are 2 calls waiting already", FullError);
  CHECK(dispatcher.queued(mailbox) == 2);
  posted(dispatcher, unlimited);
  dispatcher.take(0);
  posted(dispatcher, mailbox);
  CHECK_THROWS_AS(dispatcher.post(mailbox, make_call()), FullError);
  // One that has ended does not count, though it is still in its place.
  second->cancel();
  CHECK(dispatcher.queued(mailbox) == 1);
  posted(dispatcher, mailbox);
  CHECK_THROWS_AS(dispatcher.post(mailbox, make_call()), FullError);
  dispatcher.post(mailbox, make_call(), false);
  CHECK(dispatcher.queued(mailbox) == 3);
}

TEST_CASE("a call that ends while it is queued does not count from then on, however it ends") {
  Dispatcher dispatcher(1);
  const auto mailbox = dispatcher.open_mailbox({0});
  const auto before = make_call();
  before->cancel();
  dispatcher.post(mailbox, before);
  const auto cancelled = posted(dispatcher, mailbox);
  const auto expired = posted(dispatcher, mailbox);
  const auto last = posted(dispatcher, mailbox);
  CHECK(dispatcher.queued(mailbox) == 3);
  CHECK(cancelled->cancel());
  expired->expire();
  CHECK(dispatcher.queued(mailbox) == 1);
  CHECK(dispatcher.statistics(0).queued == 1);
  SUBCASE("and is passed over") {
    CHECK(dispatcher.take(0).call == last);
    CHECK(dispatcher.queued(mailbox) == 0);
    // It has left the queue, so it is nobody's any more.
    CHECK(last->cancel());
    posted(dispatcher, mailbox);
    CHECK(dispatcher.queued(mailbox) == 1);
  }
  SUBCASE("and is gathered by nobody") {
    CHECK(more(dispatcher, mailbox) == last);
    CHECK(more(dispatcher, mailbox) == nullptr);
    CHECK(dispatcher.queued(mailbox) == 0);
  }
  SUBCASE("and goes with the others") {
    CHECK(all_of(dispatcher.cancel_pending()) == ListedCalls{last});
    CHECK(dispatcher.queued(mailbox) == 0);
    posted(dispatcher, mailbox);
    CHECK(dispatcher.queued(mailbox) == 1);
  }
}

TEST_CASE("calls that were cancelled do not pile up in a mailbox that nobody empties") {
  Dispatcher dispatcher(1);
  const auto mailbox = dispatcher.open_mailbox({0}, 2);
  const auto first = posted(dispatcher, mailbox);
  std::vector<std::weak_ptr<Call>> cancelled;
  for (int round = 0; round < 10'000; ++round) {
    const auto call = posted(dispatcher, mailbox);
    cancelled.push_back(call);
    call->cancel();
  }
  const auto kept = std::count_if(cancelled.begin(), cancelled.end(), [](const auto& call) { return !call.expired(); });
  CHECK(kept < 100);
  CHECK(dispatcher.take(0).call == first);
  CHECK(dispatcher.queued(mailbox) == 0);
}

TEST_CASE("who waits for room is woken when a call that waits is cancelled") {
  for (int round = 0; round < 100; ++round) {
    Dispatcher dispatcher(1);
    const auto mailbox = dispatcher.open_mailbox({0}, 1);
    const auto first = posted(dispatcher, mailbox);
    Waiter waiter(dispatcher, mailbox);
    if (round % 2 == 0) first->cancel();
    if (round % 2 == 1) first->expire();
    waiter.join();
    CHECK(dispatcher.take(0).call == waiter.call);
  }
}

TEST_CASE("calls are cancelled, posted and taken by many threads, and the count is right in the end") {
  for (int round = 0; round < 20; ++round) {
    Dispatcher dispatcher(2);
    const auto mailbox = dispatcher.open_mailbox({0, 1}, 3);
    std::vector<std::thread> threads;
    std::atomic<int> left = 3;
    for (int poster = 0; poster < 3; ++poster) {
      threads.emplace_back([&] {
        for (int index = 0; index < 300; ++index) {
          const auto call = make_call();
          while (true) {
            try {
              dispatcher.post(mailbox, call);
              break;
            } catch (const FullError&) {
              dispatcher.wait_for_room(mailbox, std::nullopt);
            }
          }
          if (index % 3 != 0) call->cancel();
        }
        if (--left == 0) dispatcher.close();
      });
    }
    for (const std::size_t worker : {0u, 1u}) {
      threads.emplace_back([&, worker] {
        while (dispatcher.take(worker).kind != Dispatcher::Delivery::closed) {
        }
      });
    }
    for (auto& thread : threads) thread.join();
    CHECK(dispatcher.queued(mailbox) == 0);
    CHECK(dispatcher.statistics(0).queued_shared == 0);
  }
}

TEST_CASE("nobody waits for room where there is some, no limit, no mailbox or no more posts") {
  Dispatcher dispatcher(2);
  const auto mailbox = dispatcher.open_mailbox({0}, 1);
  const auto unlimited = dispatcher.open_mailbox({0});
  posted(dispatcher, unlimited);
  CHECK(dispatcher.wait_for_room(mailbox, std::nullopt) == WaitResult::woken);
  CHECK(dispatcher.wait_for_room(unlimited, std::nullopt) == WaitResult::woken);
  CHECK(dispatcher.wait_for_room(99, std::nullopt) == WaitResult::woken);
  posted(dispatcher, mailbox);
  CHECK(dispatcher.wait_for_room(mailbox, Clock::now()) == WaitResult::timed_out);
  CHECK(dispatcher.wait_for_room(mailbox, Clock::now() + 1ms) == WaitResult::timed_out);
  SUBCASE("closed") { dispatcher.close(); }
  SUBCASE("retired") { dispatcher.retire(0); }
  CHECK(dispatcher.wait_for_room(mailbox, std::nullopt) == WaitResult::woken);
}

TEST_CASE("those who wait for room get it one after the other") {
  for (int round = 0; round < 50; ++round) {
    Dispatcher dispatcher(1);
    const auto mailbox = dispatcher.open_mailbox({0}, 1);
    posted(dispatcher, mailbox);
    std::vector<std::unique_ptr<Waiter>> waiters;
    for (int index = 0; index < 4; ++index) waiters.push_back(std::make_unique<Waiter>(dispatcher, mailbox));
    for (int taken = 0; taken < 5; ++taken) {
      CHECK(dispatcher.take(0).call != nullptr);
      CHECK(dispatcher.queued(mailbox) <= 1);
    }
  }
}

TEST_CASE("whatever ends a mailbox ends the wait for room in it") {
  for (int round = 0; round < 100; ++round) {
    Dispatcher dispatcher(2);
    const auto mailbox = dispatcher.open_mailbox({0}, 1);
    posted(dispatcher, mailbox);
    {
      Waiter first(dispatcher, mailbox);
      Waiter second(dispatcher, mailbox);
      CallList calls;
      if (round % 5 == 0) dispatcher.close_mailbox(mailbox);
      if (round % 5 == 1) dispatcher.leave(mailbox, 0, calls);
      if (round % 5 == 2) dispatcher.close();
      if (round % 5 == 3) dispatcher.retire(0);
      if (round % 5 == 4) {
        dispatcher.close();
        dispatcher.cancel_pending();
      }
      first.join();
      second.join();
      CHECK(first.closed);
      CHECK(second.closed);
    }
  }
}

TEST_CASE("a mailbox that closes when it is empty delivers what it has and accepts no more") {
  Dispatcher dispatcher(1);
  const auto mailbox = dispatcher.open_mailbox({0});
  const auto other = dispatcher.open_mailbox({0});
  const auto first = posted(dispatcher, mailbox);
  const auto between = posted(dispatcher, other);
  const auto cancelled = posted(dispatcher, mailbox);
  const auto last = posted(dispatcher, mailbox);
  cancelled->cancel();
  dispatcher.close_mailbox_when_empty(mailbox);
  CHECK_THROWS_AS(dispatcher.post(mailbox, make_call()), ClosedError);
  for (const auto& call : {first, between}) CHECK(dispatcher.take(0).call == call);
  CHECK(dispatcher.queued(mailbox) == 1);
  CHECK(dispatcher.take(0).call == last);
  CHECK(dispatcher.servers(mailbox).empty());
  dispatcher.close_mailbox_when_empty(mailbox);
  dispatcher.close_mailbox_when_empty(other);
  CHECK(dispatcher.servers(other).empty());
  CHECK_THROWS_AS(dispatcher.post(other, make_call()), ClosedError);
}

TEST_CASE("a closing mailbox goes with its last call, however that goes") {
  Dispatcher dispatcher(2);
  const auto mailbox = dispatcher.open_mailbox({0});
  const auto call = posted(dispatcher, mailbox);
  posted(dispatcher, mailbox)->cancel();
  dispatcher.close_mailbox_when_empty(mailbox);
  SUBCASE("gathered") {
    CHECK(more(dispatcher, mailbox) == call);
    CHECK(more(dispatcher, mailbox) == nullptr);
  }
  SUBCASE("cancelled") { CHECK(all_of(dispatcher.cancel_pending()) == ListedCalls{call}); }
  SUBCASE("stranded") { CHECK(all_of(dispatcher.retire(0)) == ListedCalls{call}); }
  SUBCASE("given back") { CHECK(all_of(dispatcher.close_mailbox(mailbox)) == ListedCalls{call}); }
  CHECK(dispatcher.servers(mailbox).empty());
  CHECK(dispatcher.queued(mailbox) == 0);
}

TEST_CASE("who leaves a mailbox is handed nothing of it; the others get it in its order") {
  Dispatcher dispatcher(3);
  const auto mailbox = dispatcher.open_mailbox({0, 1, 2});
  const auto fellow = dispatcher.open_mailbox({0, 1, 2});
  const auto rest = dispatcher.open_mailbox({1, 2});
  std::vector<std::shared_ptr<Call>> calls;
  for (const auto where : {rest, mailbox, fellow, rest, mailbox, rest}) calls.push_back(posted(dispatcher, where));
  CallList stranded;
  CHECK_FALSE(dispatcher.leave(mailbox, 0, stranded));
  CHECK(stranded.empty());
  CHECK(dispatcher.servers(mailbox) == std::vector<std::size_t>{1, 2});
  CHECK(dispatcher.take(0).call == calls[2]);
  for (const std::size_t index : {0u, 1u, 3u, 4u, 5u}) CHECK(dispatcher.take(1 + index % 2).call == calls[index]);
  CHECK_FALSE(dispatcher.leave(mailbox, 0, stranded));
  CHECK_FALSE(dispatcher.leave(mailbox, 2, stranded));
  const auto last = posted(dispatcher, mailbox);
  CHECK(dispatcher.leave(mailbox, 1, stranded));
  CHECK(all_of(stranded) == ListedCalls{last});
  CHECK(last->state() == CallState::pending);
  CHECK_THROWS_AS(dispatcher.post(mailbox, make_call()), ClosedError);
  CHECK(dispatcher.leave(mailbox, 1, stranded));
}

TEST_CASE("who leaves last of those that have not retired takes the mailbox along") {
  Dispatcher dispatcher(2);
  const auto mailbox = dispatcher.open_mailbox({0, 1});
  const auto call = posted(dispatcher, mailbox);
  CHECK(dispatcher.retire(1).empty());
  CallList stranded;
  CHECK(dispatcher.leave(mailbox, 0, stranded));
  CHECK(all_of(stranded) == ListedCalls{call});
}

TEST_CASE("what is left to others wakes them") {
  for (int round = 0; round < 200; ++round) {
    Dispatcher dispatcher(2);
    const auto mailbox = dispatcher.open_mailbox({0, 1});
    const auto only_first = dispatcher.open_mailbox({0});
    std::thread worker([&] {
      const auto delivery = dispatcher.take(1);
      if (delivery.call && delivery.call->start()) delivery.call->succeed({});
    });
    while (dispatcher.idle() == 0) std::this_thread::yield();
    // The sleeper is woken for the first call at once or, should it have left by then, when the other leaves.
    posted(dispatcher, only_first);
    const auto call = make_call();
    CallList stranded;
    if (round % 2 == 0) dispatcher.post(mailbox, call);
    CHECK_FALSE(dispatcher.leave(mailbox, 0, stranded));
    if (round % 2 == 1) dispatcher.post(mailbox, call);
    call->wait();
    worker.join();
    CHECK(call->worker() == 1);
  }
}

TEST_CASE("a worker gathers calls of one mailbox past those of others, and no more than there are") {
  Dispatcher dispatcher(2);
  const auto mailbox = dispatcher.open_mailbox({0, 1}, 5);
  const auto other = dispatcher.open_mailbox({0, 1});
  std::vector<std::shared_ptr<Call>> calls;
  for (const auto where : {mailbox, other, mailbox, mailbox, other, mailbox})
    calls.push_back(posted(dispatcher, where));
  calls[3]->cancel();
  CHECK(dispatcher.take(0).call == calls[0]);
  CHECK(more(dispatcher, mailbox) == calls[2]);
  CHECK(more(dispatcher, mailbox) == calls[5]);
  CHECK(calls[5]->worker() == 0);
  CHECK(more(dispatcher, mailbox) == nullptr);
  CHECK(more(dispatcher, 99) == nullptr);
  CHECK(dispatcher.queued(mailbox) == 0);
  CHECK(dispatcher.take(1).call == calls[1]);
  CHECK(dispatcher.take(0).call == calls[4]);
}

TEST_CASE("a worker that gathers makes room, waits for arrivals, and gives up in time or when all ends") {
  for (int round = 0; round < 60; ++round) {
    Dispatcher dispatcher(1);
    const auto mailbox = dispatcher.open_mailbox({0}, 1);
    posted(dispatcher, mailbox);
    Waiter waiter(dispatcher, mailbox);
    CHECK(dispatcher.take(0).call != nullptr);
    std::shared_ptr<Call> second = dispatcher.take_more(0, mailbox, Clock::now() + 60s);
    CHECK(second == waiter.call);
    waiter.join();
    CHECK(dispatcher.take_more(0, mailbox, Clock::now() + 100us) == nullptr);
    std::thread gatherer([&] { second = dispatcher.take_more(0, mailbox, Clock::now() + 60s); });
    std::shared_ptr<Call> third;
    if (round % 3 == 0) third = posted(dispatcher, mailbox);
    if (round % 3 == 1) dispatcher.close();
    if (round % 3 == 2) dispatcher.close_mailbox(mailbox);
    gatherer.join();
    CHECK(second == third);
  }
}

TEST_CASE("mailboxes end and are left while calls are posted and taken, and no call is lost") {
  constexpr int posters = 3;
  constexpr int each = 300;
  for (int round = 0; round < 10; ++round) {
    Dispatcher dispatcher(3);
    const auto mailbox = dispatcher.open_mailbox({0, 1, 2}, 8);
    std::atomic<int> ran = 0;
    std::atomic<int> refused = 0;
    std::vector<std::thread> threads;
    for (std::size_t index = 0; index < 3; ++index) {
      threads.emplace_back([&dispatcher, &ran, index] {
        while (true) {
          const auto delivery = dispatcher.take(index);
          if (delivery.kind == Dispatcher::Delivery::closed) return;
          if (!delivery.call || !delivery.call->start()) continue;
          delivery.call->succeed({});
          ++ran;
        }
      });
    }
    std::vector<std::thread> callers;
    for (int poster = 0; poster < posters; ++poster) {
      callers.emplace_back([&] {
        for (int number = 0; number < each;) {
          try {
            dispatcher.post(mailbox, make_call());
            ++number;
          } catch (const FullError&) {
            dispatcher.wait_for_room(mailbox, std::nullopt);
          } catch (const ClosedError&) {
            ++refused;
            ++number;
          }
        }
      });
    }
    CallList stranded;
    CHECK_FALSE(dispatcher.leave(mailbox, 1, stranded));
    CHECK_FALSE(dispatcher.leave(mailbox, 0, stranded));
    if (round % 2 == 0) CHECK(dispatcher.leave(mailbox, 2, stranded));
    if (round % 2 == 1) dispatcher.close_mailbox_when_empty(mailbox);
    for (auto& caller : callers) caller.join();
    dispatcher.close();
    for (auto& thread : threads) thread.join();
    CHECK(ran + refused + static_cast<int>(stranded.size()) == posters * each);
  }
}
