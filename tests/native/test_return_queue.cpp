// Releases on their way home: when they run, where, how often, and whom they wake.
#include <doctest/doctest.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "exchange/return_queue.h"

using multipy::ReturnQueue;

namespace {

void count(void* argument) { ++*static_cast<std::atomic<int>*>(argument); }

/// A release that posts another one, `remaining` times.
struct Chain {
  ReturnQueue& queue;
  int remaining;
  int runs = 0;

  static void run(void* argument) {
    auto& chain = *static_cast<Chain*>(argument);
    ++chain.runs;
    if (chain.remaining-- > 0) chain.queue.post(run, argument);
  }
};

}  // namespace

TEST_CASE("a release waits until its owner drains") {
  ReturnQueue queue;
  std::atomic<int> released = 0;
  queue.post(count, &released);
  queue.post(count, &released);
  CHECK(released == 0);
  CHECK(queue.drain() == 2);
  CHECK(released == 2);
  CHECK(queue.drain() == 0);
}

TEST_CASE("releases run in the order they came") {
  ReturnQueue queue;
  std::vector<int> order;
  struct Entry {
    std::vector<int>& order;
    int number;
  };
  Entry first{order, 1};
  Entry second{order, 2};
  const auto note = [](void* argument) {
    const auto& entry = *static_cast<Entry*>(argument);
    entry.order.push_back(entry.number);
  };
  queue.post(note, &first);
  queue.post(note, &second);
  queue.drain();
  CHECK(order == std::vector<int>{1, 2});
}

TEST_CASE("the owner is called once per batch") {
  ReturnQueue queue;
  int wakes = 0;
  std::atomic<int> released = 0;
  queue.set_wake([&wakes] { ++wakes; });
  queue.post(count, &released);
  queue.post(count, &released);
  CHECK(wakes == 1);
  queue.drain();
  queue.post(count, &released);
  CHECK(wakes == 2);
}

TEST_CASE("while calls are put off, the owner hears only of what it has not drained by their end") {
  const auto drained = std::make_shared<ReturnQueue>();
  const auto forgotten = std::make_shared<ReturnQueue>();
  int needless = 0;
  int wakes = 0;
  std::atomic<int> released = 0;
  drained->set_wake([&needless] { ++needless; });
  forgotten->set_wake([&wakes] { ++wakes; });
  ReturnQueue::put_off_calls();
  drained->post(count, &released);
  forgotten->post(count, &released);
  std::thread([&] { drained->drain(); }).join();
  CHECK(wakes == 0);
  ReturnQueue::call_owners();
  CHECK(needless == 0);
  CHECK(wakes == 1);
  drained->post(count, &released);
  CHECK(needless == 1);
}

TEST_CASE("a thread puts off its own calls, not those of others") {
  const auto queue = std::make_shared<ReturnQueue>();
  std::atomic<int> wakes = 0;
  std::atomic<int> released = 0;
  queue->set_wake([&wakes] { ++wakes; });
  ReturnQueue::put_off_calls();
  std::thread([&] { queue->post(count, &released); }).join();
  CHECK(wakes == 1);
  ReturnQueue::call_owners();
  CHECK(wakes == 1);
}

TEST_CASE("an owner that closes before calls that were put off runs its releases, and is not called") {
  auto queue = std::make_shared<ReturnQueue>();
  std::atomic<int> released = 0;
  bool called = false;
  queue->set_wake([&called] { called = true; });
  ReturnQueue::put_off_calls();
  queue->post(count, &released);
  queue->close();
  CHECK(released == 1);
  queue.reset();
  ReturnQueue::call_owners();
  CHECK(!called);
}

TEST_CASE("an owner that names its callback late hears of what has come already") {
  ReturnQueue queue;
  int wakes = 0;
  std::atomic<int> released = 0;
  queue.post(count, &released);
  queue.set_wake([&wakes] { ++wakes; });
  CHECK(wakes == 1);
}

TEST_CASE("the wake callback may itself drain") {
  ReturnQueue queue;
  std::atomic<int> released = 0;
  queue.set_wake([&queue] { queue.drain(); });
  queue.post(count, &released);
  CHECK(released == 1);
}

TEST_CASE("a release may post another: the same drain runs it, without a wake") {
  ReturnQueue queue;
  int wakes = 0;
  queue.set_wake([&wakes] { ++wakes; });
  Chain chain{queue, 3};
  queue.post(Chain::run, &chain);
  CHECK(queue.drain() == 4);
  CHECK(chain.runs == 4);
  CHECK(wakes == 1);
}

TEST_CASE("close runs what is pending, and what its releases post") {
  ReturnQueue queue;
  Chain chain{queue, 2};
  queue.post(Chain::run, &chain);
  queue.close();
  CHECK(chain.runs == 3);
}

TEST_CASE("once the owner has closed, a release runs where it is posted and wakes nobody") {
  ReturnQueue queue;
  int wakes = 0;
  std::atomic<int> released = 0;
  queue.set_wake([&wakes] { ++wakes; });
  queue.close();
  queue.close();
  queue.post(count, &released);
  CHECK(released == 1);
  CHECK(wakes == 0);
  CHECK(queue.drain() == 0);
}

TEST_CASE("a queue that was never closed still runs its releases when the last holder lets go") {
  std::atomic<int> released = 0;
  {
    ReturnQueue queue;
    queue.post(count, &released);
  }
  CHECK(released == 1);
}

TEST_CASE("a callback that was taken away is not running any more, so what it used may go") {
  for (int round = 0; round < 200; ++round) {
    ReturnQueue queue;
    std::atomic<int> released = 0;
    auto wakes = std::make_unique<int>(0);
    queue.set_wake([&wakes] { ++*wakes; });
    std::thread poster([&] { queue.post(count, &released); });
    if (round % 2 == 0) {
      queue.set_wake(nullptr);
    } else {
      queue.close();
    }
    wakes.reset();
    poster.join();
    queue.drain();
    CHECK(released == 1);
  }
}

TEST_CASE("posted from many threads while the owner drains and closes, each release runs once") {
  constexpr int posters = 4;
  constexpr int each = 5000;
  const auto queue = std::make_shared<ReturnQueue>();
  std::vector<std::atomic<int>> released(posters * each);
  std::atomic<int> posted = 0;
  std::vector<std::thread> threads;
  for (int poster = 0; poster < posters; ++poster) {
    threads.emplace_back([&, poster] {
      for (int number = 0; number < each; ++number) {
        queue->post(count, &released[static_cast<std::size_t>(poster * each + number)]);
        posted.fetch_add(1);
      }
    });
  }
  // Closing in the middle, so that both ways of running a release are taken.
  while (posted.load() < posters * each / 2) queue->drain();
  queue->close();
  for (auto& thread : threads) thread.join();
  bool exactly_once = true;
  for (const auto& runs : released) exactly_once = exactly_once && runs == 1;
  CHECK(exactly_once);
}

TEST_CASE("a thread that drains leaves to others what it has not come to") {
  ReturnQueue queue;
  std::atomic<int> released = 0;
  struct Nested {
    ReturnQueue& queue;
    std::size_t drained = 0;
  } nested{queue};
  // As while it waits for a GIL that the other thread holds.
  const auto drain_within = [](void* argument) {
    auto& self = *static_cast<Nested*>(argument);
    std::thread([&self] { self.drained = self.queue.drain(); }).join();
  };
  queue.post(drain_within, &nested);
  queue.post(count, &released);
  CHECK(queue.drain() == 1);
  CHECK(nested.drained == 1);
  CHECK(released == 1);
}
