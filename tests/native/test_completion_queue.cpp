// The way of finished calls to their one consumer: order, waking, close, and many producers.
#include <doctest/doctest.h>

#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "task/call.h"
#include "task/completion_queue.h"

using multipy::Call;
using multipy::Clock;
using multipy::CompletionQueue;

namespace {

std::shared_ptr<Call> make_call(std::string data = {}) {
  return std::make_shared<Call>(multipy::Payload{std::move(data), {}});
}

}  // namespace

TEST_CASE("calls come out in the order they went in") {
  CompletionQueue queue;
  const auto first = make_call();
  const auto second = make_call();
  CHECK(queue.push(first));
  CHECK(queue.push(second));
  CHECK(queue.pop() == first);
  CHECK(queue.pop() == second);
}

TEST_CASE("an empty queue answers null at the deadline and stays open") {
  CompletionQueue queue;
  CHECK(queue.pop(Clock::now()) == nullptr);
  CHECK_FALSE(queue.closed());
}

TEST_CASE("a wake ends one pop, after the calls that are there") {
  CompletionQueue queue;
  const auto call = make_call();
  queue.wake();
  queue.push(call);
  CHECK(queue.pop() == call);
  CHECK(queue.pop() == nullptr);
  CHECK_FALSE(queue.closed());
  queue.push(call);
  CHECK(queue.pop() == call);
}

TEST_CASE("a closed queue gives out what is in it and takes nothing more") {
  CompletionQueue queue;
  const auto call = make_call();
  queue.push(call);
  queue.close();
  queue.close();
  CHECK_FALSE(queue.push(make_call()));
  CHECK(queue.pop() == call);
  CHECK(queue.pop() == nullptr);
  CHECK(queue.pop() == nullptr);
  CHECK(queue.closed());
}

TEST_CASE("a queue keeps no call alive that it has handed out") {
  CompletionQueue queue;
  std::weak_ptr<Call> observer;
  {
    auto call = make_call();
    observer = call;
    queue.push(std::move(call));
    queue.push(make_call());
  }
  queue.pop();
  CHECK(observer.expired());
}

TEST_CASE("a sleeping consumer is woken by a push, by wake and by close") {
  const auto call = make_call();
  for (int round = 0; round < 300; ++round) {
    CompletionQueue queue;
    std::shared_ptr<Call> popped;
    std::thread consumer([&] { popped = queue.pop(); });
    if (round % 3 == 0) queue.push(call);
    if (round % 3 == 1) queue.wake();
    if (round % 3 == 2) queue.close();
    consumer.join();
    CHECK(popped == (round % 3 == 0 ? call : nullptr));
  }
}

TEST_CASE("many producers: nothing is lost or doubled, and each one's order is kept") {
  constexpr int producers = 4;
  constexpr int each = 5000;
  CompletionQueue queue;
  std::vector<std::thread> threads;
  for (int producer = 0; producer < producers; ++producer) {
    threads.emplace_back([&queue, producer] {
      for (int number = 0; number < each; ++number) {
        auto call = make_call();
        call->set_worker(producer * each + number, 1);
        queue.push(std::move(call));
      }
    });
  }
  std::vector<int> next(producers, 0);
  bool in_order = true;
  for (int count = 0; count < producers * each; ++count) {
    const auto tag = static_cast<int>(queue.pop()->worker());
    in_order = in_order && tag % each == next[static_cast<std::size_t>(tag / each)]++;
  }
  for (auto& thread : threads) thread.join();
  CHECK(in_order);
  CHECK(queue.pop(Clock::now()) == nullptr);
}
