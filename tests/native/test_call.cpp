// The life of a call: states, outcomes, attachments, waiting and watching, and races between its finishers.
#include <doctest/doctest.h>
#include <pthread.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <latch>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "task/call.h"
#include "task/completion_queue.h"

using namespace std::chrono_literals;
using multipy::Attachment;
using multipy::Call;
using multipy::CallState;
using multipy::Clock;
using multipy::CompletionQueue;
using multipy::Payload;
using multipy::WaitResult;

namespace {

Payload payload(std::string data) { return {std::move(data), {}}; }

std::shared_ptr<Call> make_call() { return std::make_shared<Call>(payload("request")); }

struct Token : Attachment {};

/// A payload with an attachment that `observer` watches the life of.
Payload observed(std::weak_ptr<Attachment>& observer) {
  auto token = std::make_shared<Token>();
  observer = token;
  return {"observed", {std::move(token)}};
}

}  // namespace

TEST_CASE("a call is started, takes its request along and succeeds") {
  const auto call = make_call();
  CHECK(call->state() == CallState::pending);
  CHECK(call->start());
  CHECK(call->state() == CallState::running);
  CHECK(call->take_request().data == "request");
  CHECK(call->succeed(payload("value")));
  CHECK(call->done());
  CHECK(call->state() == CallState::succeeded);
  CHECK(call->result().data == "value");
  CHECK(call->wait() == WaitResult::woken);
}

TEST_CASE("a call runs once, and its first outcome stays") {
  const auto call = make_call();
  CHECK(call->start());
  CHECK_FALSE(call->start());
  CHECK_FALSE(call->cancel());
  CHECK(call->fail(payload("error")));
  CHECK_FALSE(call->succeed(payload("late")));
  CHECK_FALSE(call->fail(payload("late")));
  CHECK_FALSE(call->abandon(payload("late")));
  CHECK_FALSE(call->cancel());
  CHECK(call->state() == CallState::failed);
  CHECK(call->result().data == "error");
}

TEST_CASE("a call that was not started cannot succeed or fail") {
  const auto call = make_call();
  CHECK_FALSE(call->succeed(payload("value")));
  CHECK_FALSE(call->fail(payload("error")));
  CHECK(call->state() == CallState::pending);
}

TEST_CASE("a cancelled call never runs and lets go of its request") {
  std::weak_ptr<Attachment> observer;
  const auto call = std::make_shared<Call>(observed(observer));
  CHECK(call->cancel());
  CHECK(call->state() == CallState::cancelled);
  CHECK(call->done());
  CHECK_FALSE(call->start());
  CHECK_FALSE(call->cancel());
  CHECK_FALSE(call->abandon(payload("late")));
  CHECK(observer.expired());
  CHECK(call->result().data.empty());
}

TEST_CASE("an abandoned call has failed, whether it waited or ran") {
  std::weak_ptr<Attachment> observer;
  const auto waiting = std::make_shared<Call>(observed(observer));
  CHECK(waiting->abandon(payload("closed")));
  CHECK(waiting->state() == CallState::failed);
  CHECK(waiting->result().data == "closed");
  CHECK_FALSE(waiting->start());
  CHECK(observer.expired());

  const auto running = make_call();
  running->start();
  CHECK(running->abandon(payload("died")));
  CHECK(running->take_request().data == "request");
  CHECK_FALSE(running->succeed(payload("late")));
  CHECK(running->result().data == "died");
}

TEST_CASE("a request's attachments end with the worker that took them") {
  std::weak_ptr<Attachment> observer;
  const auto call = std::make_shared<Call>(observed(observer));
  call->start();
  {
    const Payload request = call->take_request();
    CHECK_FALSE(observer.expired());
  }
  CHECK(observer.expired());
}

TEST_CASE("the worker of a call is unknown until it is set") {
  const auto call = make_call();
  CHECK(call->worker() == Call::no_worker);
  CHECK(call->runner() == 0);
  call->set_worker(3, 7);
  CHECK(call->worker() == 3);
  CHECK(call->runner() == 7);
}

TEST_CASE("waiting for a call that does not end times out, and can be repeated") {
  const auto call = make_call();
  CHECK(call->wait(Clock::now()) == WaitResult::timed_out);
  CHECK(call->wait(Clock::now() + 1ms) == WaitResult::timed_out);
  call->start();
  CHECK(call->wait(Clock::now() + 1ms) == WaitResult::timed_out);
  call->succeed({});
  CHECK(call->wait(Clock::now() - 1s) == WaitResult::woken);
}

TEST_CASE("all who wait see the whole outcome") {
  for (int round = 0; round < 200; ++round) {
    const auto call = make_call();
    std::array<std::string, 3> seen;
    std::vector<std::thread> waiters;
    for (auto& result : seen) {
      waiters.emplace_back([&result, call] {
        call->wait();
        result = call->result().data;
      });
    }
    call->start();
    call->succeed(payload("value"));
    for (auto& waiter : waiters) waiter.join();
    for (const auto& result : seen) CHECK(result == "value");
  }
}

TEST_CASE("a signal handler interrupts the wait and the call goes on") {
  struct sigaction action{};
  action.sa_handler = [](int) {};
  struct sigaction previous{};
  REQUIRE(sigaction(SIGUSR1, &action, &previous) == 0);

  const auto call = make_call();
  std::atomic<bool> ended = false;
  WaitResult first = WaitResult::woken;
  WaitResult second = WaitResult::interrupted;
  std::latch signalled(1);
  std::thread waiter([&] {
    first = call->wait();
    ended.store(true);
    signalled.wait();
    second = call->wait();
  });
  while (!ended.load()) {
    pthread_kill(waiter.native_handle(), SIGUSR1);
    std::this_thread::yield();
  }
  call->start();
  call->succeed({});
  signalled.count_down();
  waiter.join();
  sigaction(SIGUSR1, &previous, nullptr);
  CHECK(first == WaitResult::interrupted);
  CHECK(second == WaitResult::woken);
}

TEST_CASE("each watch reports once, before or after the end, to its own queue") {
  const auto call = make_call();
  const auto first = std::make_shared<CompletionQueue>();
  const auto second = std::make_shared<CompletionQueue>();
  call->watch(first);
  call->watch(first);
  call->watch(second);
  CHECK(first->pop(Clock::now()) == nullptr);
  call->start();
  CHECK(first->pop(Clock::now()) == nullptr);
  call->succeed({});
  CHECK(first->pop() == call);
  CHECK(first->pop() == call);
  CHECK(first->pop(Clock::now()) == nullptr);
  CHECK(second->pop() == call);
  call->watch(second);
  CHECK(second->pop() == call);
  CHECK(second->pop(Clock::now()) == nullptr);
}

TEST_CASE("a watch reports a cancelled and an abandoned call too") {
  const auto queue = std::make_shared<CompletionQueue>();
  const auto cancelled = make_call();
  cancelled->watch(queue);
  cancelled->cancel();
  CHECK(queue->pop() == cancelled);
  const auto abandoned = make_call();
  abandoned->watch(queue);
  abandoned->abandon({});
  CHECK(queue->pop() == abandoned);
}

TEST_CASE("watching and finishing at once still reports exactly once") {
  for (int round = 0; round < 500; ++round) {
    const auto call = make_call();
    const auto queue = std::make_shared<CompletionQueue>();
    call->watch(queue);
    std::latch ready(2);
    std::thread worker([&] {
      ready.arrive_and_wait();
      call->start();
      call->succeed({});
    });
    ready.arrive_and_wait();
    call->watch(queue);
    CHECK(queue->pop() == call);
    CHECK(queue->pop() == call);
    worker.join();
    CHECK(queue->pop(Clock::now()) == nullptr);
  }
}

TEST_CASE("between winning and publishing its outcome a finisher has shut out all others") {
  // An abandoned call drops its request in just that moment, so a request can try to interfere.
  struct Meddler : Attachment {
    ~Meddler() override { interfered = call->start() || call->cancel() || call->abandon(payload("meddled")); }
    Call* call = nullptr;
    bool& interfered;
    explicit Meddler(bool& result) : interfered(result) {}
  };
  bool interfered = true;
  auto meddler = std::make_shared<Meddler>(interfered);
  const auto call = std::make_shared<Call>(Payload{{}, {meddler}});
  meddler->call = call.get();
  meddler.reset();
  CHECK(call->abandon(payload("error")));
  CHECK_FALSE(interfered);
  CHECK(call->state() == CallState::failed);
  CHECK(call->result().data == "error");
}

TEST_CASE("of a worker, a canceller and an abandoner exactly one wins, and its outcome is what a waiter sees") {
  constexpr std::size_t count = 20000;
  std::vector<std::shared_ptr<Call>> calls;
  for (std::size_t number = 0; number < count; ++number) calls.push_back(make_call());
  std::vector<std::atomic<int>> winners(count);
  std::latch ready(4);
  // All walk along the same calls, so that they keep meeting.
  const auto walk = [&](auto finish) {
    ready.arrive_and_wait();
    for (std::size_t number = 0; number < count; ++number) winners[number] += finish(*calls[number]);
  };
  std::thread worker(walk, [](Call& call) { return call.start() && call.succeed(payload("value")); });
  std::thread canceller(walk, [](Call& call) { return call.cancel(); });
  std::thread abandoner(walk, [](Call& call) { return call.abandon(payload("error")); });
  ready.arrive_and_wait();
  bool consistent = true;
  for (const auto& call : calls) {
    call->wait();
    const CallState state = call->state();
    const char* expected = state == CallState::succeeded ? "value" : state == CallState::failed ? "error" : "";
    consistent = consistent && call->done() && call->result().data == expected;
  }
  worker.join();
  canceller.join();
  abandoner.join();
  CHECK(consistent);
  CHECK(std::all_of(winners.begin(), winners.end(), [](const auto& wins) { return wins == 1; }));
}
