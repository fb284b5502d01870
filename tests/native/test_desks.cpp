// Several threads of one interpreter that take calls: who is at work, who makes room, what an actor keeps apart.
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "pool/dispatcher.h"
#include "posting.h"

using multipy::Call;
using multipy::Dispatcher;
using namespace std::chrono_literals;

namespace {

std::shared_ptr<Call> post_for(Dispatcher& dispatcher, Dispatcher::MailboxId mailbox, std::uint64_t actor) {
  auto call = std::make_shared<Call>(multipy::Payload{});
  call->set_actor(actor);
  dispatcher.post(mailbox, call);
  return call;
}

/// A thread that takes the next call at a desk of its own, as soon as it can.
class Taker {
 public:
  explicit Taker(Dispatcher& dispatcher)
      : desk(0, false), thread_([this, &dispatcher] {
          delivery = dispatcher.take(0, desk);
          took = true;
        }) {}
  ~Taker() {
    if (thread_.joinable()) thread_.join();
  }
  void join() { thread_.join(); }

  Dispatcher::Desk desk;
  Dispatcher::Delivery delivery;
  std::atomic<bool> took = false;

 private:
  std::thread thread_;
};

/// Uses the CPU for about so long.
void compute(std::chrono::milliseconds time) {
  const auto end = std::chrono::steady_clock::now() + time;
  while (std::chrono::steady_clock::now() < end) {
  }
}

}  // namespace

TEST_CASE("functions are taken one at a time, but for those that wait") {
  Dispatcher dispatcher(1);
  const auto mailbox = dispatcher.open_mailbox({0});
  Dispatcher::Desk first;
  post_for(dispatcher, mailbox, 0);
  const auto second = post_for(dispatcher, mailbox, 0);
  CHECK(dispatcher.take(0, first).call != second);
  Taker other(dispatcher);
  std::this_thread::sleep_for(100ms);
  CHECK_FALSE(other.took);
  CHECK(dispatcher.step_aside(0, first));
  other.join();
  CHECK(other.delivery.call == second);
  dispatcher.step_back(0, first);
  dispatcher.close();
}

TEST_CASE("who steps aside says whether there is somebody to take calls") {
  Dispatcher dispatcher(1);
  const auto mailbox = dispatcher.open_mailbox({0});
  Dispatcher::Desk first;
  Dispatcher::Desk second(0, false);
  post_for(dispatcher, mailbox, 0);
  dispatcher.take(0, first);
  CHECK_FALSE(dispatcher.step_aside(0, first));
  CHECK(dispatcher.step_aside(0, first));  // it has already
  post_for(dispatcher, mailbox, 0);
  CHECK(dispatcher.take(0, second).kind == Dispatcher::Delivery::call_ready);
  CHECK_FALSE(dispatcher.step_aside(0, second));
  dispatcher.step_back(0, second);
  dispatcher.step_back(0, first);
}

TEST_CASE("an actor whose call waits is called by nobody else, and others before and after it are") {
  Dispatcher dispatcher(1);
  const auto own = dispatcher.open_mailbox({0});
  const auto busy = dispatcher.open_mailbox({0});
  const auto other = dispatcher.open_mailbox({0});
  Dispatcher::Desk first;
  Dispatcher::Desk second(0, false);
  post_for(dispatcher, busy, 1);
  dispatcher.take(0, first);
  dispatcher.step_aside(0, first);
  const auto later = post_for(dispatcher, busy, 1);
  const auto function = post_for(dispatcher, own, 0);
  const auto others = post_for(dispatcher, other, 2);
  CHECK(dispatcher.take(0, second).call == function);
  CHECK(dispatcher.take(0, second).call == others);
  dispatcher.step_aside(0, second);
  dispatcher.step_back(0, first);
  CHECK(dispatcher.take(0, first).call == later);
}

TEST_CASE("two mailboxes of one actor are kept apart from each other") {
  Dispatcher dispatcher(1);
  const auto any = dispatcher.open_mailbox({0});
  const auto pinned = dispatcher.open_mailbox({0});
  Dispatcher::Desk first;
  Dispatcher::Desk second(0, false);
  post_for(dispatcher, any, 1);
  dispatcher.take(0, first);
  dispatcher.step_aside(0, first);
  post_for(dispatcher, pinned, 1);
  const auto function = post_for(dispatcher, dispatcher.open_mailbox({0}), 0);
  CHECK(dispatcher.take(0, second).call == function);
}

TEST_CASE("the first thread of an interpreter is the last to be told of the end") {
  Dispatcher dispatcher(1);
  const auto mailbox = dispatcher.open_mailbox({0});
  Dispatcher::Desk first;
  post_for(dispatcher, mailbox, 0);
  post_for(dispatcher, mailbox, 0);
  dispatcher.take(0, first);
  Taker other(dispatcher);
  dispatcher.step_aside(0, first);
  other.join();
  dispatcher.close();
  dispatcher.step_back(0, first);
  std::atomic<bool> told = false;
  std::thread end([&] { told = dispatcher.take(0, first).kind == Dispatcher::Delivery::closed; });
  std::this_thread::sleep_for(20ms);
  CHECK_FALSE(told);
  CHECK(dispatcher.take(0, other.desk).kind == Dispatcher::Delivery::closed);
  end.join();
  CHECK(told);
}

TEST_CASE("what an interpreter that is replaced had at its desks takes nothing more") {
  Dispatcher dispatcher(1);
  const auto mailbox = dispatcher.open_mailbox({0}, 0, true);
  Dispatcher::Desk before;
  Dispatcher::Desk after;
  const auto call = post_for(dispatcher, mailbox, 0);
  dispatcher.take(0, before);
  CHECK(dispatcher.in_hand(0).front() == call);
  dispatcher.step_aside(0, before);
  Taker asleep(dispatcher);
  while (dispatcher.idle() == 0) std::this_thread::yield();
  dispatcher.replace(0, 0);
  asleep.join();
  CHECK(asleep.delivery.kind == Dispatcher::Delivery::closed);
  const auto next = post_for(dispatcher, mailbox, 0);
  CHECK(dispatcher.take(0, before).kind == Dispatcher::Delivery::closed);
  CHECK(dispatcher.take(0, after).call == next);
}

TEST_CASE("beside a call that sleeps, calls of other actors and functions are taken, and none of its actor") {
  Dispatcher dispatcher(1);
  const auto busy = dispatcher.open_mailbox({0});
  Dispatcher::Desk first;
  post_for(dispatcher, busy, 1);
  dispatcher.take(0, first);
  post_for(dispatcher, busy, 1);
  Taker second(dispatcher);
  std::this_thread::sleep_for(100ms);
  CHECK_FALSE(second.took);
  const auto other = post_for(dispatcher, dispatcher.open_mailbox({0}), 2);
  const auto function = post_for(dispatcher, dispatcher.open_mailbox({0}), 0);
  second.join();
  CHECK(second.delivery.call == other);
  Taker third(dispatcher);
  third.join();
  CHECK(third.delivery.call == function);
  dispatcher.close();
}

TEST_CASE("beside a call that computes for long, others are taken") {
  Dispatcher dispatcher(1);
  Dispatcher::Desk first;
  post_for(dispatcher, dispatcher.open_mailbox({0}), 1);
  dispatcher.take(0, first);
  const auto other = post_for(dispatcher, dispatcher.open_mailbox({0}), 2);
  Taker second(dispatcher);
  while (!second.took) compute(1ms);
  second.join();
  CHECK(second.delivery.call == other);
  dispatcher.close();
}

TEST_CASE("beside a call of an actor that slept lately, others are taken at once") {
  Dispatcher dispatcher(1);
  const auto busy = dispatcher.open_mailbox({0});
  const auto other = dispatcher.open_mailbox({0});
  Dispatcher::Desk first;
  Dispatcher::Desk second(0, false);
  const auto busy_call = [&] {
    post_for(dispatcher, busy, 1);
    dispatcher.take(0, first);
  };
  busy_call();
  post_for(dispatcher, other, 2);
  dispatcher.take(0, second);  // after it has watched
  const auto next = post_for(dispatcher, other, 2);
  std::thread idle([&] { CHECK(dispatcher.take(0, second).call == next); });
  idle.join();
  busy_call();
  const auto last = post_for(dispatcher, other, 2);
  CHECK(dispatcher.take(0, second).call == last);
}

TEST_CASE("an actor is called beside one that sleeps, once the thread of that one has put its state away") {
  Dispatcher dispatcher(1);
  const auto sleeping = dispatcher.open_mailbox({0});
  const auto other = dispatcher.open_mailbox({0});
  Dispatcher::Desk first;
  Dispatcher::Desk second(0, false);
  post_for(dispatcher, sleeping, 1);
  dispatcher.take(0, first);
  post_for(dispatcher, other, 3);
  dispatcher.take(0, second);  // after it has watched: calls of the first actor are expected to stall
  post_for(dispatcher, sleeping, 1);
  dispatcher.keeps_state(0, first, 2);
  std::shared_ptr<Call> call;
  std::atomic<bool> took = false;
  std::thread idle([&] {
    const auto taken = dispatcher.take(0, second).call;
    took = true;
    CHECK(taken == call);
  });
  while (dispatcher.idle() == 0) std::this_thread::yield();
  dispatcher.take(0, first);
  call = post_for(dispatcher, other, 2);
  std::this_thread::sleep_for(50ms);
  CHECK_FALSE(took);
  dispatcher.keeps_state(0, first, 1);
  idle.join();
  dispatcher.close();
}

TEST_CASE("calls are taken after a thread was roused for one that others took meanwhile") {
  Dispatcher dispatcher(2);
  const auto busy = dispatcher.open_mailbox({0});
  const auto shared = dispatcher.open_mailbox({0, 1});
  std::atomic<int> taken = 0;
  Dispatcher::Desk first;
  Dispatcher::Desk beside(0, false);
  post_for(dispatcher, busy, 1);
  dispatcher.take(0, first);
  dispatcher.step_aside(0, first);
  std::thread second([&] {
    while (dispatcher.take(0, beside).kind == Dispatcher::Delivery::call_ready) ++taken;
  });
  int posted = 0;
  for (int round = 0; round < 200; ++round) {
    while (taken != posted || dispatcher.idle() != 1) std::this_thread::yield();
    post_for(dispatcher, shared, 0);
    dispatcher.step_back(0, first);
    compute(1ms);
    const bool came_late = dispatcher.take_more(1, shared, std::chrono::steady_clock::now()) != nullptr;
    if (!came_late) ++posted;
    dispatcher.step_aside(0, first);
    post_for(dispatcher, shared, 0);
    ++posted;
    const auto late = std::chrono::steady_clock::now() + 5s;
    while (taken != posted && std::chrono::steady_clock::now() < late) std::this_thread::yield();
    CHECK(taken.load() == posted);
    if (taken != posted) break;
  }
  dispatcher.close();
  second.join();
}

TEST_CASE("no call is left lying, whatever the threads of several interpreters do") {
  constexpr std::size_t kInterpreters = 3;
  Dispatcher dispatcher(kInterpreters);
  std::atomic<int> taken = 0;
  const auto work = [&](std::size_t interpreter, bool is_first, unsigned seed) {
    std::mt19937 random(seed);
    Dispatcher::Desk desk(0, is_first);
    while (true) {
      const auto delivery = dispatcher.take(interpreter, desk);
      if (delivery.kind == Dispatcher::Delivery::closed) return;
      if (delivery.kind == Dispatcher::Delivery::woken) continue;
      if (is_first) dispatcher.keeps_state(interpreter, desk, delivery.call->actor());
      const auto what = random() % 8;
      if (what < 3) dispatcher.step_aside(interpreter, desk);
      if (what == 0 || what == 3) std::this_thread::sleep_for(std::chrono::microseconds(random() % 3000));
      if (what == 1) std::this_thread::yield();
      if (what < 3) dispatcher.step_back(interpreter, desk);
      if (what == 4) dispatcher.wake(random() % kInterpreters);
      ++taken;
    }
  };
  std::vector<std::thread> threads;
  for (unsigned seed = 0; seed < 3 * kInterpreters; ++seed)
    threads.emplace_back(work, seed % kInterpreters, seed < kInterpreters, seed);
  std::vector<std::pair<Dispatcher::MailboxId, std::uint64_t>> mailboxes;  // and whose they are
  for (const auto& servers : std::vector<std::vector<std::size_t>>{{0, 1, 2}, {0, 1}, {0}, {0}, {1}, {2}})
    mailboxes.emplace_back(dispatcher.open_mailbox(servers), mailboxes.size());
  std::mt19937 random(1);
  int posted = 0;
  const auto enough = std::chrono::steady_clock::now() + 3s;
  while (taken.load() == posted && std::chrono::steady_clock::now() < enough) {
    for (auto count = 1 + random() % 4; count > 0; --count) {
      const auto& [mailbox, actor] = mailboxes[random() % mailboxes.size()];
      post_for(dispatcher, mailbox, actor);
      ++posted;
    }
    const auto late = std::chrono::steady_clock::now() + 10s;
    while (taken != posted && std::chrono::steady_clock::now() < late) std::this_thread::yield();
    CHECK(taken.load() == posted);
  }
  dispatcher.close();
  for (auto& thread : threads) thread.join();
}

TEST_CASE("who takes a call is told if nobody is left to watch") {
  Dispatcher dispatcher(1);
  const auto mailbox = dispatcher.open_mailbox({0});
  Dispatcher::Desk first;
  post_for(dispatcher, mailbox, 1);
  CHECK(dispatcher.take(0, first).is_last);
  dispatcher.step_aside(0, first);
  Taker other(dispatcher);
  while (dispatcher.idle() == 0) std::this_thread::yield();
  dispatcher.step_back(0, first);
  post_for(dispatcher, mailbox, 1);
  CHECK_FALSE(dispatcher.take(0, first).is_last);
  dispatcher.close();
}

TEST_CASE("what prepares an interpreter keeps all others away, and lets through what it asks for itself") {
  Dispatcher dispatcher(1);
  Dispatcher::Desk first;
  Dispatcher::Desk second(0, false);
  const auto preparation = std::make_shared<Call>(multipy::Payload{});
  dispatcher.put_first(0, {preparation});
  const auto mailbox = dispatcher.open_mailbox({0});
  const auto later = post_for(dispatcher, mailbox, 1);
  CHECK(dispatcher.take(0, first).call == preparation);
  dispatcher.step_aside(0, first);
  Taker other(dispatcher);
  std::this_thread::sleep_for(100ms);
  CHECK_FALSE(other.took);
  const auto own = std::make_shared<Call>(multipy::Payload{});
  own->set_holdings(preparation->holdings());
  dispatcher.post(dispatcher.open_mailbox({0}), own);
  other.join();
  CHECK(other.delivery.call == own);
  dispatcher.step_back(0, first);
  CHECK(dispatcher.take(0, first).call == later);
}

TEST_CASE("a session waits until nothing is under way but what waits") {
  Dispatcher dispatcher(1);
  Dispatcher::Desk first;
  const auto mailbox = dispatcher.open_mailbox({0});
  post_for(dispatcher, mailbox, 1);
  dispatcher.take(0, first);
  const auto granted = std::make_shared<Call>(multipy::Payload{});
  dispatcher.request(mailbox, granted, 1);
  Taker other(dispatcher);
  std::this_thread::sleep_for(100ms);
  CHECK_FALSE(granted->done());
  dispatcher.step_aside(0, first);
  while (!granted->done()) std::this_thread::yield();
  CHECK(dispatcher.holds(1, 0));
  dispatcher.close();
}

TEST_CASE("when the dispatcher closes, a call that sleeps does not hold up the others") {
  Dispatcher dispatcher(1);
  Dispatcher::Desk first;
  post_for(dispatcher, dispatcher.open_mailbox({0}), 1);
  dispatcher.take(0, first);
  Taker other(dispatcher);
  const auto left = post_for(dispatcher, dispatcher.open_mailbox({0}), 2);
  dispatcher.close();
  other.join();
  CHECK(other.delivery.call == left);
  std::atomic<int> told = 0;
  const auto end = [&](Dispatcher::Desk& desk) {
    if (dispatcher.take(0, desk).kind == Dispatcher::Delivery::closed) ++told;
  };
  std::thread main(end, std::ref(first));
  std::thread second(end, std::ref(other.desk));
  main.join();
  second.join();
  CHECK(told == 2);
}
