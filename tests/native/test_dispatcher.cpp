// What a dispatcher hands to whom, seen from one thread: everything here is posted before it is taken.
#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <thread>
#include <vector>

#include "base/error.h"
#include "pool/dispatcher.h"
#include "posting.h"

using multipy::Attachment;
using multipy::Call;
using multipy::CallList;
using multipy::CallState;
using multipy::Clock;
using multipy::ClosedError;
using multipy::Dispatcher;
using Delivery = Dispatcher::Delivery;
using namespace std::chrono_literals;

TEST_CASE("a worker is handed the call, its mailbox, and is noted as its worker") {
  Dispatcher dispatcher(2);
  const auto mailbox = dispatcher.open_mailbox({1});
  const auto call = posted(dispatcher, mailbox);
  CHECK(dispatcher.queued(mailbox) == 1);
  const Delivery delivery = dispatcher.take(1);
  CHECK(delivery.kind == Delivery::call_ready);
  CHECK(delivery.mailbox == mailbox);
  CHECK(delivery.call == call);
  CHECK(call->worker() == 1);
  CHECK(call->state() == CallState::pending);
  CHECK(dispatcher.queued(mailbox) == 0);
}

TEST_CASE("of all its mailboxes, a worker is handed the oldest call") {
  Dispatcher dispatcher(2);
  const auto own = dispatcher.open_mailbox({0});
  const auto another = dispatcher.open_mailbox({0});
  const auto shared = dispatcher.open_mailbox({1, 0, 1});
  std::vector<std::shared_ptr<Call>> calls;
  for (const auto mailbox : {shared, own, another}) calls.push_back(posted(dispatcher, mailbox));
  for (const auto& call : calls) CHECK(dispatcher.take(0).call == call);
}

TEST_CASE("of one mailbox a few calls are taken in a row, and then the oldest of all") {
  Dispatcher dispatcher(1);
  const auto first = dispatcher.open_mailbox({0});
  const auto second = dispatcher.open_mailbox({0});
  for (const auto mailbox : {first, second}) dispatcher.allow_rows(mailbox, true);
  posted(dispatcher, first);
  const auto older = posted(dispatcher, second);
  for (int i = 0; i < 100; ++i) posted(dispatcher, first);
  int in_row = 0;
  while (dispatcher.take(0).call != older) ++in_row;
  CHECK(in_row >= 1);
  CHECK(in_row <= 8);
}

TEST_CASE("no row goes on after a call that took long, nor where it must not") {
  Dispatcher dispatcher(2);
  const auto first = dispatcher.open_mailbox({0, 1});
  const auto second = dispatcher.open_mailbox({0});
  for (const auto mailbox : {first, second}) dispatcher.allow_rows(mailbox, true);
  posted(dispatcher, first);
  const auto older = posted(dispatcher, second);
  const auto last = posted(dispatcher, first);
  dispatcher.take(0);
  SUBCASE("it took long") {
    std::this_thread::sleep_for(1ms);
    CHECK(dispatcher.take(0).call == older);
  }
  SUBCASE("others must not be passed") {
    dispatcher.allow_rows(second, false);
    CHECK(dispatcher.take(0).call == older);
  }
  SUBCASE("it must not pass others") {
    dispatcher.allow_rows(first, false);
    CHECK(dispatcher.take(0).call == older);
  }
  SUBCASE("it has been left") {
    CallList calls;
    CHECK_FALSE(dispatcher.leave(first, 0, calls));
    CHECK(dispatcher.take(0).call == older);
    CHECK(dispatcher.take(1).call == last);
  }
}

TEST_CASE("a worker is not handed what others serve") {
  Dispatcher dispatcher(2);
  const auto theirs = dispatcher.open_mailbox({0});
  const auto mine = dispatcher.open_mailbox({1});
  posted(dispatcher, theirs);
  const auto call = posted(dispatcher, mine);
  CHECK(dispatcher.take(1).call == call);
}

TEST_CASE("a call that ended in the queue is skipped") {
  Dispatcher dispatcher(1);
  const auto mailbox = dispatcher.open_mailbox({0});
  posted(dispatcher, mailbox)->cancel();
  posted(dispatcher, mailbox)->abandon({});
  const auto call = posted(dispatcher, mailbox);
  CHECK(dispatcher.take(0).call == call);
  CHECK(dispatcher.queued(mailbox) == 0);
}

TEST_CASE("housekeeping goes before calls, once per batch of wakes, and loses none of them") {
  Dispatcher dispatcher(1);
  const auto mailbox = dispatcher.open_mailbox({0});
  const auto call = posted(dispatcher, mailbox);
  dispatcher.wake(0);
  dispatcher.wake(0);
  CHECK(dispatcher.take(0).kind == Delivery::woken);
  CHECK(dispatcher.take(0).call == call);
}

TEST_CASE("after close nothing is accepted, what is queued is delivered, and then all workers are told") {
  Dispatcher dispatcher(2);
  const auto mailbox = dispatcher.open_mailbox({0});
  const auto call = posted(dispatcher, mailbox);
  dispatcher.close();
  CHECK_THROWS_AS(dispatcher.post(mailbox, make_call()), ClosedError);
  CHECK_THROWS_AS(dispatcher.open_mailbox({0}), ClosedError);
  CHECK(dispatcher.take(1).kind == Delivery::closed);
  CHECK(dispatcher.take(0).call == call);
  CHECK(dispatcher.take(0).kind == Delivery::closed);
  dispatcher.wake(0);
  CHECK(dispatcher.take(0).kind == Delivery::woken);
  CHECK(dispatcher.take(0).kind == Delivery::closed);
}

TEST_CASE("a mailbox needs interpreters that exist") {
  Dispatcher dispatcher(2);
  CHECK_THROWS_AS(dispatcher.open_mailbox({}), multipy::Error);
  CHECK_THROWS_WITH_AS(dispatcher.open_mailbox({0, 2}), "there is no interpreter 2, only 2", multipy::Error);
}

TEST_CASE("a closed mailbox gives its pending calls back and leaves those of others in order") {
  Dispatcher dispatcher(1);
  const auto closing = dispatcher.open_mailbox({0});
  const auto staying = dispatcher.open_mailbox({0});
  const auto first = posted(dispatcher, staying);
  const auto returned = posted(dispatcher, closing);
  const auto second = posted(dispatcher, staying);
  posted(dispatcher, closing)->cancel();
  const auto calls = dispatcher.close_mailbox(closing);
  REQUIRE(calls.size() == 1);
  CHECK(calls.front() == returned);
  CHECK(returned->state() == CallState::pending);
  CHECK_THROWS_AS(dispatcher.post(closing, make_call()), ClosedError);
  CHECK(dispatcher.close_mailbox(closing).empty());
  CHECK(dispatcher.queued(closing) == 0);
  CHECK(dispatcher.take(0).call == first);
  CHECK(dispatcher.take(0).call == second);
}

TEST_CASE("all pending calls can be cancelled at once, whatever their mailbox") {
  Dispatcher dispatcher(2);
  const auto own = dispatcher.open_mailbox({0});
  const auto shared = dispatcher.open_mailbox({0, 1});
  const auto running = posted(dispatcher, own);
  REQUIRE(dispatcher.take(0).call->start());
  std::vector<std::shared_ptr<Call>> calls{posted(dispatcher, own), posted(dispatcher, shared)};
  posted(dispatcher, shared)->cancel();
  auto cancelled = all_of(dispatcher.cancel_pending());
  std::sort(calls.begin(), calls.end());
  std::sort(cancelled.begin(), cancelled.end());
  CHECK(cancelled == calls);
  for (const auto& call : calls) CHECK(call->state() == CallState::cancelled);
  CHECK(running->state() == CallState::running);
  CHECK(dispatcher.queued(own) + dispatcher.queued(shared) == 0);
}

TEST_CASE("a retired interpreter is handed nothing; only calls nobody else can serve come back") {
  Dispatcher dispatcher(2);
  const auto own = dispatcher.open_mailbox({0});
  const auto shared = dispatcher.open_mailbox({0, 1});
  const auto stranded = posted(dispatcher, own);
  const auto served = posted(dispatcher, shared);
  const auto calls = dispatcher.retire(0);
  REQUIRE(calls.size() == 1);
  CHECK(calls.front() == stranded);
  CHECK(dispatcher.take(0).kind == Delivery::closed);
  CHECK_THROWS_AS(dispatcher.post(own, make_call()), ClosedError);
  CHECK_THROWS_AS(dispatcher.open_mailbox({0}), ClosedError);
  CHECK(dispatcher.take(1).call == served);
  CHECK(dispatcher.retire(0).empty());
  CHECK(dispatcher.statistics(1).queued == 0);
  posted(dispatcher, dispatcher.open_mailbox({0, 1}));
  CHECK(dispatcher.statistics(1).queued == 1);
  CHECK(dispatcher.retire(1).size() == 1);
  CHECK_THROWS_AS(dispatcher.post(shared, make_call()), ClosedError);
}

TEST_CASE("a mailbox can be opened again and again, on the same interpreters or others") {
  Dispatcher dispatcher(3);
  for (int round = 0; round < 100; ++round) {
    const auto mailbox =
        dispatcher.open_mailbox(round % 2 == 0 ? std::vector<std::size_t>{0, 2} : std::vector<std::size_t>{2});
    const auto call = posted(dispatcher, mailbox);
    CHECK(dispatcher.take(2).call == call);
    CHECK(dispatcher.close_mailbox(mailbox).empty());
  }
}

TEST_CASE("statistics count what ran, what failed and what waits, alone or shared") {
  Dispatcher dispatcher(2);
  const auto own = dispatcher.open_mailbox({0});
  const auto shared = dispatcher.open_mailbox({0, 1});
  for (const bool ok : {true, false, true}) {
    posted(dispatcher, own);
    dispatcher.take(0);
    dispatcher.finished(0, ok);
  }
  posted(dispatcher, own);
  posted(dispatcher, own);
  posted(dispatcher, shared);
  const auto statistics = dispatcher.statistics(0);
  CHECK(statistics.done == 3);
  CHECK(statistics.failed == 1);
  CHECK(statistics.queued == 2);
  CHECK(statistics.queued_shared == 1);
  CHECK(dispatcher.statistics(1).queued == 0);
  CHECK(dispatcher.statistics(1).queued_shared == 1);
  CHECK(dispatcher.statistics(1).busy == std::chrono::nanoseconds(0));
  CHECK_THROWS_AS(dispatcher.statistics(2), multipy::Error);
}

TEST_CASE("an interpreter is busy with a call that it has taken, until it comes for the next or has ended") {
  Dispatcher dispatcher(1);
  const auto own = dispatcher.open_mailbox({0});
  const auto busy = [&dispatcher] { return dispatcher.statistics(0).busy; };
  const auto grows = [&busy] {
    const auto before = busy();
    for (const auto end = Clock::now() + std::chrono::milliseconds(20); Clock::now() < end;) {
      if (busy() > before) return true;
    }
    return false;
  };
  dispatcher.wake(0);
  CHECK(dispatcher.take(0).kind == Dispatcher::Delivery::woken);
  CHECK(busy() == std::chrono::nanoseconds(0));
  posted(dispatcher, own);
  dispatcher.take(0);
  CHECK(grows());
  dispatcher.wake(0);
  CHECK(dispatcher.take(0).kind == Dispatcher::Delivery::woken);
  CHECK(!grows());
  posted(dispatcher, own);
  dispatcher.take(0);
  dispatcher.retire(0);
  CHECK(!grows());
  CHECK(busy() > std::chrono::nanoseconds(0));
}

TEST_CASE("a dropped call may come back as a wake while the dispatcher is at work") {
  // A cancelled call's last reference is the queue's; its attachment wakes the worker that skips it, as the
  // release of a tensor does.
  struct Waker : Attachment {
    explicit Waker(Dispatcher& target) : dispatcher(target) {}
    ~Waker() override { dispatcher.wake(0); }
    Dispatcher& dispatcher;
  };
  Dispatcher dispatcher(1);
  const auto mailbox = dispatcher.open_mailbox({0});
  auto first = posted(dispatcher, mailbox);
  first->start();
  first->succeed({{}, {std::make_shared<Waker>(dispatcher)}});
  first.reset();
  const auto second = posted(dispatcher, mailbox);
  CHECK(dispatcher.take(0).call == second);
  CHECK(dispatcher.take(0).kind == Delivery::woken);
}
