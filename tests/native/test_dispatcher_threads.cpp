// A dispatcher with workers and posters on threads of their own: waking, order, loss, cancellation and close.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <functional>
#include <latch>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "pool/dispatcher.h"
#include "posting.h"

using multipy::Call;
using multipy::CallState;
using multipy::ClosedError;
using multipy::Dispatcher;
using Delivery = Dispatcher::Delivery;

namespace {

void until_idle(const Dispatcher& dispatcher, std::size_t interpreters) {
  while (dispatcher.idle() < interpreters) std::this_thread::yield();
}

/// One worker thread per interpreter, which does `work` with each call it is handed.
class Workers {
 public:
  using Work = std::function<void(std::size_t interpreter, const Delivery&)>;

  Workers(Dispatcher& dispatcher, Work work) : dispatcher_(dispatcher), work_(std::move(work)) {
    for (std::size_t index = 0; index < dispatcher.interpreters(); ++index) {
      threads_.emplace_back([this, index] { run(index); });
    }
  }

  ~Workers() {
    dispatcher_.close();
    join();
  }

  void join() {
    for (auto& thread : threads_) thread.join();
    threads_.clear();
  }

 private:
  void run(std::size_t index) {
    while (true) {
      const Delivery delivery = dispatcher_.take(index);
      if (delivery.kind == Delivery::closed) return;
      if (delivery.kind == Delivery::woken || !delivery.call->start()) continue;
      work_(index, delivery);
      dispatcher_.finished(index, true);
      delivery.call->succeed({});
    }
  }

  Dispatcher& dispatcher_;
  const Work work_;
  std::vector<std::thread> threads_;
};

}  // namespace

TEST_CASE("sleeping workers are woken by a post, a wake, a close and their retirement") {
  for (int round = 0; round < 200; ++round) {
    Dispatcher dispatcher(1);
    const auto mailbox = dispatcher.open_mailbox({0});
    Delivery delivery;
    std::thread worker([&] { delivery = dispatcher.take(0); });
    if (round % 2 == 0) until_idle(dispatcher, 1);
    const int way = round / 2 % 4;
    if (way == 0) posted(dispatcher, mailbox);
    if (way == 1) dispatcher.wake(0);
    if (way == 2) dispatcher.close();
    if (way == 3) dispatcher.retire(0);
    worker.join();
    CHECK(delivery.kind == (way == 0 ? Delivery::call_ready : way == 1 ? Delivery::woken : Delivery::closed));
  }
}

TEST_CASE("a post wakes one idle interpreter, the least loaded") {
  constexpr std::size_t interpreters = 3;
  Dispatcher dispatcher(interpreters);
  const auto shared = dispatcher.open_mailbox({0, 1, 2});
  std::vector<std::size_t> order;
  Workers workers(dispatcher, [&order](std::size_t index, const Delivery&) { order.push_back(index); });
  for (int round = 0; round < 9; ++round) {
    until_idle(dispatcher, interpreters);
    posted(dispatcher, shared)->wait();
  }
  CHECK(order == std::vector<std::size_t>{0, 1, 2, 0, 1, 2, 0, 1, 2});
}

TEST_CASE("a call never waits for a busy interpreter while another that serves it sleeps") {
  constexpr std::size_t interpreters = 3;
  Dispatcher dispatcher(interpreters);
  // Interpreter 0 is woken for a call of one mailbox and may take one of the other: whichever it does, the
  // remaining call has to find the third or the second interpreter, for the two wait for each other.
  const auto left = dispatcher.open_mailbox({0, 1});
  const auto right = dispatcher.open_mailbox({0, 2});
  std::shared_ptr<std::latch> both;
  Workers workers(dispatcher, [&both](std::size_t, const Delivery&) { both->arrive_and_wait(); });
  for (int round = 0; round < 2000; ++round) {
    both = std::make_shared<std::latch>(2);
    if (round % 3 == 0) until_idle(dispatcher, interpreters);
    const auto first = posted(dispatcher, round % 2 == 0 ? left : right);
    const auto second = posted(dispatcher, round % 2 == 0 ? right : left);
    first->wait();
    second->wait();
  }
}

TEST_CASE("a call whose chosen interpreter has something else to do goes to another that sleeps") {
  for (int round = 0; round < 200; ++round) {
    Dispatcher dispatcher(2);
    const auto shared = dispatcher.open_mailbox({0, 1});
    const auto call = make_call();
    std::vector<std::thread> workers;
    for (std::size_t index = 0; index < 2; ++index) {
      workers.emplace_back([&dispatcher, &call, index] {
        while (true) {
          const Delivery delivery = dispatcher.take(index);
          if (delivery.kind == Delivery::closed) return;
          if (delivery.kind == Delivery::woken) call->wait();
          if (delivery.call && delivery.call->start()) delivery.call->succeed({});
        }
      });
    }
    until_idle(dispatcher, 2);
    dispatcher.post(shared, call);  // wakes interpreter 0, which finds, more often than not,
    dispatcher.wake(0);             // that it is to do its housekeeping first
    call->wait();
    dispatcher.close();
    for (auto& worker : workers) worker.join();
    CHECK(call->state() == CallState::succeeded);
  }
}

TEST_CASE("calls of many posters to many mailboxes all run, once, in order where one interpreter serves") {
  constexpr std::size_t interpreters = 3;
  constexpr int each = 6000;
  Dispatcher dispatcher(interpreters);
  const std::vector<std::vector<std::size_t>> servers = {{0}, {0}, {1}, {2}, {0, 1}, {1, 2}, {0, 1, 2}};
  std::vector<Dispatcher::MailboxId> mailboxes;
  for (const auto& set : servers) mailboxes.push_back(dispatcher.open_mailbox(set));

  std::vector<std::atomic<int>> runs(4 * each);
  std::atomic<bool> in_order = true;
  std::atomic<bool> in_place = true;
  // Per mailbox and poster, the last number that ran; only one thread writes each that is compared.
  std::vector<std::array<int, 4>> last(servers.size(), {-1, -1, -1, -1});
  {
    Workers workers(dispatcher, [&](std::size_t index, const Delivery& delivery) {
      const int tag = std::stoi(delivery.call->take_request().data);
      ++runs[static_cast<std::size_t>(tag)];
      const auto mailbox =
          static_cast<std::size_t>(std::find(mailboxes.begin(), mailboxes.end(), delivery.mailbox) - mailboxes.begin());
      const auto& set = servers[mailbox];
      if (std::find(set.begin(), set.end(), index) == set.end()) in_place = false;
      if (set.size() == 1) {
        int& previous = last[mailbox][static_cast<std::size_t>(tag / each)];
        if (tag <= previous) in_order = false;
        previous = tag;
      }
    });
    std::vector<std::thread> posters;
    for (int poster = 0; poster < 4; ++poster) {
      posters.emplace_back([&, poster] {
        std::minstd_rand random(static_cast<unsigned>(poster + 1));
        for (int number = 0; number < each; ++number) {
          const auto mailbox = mailboxes[random() % mailboxes.size()];
          dispatcher.post(mailbox,
                          std::make_shared<Call>(multipy::Payload{std::to_string(poster * each + number), {}}));
          if (number % 64 == 0) dispatcher.wake(random() % interpreters);
        }
      });
    }
    for (auto& poster : posters) poster.join();
  }
  CHECK(in_order);
  CHECK(in_place);
  CHECK(std::all_of(runs.begin(), runs.end(), [](const auto& count) { return count == 1; }));
  std::uint64_t done = 0;
  for (std::size_t index = 0; index < interpreters; ++index) done += dispatcher.statistics(index).done;
  CHECK(done == runs.size());
}

TEST_CASE("a cancelled call never runs, a running one is never cancelled, and all end") {
  constexpr int count = 20000;
  Dispatcher dispatcher(2);
  const auto mailbox = dispatcher.open_mailbox({0, 1});
  std::atomic<int> ran = 0;
  int cancelled = 0;
  std::vector<std::shared_ptr<Call>> calls;
  for (int number = 0; number < count; ++number) calls.push_back(make_call());
  {
    Workers workers(dispatcher, [&ran](std::size_t, const Delivery&) { ++ran; });
    std::thread poster([&] {
      for (const auto& call : calls) dispatcher.post(mailbox, call);
    });
    for (const auto& call : calls) cancelled += call->cancel();
    poster.join();
  }
  CHECK(ran + cancelled == count);
  CHECK(std::all_of(calls.begin(), calls.end(), [](const auto& call) { return call->done(); }));
}

TEST_CASE("closed under load, every call either ran or was refused, or was cancelled with the rest") {
  for (const bool cancelling : {false, true}) {
    Dispatcher dispatcher(2);
    const std::vector<Dispatcher::MailboxId> mailboxes = {dispatcher.open_mailbox({0}),
                                                          dispatcher.open_mailbox({0, 1})};
    std::atomic<int> ran = 0;
    std::atomic<int> accepted = 0;
    Workers workers(dispatcher, [&ran](std::size_t, const Delivery&) { ++ran; });
    std::vector<std::thread> posters;
    for (int poster = 0; poster < 3; ++poster) {
      posters.emplace_back([&] {
        try {
          while (true) {
            dispatcher.post(mailboxes[static_cast<std::size_t>(accepted.load()) % 2], make_call());
            ++accepted;
          }
        } catch (const ClosedError&) {
        }
      });
    }
    while (accepted < 5000) std::this_thread::yield();
    dispatcher.close();
    const int cancelled = cancelling ? static_cast<int>(dispatcher.cancel_pending().size()) : 0;
    for (auto& poster : posters) poster.join();
    workers.join();
    CHECK(ran + cancelled == accepted);
  }
}

TEST_CASE("an interpreter that retires under load takes no shared call with it") {
  constexpr int count = 2000;
  for (int round = 0; round < 5; ++round) {
    Dispatcher dispatcher(2);
    const auto mailbox = dispatcher.open_mailbox({0, 1});
    std::atomic<int> ran = 0;
    Workers workers(dispatcher, [&ran](std::size_t, const Delivery&) { ++ran; });
    std::vector<std::shared_ptr<Call>> calls;
    for (int number = 0; number < count; ++number) {
      calls.push_back(posted(dispatcher, mailbox));
      if (number == count / 2) CHECK(dispatcher.retire(0).empty());
    }
    for (const auto& call : calls) call->wait();
    CHECK(ran == count);
  }
}
