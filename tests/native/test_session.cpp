// What a dispatcher hands to interpreters that sessions hold.
#include <doctest/doctest.h>

#include <memory>
#include <thread>
#include <vector>

#include "base/error.h"
#include "pool/dispatcher.h"
#include "posting.h"
#include "task/holding.h"

using multipy::Call;
using multipy::CallState;
using multipy::ClosedError;
using multipy::Dispatcher;
using multipy::Holding;
using multipy::Holdings;
using Delivery = Dispatcher::Delivery;

namespace {

/// What a session is to a dispatcher: the chain that its calls act in, and the call that asked for it.
struct Asked {
  Asked(Dispatcher& dispatcher, Dispatcher::MailboxId mailbox, std::uint64_t session, Holdings outer = nullptr)
      : holdings(std::make_shared<const Holding>(Holding{session, std::make_shared<std::atomic<bool>>(false), outer})),
        granted(make_call()) {
    granted->set_holdings(std::move(outer));
    dispatcher.request(mailbox, granted, session);
  }
  Holdings holdings;
  std::shared_ptr<Call> granted;
};

std::shared_ptr<Call> posted_in(Dispatcher& dispatcher, Dispatcher::MailboxId mailbox, const Holdings& holdings) {
  auto call = make_call();
  call->set_holdings(holdings);
  dispatcher.post(mailbox, call);
  return call;
}

/// Posted by somebody who acts in no session; this thread does, after it has taken a call of one.
std::shared_ptr<Call> posted_by_another(Dispatcher& dispatcher, Dispatcher::MailboxId mailbox) {
  std::shared_ptr<Call> call;
  std::thread([&] { call = posted(dispatcher, mailbox); }).join();
  return call;
}

/// Has interpreter 0 take the request before it, which take() does not deliver.
void grant(Dispatcher& dispatcher, Dispatcher::MailboxId mailbox, const Asked& asked) {
  const auto first = posted_in(dispatcher, mailbox, asked.holdings);
  REQUIRE(dispatcher.take(0).call == first);
  REQUIRE(asked.granted->state() == CallState::succeeded);
}

}  // namespace

TEST_CASE("a held interpreter takes the calls of its session first, and the others once it is let go") {
  Dispatcher dispatcher(1);
  const auto own = dispatcher.open_mailbox({0});
  const auto another = dispatcher.open_mailbox({0});
  const Asked asked(dispatcher, own, 7);
  grant(dispatcher, own, asked);
  CHECK(asked.granted->worker() == 0);
  CHECK(asked.granted->result().data == std::string("\xce\0\0\0\0", 5));

  const auto theirs = posted_by_another(dispatcher, own);
  const auto ours = posted_in(dispatcher, another, asked.holdings);
  CHECK(dispatcher.take(0).call == ours);
  CHECK(dispatcher.queued(own) == 1);
  dispatcher.release(7);
  CHECK(dispatcher.take(0).call == theirs);
}

TEST_CASE("a request waits its turn behind the calls before it, and those after it wait for the session's end") {
  Dispatcher dispatcher(1);
  const auto own = dispatcher.open_mailbox({0});
  const auto before = posted(dispatcher, own);
  const Asked asked(dispatcher, own, 7);
  const auto after = posted_by_another(dispatcher, own);
  const auto ours = posted_in(dispatcher, own, asked.holdings);
  CHECK(dispatcher.take(0).call == before);
  CHECK(asked.granted->state() == CallState::pending);
  CHECK(dispatcher.take(0).call == ours);
  dispatcher.release(7);
  CHECK(dispatcher.take(0).call == after);
}

TEST_CASE("what a call of the session posts acts in the session as well") {
  Dispatcher dispatcher(2);
  const auto first = dispatcher.open_mailbox({0});
  const auto second = dispatcher.open_mailbox({1});
  const Asked asked(dispatcher, first, 7);
  grant(dispatcher, first, asked);
  const auto outward = posted_in(dispatcher, second, asked.holdings);
  std::shared_ptr<Call> back;
  std::thread([&] {
    CHECK(dispatcher.take(1).call == outward);
    back = posted(dispatcher, first);
  }).join();
  posted_by_another(dispatcher, first);
  CHECK(dispatcher.take(0).call == back);
}

TEST_CASE("a session within a session gets the interpreter that is held already if no other is idle") {
  Dispatcher dispatcher(2);
  const auto both = dispatcher.open_mailbox({0, 1});
  const auto own = dispatcher.open_mailbox({0});
  const Asked outer(dispatcher, own, 7);
  grant(dispatcher, own, outer);
  const Asked inner(dispatcher, both, 8, outer.holdings);
  CHECK(inner.granted->state() == CallState::succeeded);
  CHECK(inner.granted->worker() == 0);

  const auto theirs = posted_by_another(dispatcher, own);
  dispatcher.release(8);
  const auto ours = posted_in(dispatcher, own, outer.holdings);
  CHECK(dispatcher.take(0).call == ours);
  dispatcher.release(7);
  CHECK(dispatcher.take(0).call == theirs);
}

TEST_CASE("a chain of sessions that begin before the last one ends does not grow") {
  Holdings chain;
  std::shared_ptr<std::atomic<bool>> last;
  for (std::uint64_t session = 1; session <= 100; ++session) {
    auto ended = std::make_shared<std::atomic<bool>>(false);
    chain = std::make_shared<const Holding>(Holding{session, ended, multipy::without_ended(chain)});
    if (last) *last = true;
    last = std::move(ended);
  }
  chain = multipy::without_ended(chain);
  REQUIRE(chain);
  CHECK(chain->session == 100);
  CHECK(chain->outer == nullptr);
}

TEST_CASE("a request that was taken back holds nobody") {
  Dispatcher dispatcher(1);
  const auto own = dispatcher.open_mailbox({0});
  const Asked asked(dispatcher, own, 7);
  CHECK(asked.granted->cancel());
  const auto call = posted(dispatcher, own);
  CHECK(dispatcher.take(0).call == call);
}

TEST_CASE("closing ends all holds, and requests still queued fail") {
  Dispatcher dispatcher(1);
  const auto own = dispatcher.open_mailbox({0});
  const Asked asked(dispatcher, own, 7);
  grant(dispatcher, own, asked);
  const Asked waiting(dispatcher, own, 8);
  const auto call = posted(dispatcher, own);
  dispatcher.close();
  CHECK(dispatcher.take(0).call == call);
  CHECK(waiting.granted->state() == CallState::failed);
  CHECK(dispatcher.take(0).kind == Delivery::closed);
  CHECK_THROWS_AS(Asked(dispatcher, own, 9), ClosedError);
}

TEST_CASE("sleeping workers serve sessions and other callers from many threads, and never both at once") {
  constexpr int kInterpreters = 3;
  constexpr int kThreads = 6;
  constexpr int kRounds = 200;
  Dispatcher dispatcher(kInterpreters);
  std::vector<Dispatcher::MailboxId> own;
  for (std::size_t i = 0; i < kInterpreters; ++i) own.push_back(dispatcher.open_mailbox({i}));
  const auto any = dispatcher.open_mailbox({0, 1, 2});
  std::atomic<std::uint64_t> holders[kInterpreters] = {};
  std::atomic<int> intruders = 0;

  std::vector<std::thread> workers;
  for (std::size_t i = 0; i < kInterpreters; ++i) {
    workers.emplace_back([&, i] {
      for (;;) {
        const Delivery delivery = dispatcher.take(i);
        if (delivery.kind == Delivery::closed) return;
        if (!delivery.call || !delivery.call->start()) continue;
        const auto holder = holders[i].load();
        const auto& holdings = delivery.call->holdings();
        if (holder != 0 && (!holdings || holdings->session != holder)) ++intruders;
        delivery.call->succeed({});
        dispatcher.finished(i, true);
      }
    });
  }
  std::atomic<std::uint64_t> next = 1;
  std::vector<std::thread> callers;
  for (int thread = 0; thread < kThreads; ++thread) {
    callers.emplace_back([&, thread] {
      for (int round = 0; round < kRounds; ++round) {
        if (thread % 2 == 0) {
          posted(dispatcher, any)->wait();
          continue;
        }
        const Asked asked(dispatcher, any, next++);
        asked.granted->wait();
        const auto index = static_cast<std::size_t>(asked.granted->worker());
        holders[index] = asked.holdings->session;
        posted_in(dispatcher, own[index], asked.holdings)->wait();
        posted_in(dispatcher, any, asked.holdings)->wait();
        holders[index] = 0;
        dispatcher.release(asked.holdings->session);
      }
    });
  }
  for (auto& caller : callers) caller.join();
  dispatcher.close();
  for (auto& worker : workers) worker.join();
  CHECK(intruders == 0);
}
