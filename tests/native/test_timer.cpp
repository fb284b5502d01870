// Calls with a time limit: those in time, those that are late, and those that have gone.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <thread>
#include <vector>

#include "task/call.h"
#include "task/completion_queue.h"
#include "task/timer.h"

using multipy::Attachment;
using multipy::Call;
using multipy::CallState;
using multipy::Clock;
using multipy::CompletionQueue;
using multipy::expire_at;
using namespace std::chrono_literals;

namespace {

std::shared_ptr<Call> make_call() { return std::make_shared<Call>(multipy::Payload{}); }

}  // namespace

TEST_CASE("a call that is not done in time fails without an error, and not before") {
  const auto pending = make_call();
  const auto running = make_call();
  running->start();
  const auto when = Clock::now() + 2ms;
  for (const auto& call : {pending, running}) {
    expire_at(call, when);
    call->wait();
    CHECK(Clock::now() >= when);
    CHECK(call->state() == CallState::failed);
    CHECK(call->expired());
    CHECK(call->result().data.empty());
  }
  // Told a moment after those who wait for it.
  while (!running->interrupted()) std::this_thread::yield();
  CHECK_FALSE(pending->start());
  CHECK_FALSE(running->succeed({}));
}

TEST_CASE("a call that is done in time stays as it is") {
  const auto succeeded = make_call();
  const auto cancelled = make_call();
  const auto later = make_call();
  expire_at(succeeded, Clock::now() + 1ms);
  expire_at(cancelled, Clock::now() + 1ms);
  succeeded->start();
  const bool in_time = succeeded->succeed({"value", {}});
  const bool taken_back = cancelled->cancel();
  expire_at(later, Clock::now() + 2ms);
  later->wait();
  // On a slow machine they may have come too late.
  CHECK((succeeded->state() == CallState::succeeded) == in_time);
  CHECK((cancelled->state() == CallState::cancelled) == taken_back);
  if (in_time) CHECK(succeeded->result().data == "value");
}

TEST_CASE("calls expire in the order of their times, whatever that of their making") {
  const auto queue = std::make_shared<CompletionQueue>();
  const auto start = Clock::now() + 5ms;
  std::vector<std::shared_ptr<Call>> calls;
  for (int index = 0; index < 20; ++index) {
    calls.push_back(make_call());
    calls.back()->watch(queue);
  }
  for (int index = 0; index < 20; ++index) {
    const int order = index * 7 % 20;
    expire_at(calls[static_cast<std::size_t>(order)], start + order * 100us);
  }
  for (const auto& call : calls) CHECK(queue->pop() == call);
}

TEST_CASE("a call that nobody holds any more is forgotten") {
  std::vector<std::weak_ptr<Call>> gone;
  const auto last = make_call();
  for (int index = 0; index < 5000; ++index) {
    const auto call = make_call();
    expire_at(call, Clock::now() + (index % 2 == 0 ? std::chrono::hours(1) : std::chrono::hours(0)));
    gone.push_back(call);
  }
  expire_at(last, Clock::now() + 1ms);
  last->wait();
  // One may just be with the timer's thread.
  while (!std::all_of(gone.begin(), gone.end(), [](const auto& call) { return call.expired(); }))
    std::this_thread::yield();
}

TEST_CASE("what goes with the last reference may set time limits itself") {
  struct Setter : Attachment {
    explicit Setter(std::shared_ptr<Call> target) : call(std::move(target)) {}
    ~Setter() override { expire_at(call, Clock::now()); }
    std::shared_ptr<Call> call;
  };
  for (int round = 0; round < 200; ++round) {
    const auto then = make_call();
    auto first = std::make_shared<Call>(multipy::Payload{{}, {std::make_shared<Setter>(then)}});
    expire_at(first, Clock::now() + (round % 2 == 0 ? 0us : 50us));
    // The last reference goes here or on the timer's thread.
    if (round % 4 < 2) {
      for (const auto until = Clock::now() + 50us; Clock::now() < until;) std::this_thread::yield();
    }
    first.reset();
    then->wait();
    CHECK(then->expired());
  }
}

TEST_CASE("time limits are set from many threads at once") {
  std::vector<std::thread> threads;
  std::atomic<int> expired = 0;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&expired, thread] {
      for (int index = 0; index < 200; ++index) {
        const auto call = make_call();
        expire_at(call, Clock::now() + std::chrono::microseconds(index % 5 * 20));
        if (index % 3 == thread % 3) {
          call->start();
          call->succeed({});
        }
        call->wait();
        if (call->expired() && call->state() == CallState::failed) ++expired;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(expired >= 4 * 200 / 3);
}
