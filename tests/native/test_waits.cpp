// The graph of waits beyond one thread and one call: several calls, event loops, and calls that go on aside.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "task/call.h"
#include "task/completion_queue.h"
#include "task/waits.h"

using multipy::Await;
using multipy::Call;
using multipy::CallGroup;
using multipy::Clock;
using multipy::CompletionQueue;
using multipy::DeadlockError;
using multipy::Runner;
using multipy::Servers;
using multipy::wait_for_some;
using multipy::WaitResult;
using namespace std::chrono_literals;

namespace {

constexpr std::uint64_t kActor = 7;  // what runners are at, and what calls are of if nothing else is said

class Worker final : public Runner {
 public:
  explicit Worker(const std::string& name) : Runner(name) {}
  ~Worker() override { leave(); }

 protected:
  Reached interrupt_running(const Call*, const CallGroup*) override { return Reached::code; }
  std::uint64_t actor() const noexcept override { return kActor; }
};

using Calls = std::vector<std::shared_ptr<Call>>;

std::shared_ptr<Call> call_for(const Worker& server, const std::shared_ptr<CallGroup>& group = nullptr) {
  auto call = std::make_shared<Call>(multipy::Payload{}, group);
  if (group == nullptr) call->set_actor(kActor);
  call->set_mailbox(1, std::make_shared<Servers>(Servers{server.id()}));
  return call;
}

/// One that goes on aside in `runner`, on the event loop whose interrupts `queue` has.
std::shared_ptr<Call> call_aside(Worker& runner, const std::shared_ptr<CompletionQueue>& queue,
                                 const std::shared_ptr<CallGroup>& group) {
  auto call = call_for(runner, group);
  std::thread([&] {
    runner.adopt_thread();
    call->set_worker(0, runner.id());
    call->start();
    call->run_aside(queue);
  }).join();
  return call;
}

void finish(const std::shared_ptr<Call>& call) {
  call->start();
  call->succeed({});
}

/// What `function` throws on a thread of `worker`, or "".
template <typename Function>
std::string told(Worker& worker, Function function, bool event_loop = false) {
  std::string text;
  std::thread([&] {
    worker.adopt_thread(event_loop);
    try {
      function();
    } catch (const DeadlockError& error) {
      text = error.what();
    }
  }).join();
  return text;
}

}  // namespace

TEST_CASE("as many of several calls are waited for as are wanted") {
  Worker one("one");
  for (std::size_t needed = 0; needed <= 3; ++needed) {
    const Calls calls = {call_for(one), call_for(one), call_for(one)};
    std::atomic<bool> over = false;
    std::thread waiting([&] {
      CHECK(wait_for_some(calls, needed) == WaitResult::woken);
      over = true;
    });
    for (std::size_t at = 0; at < needed; ++at) {
      CHECK_FALSE(over);
      finish(calls[at]);
    }
    waiting.join();
    CHECK(wait_for_some(calls, needed) == WaitResult::woken);
    if (needed < 3) {
      CHECK(wait_for_some(calls, 3, Clock::now() + 1ms) == WaitResult::timed_out);
    }
  }
}

TEST_CASE("a failure ends a wait that goes on until one") {
  Worker one("one");
  const Calls calls = {call_for(one), call_for(one), call_for(one)};
  std::thread waiting([&] { CHECK(wait_for_some(calls, 3, std::nullopt, true) == WaitResult::woken); });
  finish(calls[0]);
  calls[1]->abandon({});
  waiting.join();
  CHECK(wait_for_some(calls, 3, std::nullopt, true) == WaitResult::woken);
}

TEST_CASE("waits for several calls leave nothing behind in those that have not ended") {
  Worker one("one");
  const Calls calls = {call_for(one), call_for(one)};
  finish(calls[0]);
  for (int round = 0; round < 1000; ++round) wait_for_some(calls, 2, Clock::now());
  const auto queue = std::make_shared<CompletionQueue>();
  calls[1]->watch(queue);
  calls[1]->watch(queue);
  calls[1]->unwatch(*queue);
  finish(calls[1]);
  CHECK(queue->pop() == calls[1]);
  queue->wake();
  CHECK(queue->pop() == nullptr);
}

TEST_CASE("a wait for several calls is hopeless if too few of them can end") {
  Worker one("one");
  Worker two("two");
  const Calls calls = {call_for(two), call_for(one), call_for(one)};
  CHECK(told(one, [&] { wait_for_some(calls, 2); }) ==
        "this wait could never end: one waits for 2 of 3 calls, as a call that is queued for two");
  CHECK(told(one, [&] { wait_for_some(calls, 2, Clock::now() + 1ms); }).empty());
  finish(calls[0]);
  CHECK(told(one, [&] { wait_for_some(calls, 1); }).empty());
  CHECK(told(one, [&] { wait_for_some(calls, 3, std::nullopt, true); }).find("1 of 2 calls") != std::string::npos);
}

TEST_CASE("a call aside cannot go on while the event loop waits for it") {
  Worker one("one");
  const auto group = std::make_shared<CallGroup>("Actor", kActor);
  const auto queue = std::make_shared<CompletionQueue>();
  const auto aside = call_aside(one, queue, group);
  CHECK(told(
            one, [&] { aside->wait(); }, true) ==
        "this wait could never end: the event loop of one waits for a call of Actor that runs in one");
  // It may also be handed over when the loop waits already.
  const auto queued = call_for(one, group);
  std::string text;
  std::atomic<bool> waits = false;
  std::thread loop([&] {
    waits = true;
    text = told(one, [&] { queued->wait(); }, true);
  });
  while (!waits) std::this_thread::yield();
  told(one, [&] {
    queued->set_worker(0, one.id());
    queued->start();
    queued->run_aside(queue);
  });
  loop.join();
  CHECK(text.find("the event loop of one waits for a call of Actor that runs in one") != std::string::npos);
}

TEST_CASE("a coroutine that waits for a call behind it is asked, and then told") {
  Worker one("one");
  const auto group = std::make_shared<CallGroup>("Actor", kActor);
  const auto queue = std::make_shared<CompletionQueue>();
  const auto running = call_aside(one, queue, group);
  const auto waiting = call_aside(one, queue, group);
  const auto await = std::make_shared<Await>(Calls{running});
  await->add(waiting);
  SUBCASE("not while there are turns left") {
    waiting->wait_for_turn(2);
    CHECK_FALSE(await->asked());
  }
  SUBCASE("when it has to wait for its turn") {
    waiting->wait_for_turn(1);
    CHECK(queue->pop() == running);
    REQUIRE(await->asked());
    CHECK(await->hopeless().empty());
    SUBCASE("and it is told if it is certain") {
      await->answer(true);
      CHECK(queue->pop() == running);
      CHECK(await->hopeless() ==
            "this wait could never end: a call of Actor in one waits for a call of Actor that waits for its turn in "
            "one");
      await->remove(*waiting);
      CHECK(await->hopeless().empty());
    }
    SUBCASE("and it is asked again if it was not") {
      await->answer(false);
      CHECK(await->hopeless().empty());
      await->look_again();
      CHECK(queue->pop() == running);
      CHECK(await->asked());
    }
    SUBCASE("and all is well if its turn comes") {
      waiting->begin_aside();
      await->answer(true);
      CHECK(await->hopeless().empty());
    }
  }
}

TEST_CASE("a coroutine and a thread that wait for each other are a circle") {
  Worker one("one");
  Worker two("two");
  const auto group = std::make_shared<CallGroup>("Actor", kActor);
  const auto queue = std::make_shared<CompletionQueue>();
  const auto aside = call_aside(one, queue, group);
  const auto to_two = call_for(two);
  const auto await = std::make_shared<Await>(Calls{aside});
  await->add(to_two);
  std::string text;
  std::thread waiting([&] { text = told(two, [&] { aside->wait(); }); });
  CHECK(queue->pop() == aside);
  await->answer(true);
  // What waits for something queued gives way, and that is the coroutine.
  CHECK(queue->pop() == aside);
  CHECK(await->hopeless().find("a call of Actor in one waits for a call that is queued for two") != std::string::npos);
  CHECK(await->hopeless().find("two waits for a call of Actor that runs in one") != std::string::npos);
  await->remove(*to_two);
  finish(aside);
  waiting.join();
  CHECK(text.empty());
}

TEST_CASE("of a circle and who waits for it only one of the circle is told") {
  Worker one("one");
  Worker two("two");
  Worker three("three");
  const auto in_one = call_for(one);
  const auto in_two = call_for(two);
  in_one->start();
  in_one->set_worker(0, one.id());
  in_two->start();
  in_two->set_worker(0, two.id());
  const auto queued = call_for(one);
  std::string outside;
  std::string first;
  std::atomic<int> told_here = 0;
  std::thread bystander([&] { outside = told(three, [&] { queued->wait(); }); });
  std::thread waits_in_one([&] {
    first = told(one, [&] { in_two->wait(); });
    ++told_here;
    finish(in_one);
  });
  const std::string second = told(two, [&] { in_one->wait(); });
  ++told_here;
  in_two->succeed({});
  waits_in_one.join();
  CHECK(told_here == 2);
  CHECK(first.empty() != second.empty());
  finish(queued);
  bystander.join();
  CHECK(outside.empty());
}
