// The graph of waits: which are hopeless, who is told, and what ends a wait early.
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "pool/dispatcher.h"
#include "task/call.h"
#include "task/completion_queue.h"
#include "task/runner.h"

using multipy::Call;
using multipy::CallGroup;
using multipy::Clock;
using multipy::CompletionQueue;
using multipy::DeadlockError;
using multipy::Dispatcher;
using multipy::Runner;
using multipy::Servers;
using multipy::WaitResult;
using namespace std::chrono_literals;

namespace {

constexpr std::uint64_t kActor = 7;  // all calls are of an actor of this number, of which each runner has a replica

/// A runner at a call of the actor, whose user code is what `running` and `group` say.
class Worker final : public Runner {
 public:
  explicit Worker(const std::string& name) : Runner(name) {}
  ~Worker() override { leave(); }
  std::atomic<const Call*> running = nullptr;
  std::atomic<const CallGroup*> group = nullptr;
  std::atomic<int> interrupts = 0;

 protected:
  Reached interrupt_running(const Call* call, const CallGroup* of) override {
    if ((call == nullptr || running != call) && (of == nullptr || group != of)) return Reached::nothing;
    ++interrupts;
    return Reached::code;
  }
  std::uint64_t actor() const noexcept override { return kActor; }
};

/// A call that `servers` may take, of an actor called `label`.
std::shared_ptr<Call> call_for(const std::vector<Worker*>& servers, const std::string& label = {}) {
  auto ids = std::make_shared<Servers>();
  for (const Worker* server : servers) ids->push_back(server->id());
  auto call = std::make_shared<Call>(multipy::Payload{}, std::make_shared<CallGroup>(label, kActor));
  call->set_mailbox(1, ids);
  return call;
}

/// Waits for `call` as `worker` does, on a thread of its own.
class Waiting {
 public:
  Waiting(Worker& worker, std::shared_ptr<Call> call, multipy::Deadline deadline = std::nullopt)
      : thread_([this, &worker, call = std::move(call), deadline] {
          worker.adopt_thread();
          try {
            result = call->wait(deadline);
          } catch (const DeadlockError& error) {
            text = error.what();
          }
          done_ = true;
        }) {}
  ~Waiting() { join(); }
  void join() {
    if (thread_.joinable()) thread_.join();
  }
  bool done() const { return done_; }

  std::string text;
  WaitResult result = WaitResult::woken;

 private:
  std::atomic<bool> done_ = false;
  std::thread thread_;
};

void finish(const std::shared_ptr<Call>& call) {
  call->start();
  call->succeed({});
}

}  // namespace

TEST_CASE("a runner that waits for a call only it could take is told at once") {
  Worker one("one");
  const auto call = call_for({&one}, "Actor");
  Waiting waiting(one, call);
  waiting.join();
  CHECK(waiting.text == "this wait could never end: one waits for a call of Actor that is queued for one");
  call->set_worker(0, one.id());
  Waiting running(one, call);
  running.join();
  CHECK(running.text == "this wait could never end: one waits for a call of Actor that runs in one");
}

TEST_CASE("the last wait of a circle is told the circle, and the others go on") {
  for (int length = 2; length <= 4; ++length) {
    std::vector<std::unique_ptr<Worker>> workers;
    for (int index = 0; index < length; ++index)
      workers.push_back(std::make_unique<Worker>("w" + std::to_string(index)));
    std::vector<std::shared_ptr<Call>> calls;
    for (int index = 0; index < length; ++index) {
      calls.push_back(call_for({workers[static_cast<std::size_t>((index + 1) % length)].get()}, "Actor"));
    }
    std::vector<std::unique_ptr<Waiting>> waits;
    for (int index = 0; index < length; ++index) {
      const auto at = static_cast<std::size_t>(index);
      waits.push_back(std::make_unique<Waiting>(*workers[at], calls[at]));
    }
    // Exactly one is told; who that is depends on who came last.
    std::size_t told = waits.size();
    while (told == waits.size()) {
      for (std::size_t at = 0; at < waits.size(); ++at) {
        if (waits[at]->done()) told = at;
      }
      std::this_thread::yield();
    }
    waits[told]->join();
    for (const auto& worker : workers) CHECK(waits[told]->text.find(worker->name() + " waits") != std::string::npos);
    for (std::size_t at = 0; at < waits.size(); ++at) {
      CHECK(waits[at]->done() == (at == told));
    }
    for (const auto& call : calls) finish(call);
    for (const auto& wait : waits) wait->join();
    for (std::size_t at = 0; at < waits.size(); ++at) CHECK(waits[at]->text.empty() == (at != told));
  }
}

TEST_CASE("a wait is not hopeless while anybody may serve it") {
  Worker one("one");
  Worker two("two");
  const auto shared = call_for({&one, &two});
  Waiting waiting(one, shared);
  SUBCASE("another server is free") {}
  SUBCASE("another server waits with a deadline") {
    Waiting finite(two, call_for({&one}), Clock::now() + 1ms);
    finite.join();
    CHECK(finite.result == WaitResult::timed_out);
    CHECK(finite.text.empty());
  }
  SUBCASE("another server waits for a call that has ended") {
    const auto ended = call_for({&one});
    finish(ended);
    Waiting other(two, ended);
    other.join();
    CHECK(other.text.empty());
  }
  SUBCASE("another server waits for one that goes on aside") {
    const auto aside = call_for({&one});
    aside->start();
    aside->set_worker(0, one.id());
    // On a thread of its own, which does not outlive the runner that it is of.
    std::thread([&] {
      one.adopt_thread();
      aside->run_aside(std::make_shared<CompletionQueue>());
    }).join();
    Waiting other(two, aside);
    CHECK(aside->succeed({}));
    other.join();
    CHECK(other.text.empty());
  }
  CHECK_FALSE(waiting.done());
  finish(shared);
  waiting.join();
  CHECK(waiting.text.empty());
}

TEST_CASE("all servers of a call being stuck is a circle, too") {
  Worker one("one");
  Worker two("two");
  Worker three("three");
  const auto shared = call_for({&two, &three}, "Both");
  const auto to_one = call_for({&one}, "One");
  Waiting first(one, shared);
  Waiting second(two, to_one);
  Waiting third(three, to_one);
  while (!first.done() && !second.done() && !third.done()) std::this_thread::yield();
  for (const auto& call : {shared, to_one}) finish(call);
  for (Waiting* wait : {&first, &second, &third}) wait->join();
  const std::string text = first.text + second.text + third.text;
  CHECK(text.find("a call of Both that is queued for two or three") != std::string::npos);
  CHECK(text.find("a call of One that is queued for one") != std::string::npos);
}

TEST_CASE("a thread that is no runner is in no circle") {
  Worker one("one");
  const auto call = call_for({&one});
  std::thread([&] { CHECK(call->wait(Clock::now() + 1ms) == WaitResult::timed_out); }).join();
}

TEST_CASE("an interrupt ends the wait of the call or the group that it is for, and of no other") {
  for (int round = 0; round < 100; ++round) {
    Worker one("one");
    Worker two("two");
    const auto awaited = call_for({&two});
    const auto current = call_for({&one}, "Actor");
    const auto other = call_for({&one}, "Actor");
    one.running = current.get();
    one.group = current->group().get();
    Waiting waiting(one, awaited);
    Runner::interrupt(one.id(), other.get(), nullptr);
    Runner::interrupt(one.id(), nullptr, other->group().get());
    Runner::interrupt(two.id(), current.get(), nullptr);
    CHECK(one.interrupts == 0);
    CHECK_FALSE(waiting.done());
    if (round % 2 == 0) Runner::interrupt(one.id(), current.get(), nullptr);
    if (round % 2 == 1) Runner::interrupt(one.id(), nullptr, current->group().get());
    waiting.join();
    CHECK(waiting.result == WaitResult::interrupted);
    CHECK(one.interrupts == 1);
    finish(awaited);
  }
}

TEST_CASE("a runner that has left is not interrupted any more") {
  Worker one("one");
  const auto current = call_for({&one});
  one.running = current.get();
  one.leave();
  Runner::interrupt(one.id(), current.get(), nullptr);
  Runner::interrupt(0, current.get(), nullptr);
  CHECK(one.interrupts == 0);
}

TEST_CASE("a runner that waits for room is interrupted, and is told of a circle") {
  for (int round = 0; round < 50; ++round) {
    Worker one("one");
    Dispatcher dispatcher(1, {one.id()});
    const auto mailbox = dispatcher.open_mailbox({0}, 1);
    dispatcher.post(mailbox, call_for({&one}));
    CHECK(dispatcher.wait_for_room(mailbox, Clock::now() + 1us) == WaitResult::timed_out);
    Worker two("two");
    const auto current = call_for({&two});
    two.running = current.get();
    std::atomic<bool> ended = false;
    std::thread waiting([&] {
      two.adopt_thread();
      // The interrupt may have it look around before it says that it was one.
      while (dispatcher.wait_for_room(mailbox, std::nullopt, "Actor", kActor) == WaitResult::woken) {
      }
      ended = true;
    });
    Runner::interrupt(two.id(), current.get(), nullptr);
    waiting.join();
    CHECK(ended);
    std::string text;
    std::thread([&] {
      one.adopt_thread();
      try {
        dispatcher.wait_for_room(mailbox, std::nullopt, "Actor", kActor);
      } catch (const DeadlockError& error) {
        text = error.what();
      }
    }).join();
    CHECK(text == "this wait could never end: one waits for room in the mailbox of Actor in one");
  }
}

TEST_CASE("many runners that wait for each other at random are all told or served in the end") {
  constexpr std::size_t count = 4;
  for (int round = 0; round < 50; ++round) {
    std::vector<std::unique_ptr<Worker>> workers;
    for (std::size_t index = 0; index < count; ++index) {
      workers.push_back(std::make_unique<Worker>("w" + std::to_string(index)));
    }
    std::vector<std::thread> threads;
    std::vector<std::shared_ptr<Call>> calls;
    for (std::size_t index = 0; index < count; ++index) {
      calls.push_back(call_for({workers[(index * 7 + static_cast<std::size_t>(round)) % count].get()}));
    }
    for (std::size_t index = 0; index < count; ++index) {
      threads.emplace_back([&, index] {
        workers[index]->adopt_thread();
        try {
          calls[index]->wait();
        } catch (const DeadlockError&) {
        }
        // It goes on, and so serves those who wait for it.
        for (std::size_t other = 0; other < count; ++other) {
          if ((other * 7 + static_cast<std::size_t>(round)) % count == index) finish(calls[other]);
        }
      });
    }
    for (auto& thread : threads) thread.join();
    for (const auto& call : calls) CHECK(call->done());
  }
}
