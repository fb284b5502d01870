// What cannot throw goes on where an allocation fails, and what throws leaves nothing behind.
#include <doctest/doctest.h>

#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "pool/actor.h"
#include "pool/pool.h"
#include "task/call.h"
#include "task/completion_queue.h"
#include "task/waits.h"

namespace {

thread_local int until_failure = 0;  // 0: none is to fail
thread_local bool has_failed = false;

/// While it lives, the `nth` call of operator new that its thread makes throws std::bad_alloc.
class WithoutMemory {
 public:
  explicit WithoutMemory(int nth) {
    has_failed = false;
    until_failure = nth;
  }
  ~WithoutMemory() { until_failure = 0; }
  WithoutMemory(const WithoutMemory&) = delete;
  WithoutMemory& operator=(const WithoutMemory&) = delete;

  /// Whether there was such a call.
  bool failed() const { return has_failed; }
};

}  // namespace

void* operator new(std::size_t size) {
  if (until_failure > 0 && --until_failure == 0) {
    has_failed = true;
    throw std::bad_alloc();
  }
  if (void* const memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

using multipy::Actor;
using multipy::Await;
using multipy::Call;
using multipy::CallGroup;
using multipy::CompletionQueue;
using multipy::Pool;
using multipy::Runner;

TEST_CASE("an actor is let go of where there is no memory to tell its interpreters") {
  for (int nth = 1;; ++nth) {
    std::vector<multipy::InterpreterOptions> options(1);
    options[0].name = "test-0";
    const auto pool = std::make_shared<Pool>(options, "test");
    multipy::ActorOptions of_actor;
    of_actor.number = Actor::next_number();
    of_actor.interpreters = pool->place(1);
    of_actor.name = "name";
    auto actor = Actor::create(pool, of_actor);
    actor->announce();
    bool failed;
    {
      const WithoutMemory failure(nth);
      actor.reset();
      failed = failure.failed();
    }
    of_actor.number = Actor::next_number();
    of_actor.interpreters = pool->place(1);
    CHECK_NOTHROW(Actor::create(pool, of_actor));  // the name is free
    if (!failed) {
      CHECK(nth > 1);
      break;
    }
  }
}

TEST_CASE("a call that has ended arrives in every queue that watches it where there is no memory") {
  for (int nth = 1;; ++nth) {
    const auto first = std::make_shared<CompletionQueue>();
    const auto second = std::make_shared<CompletionQueue>();
    const auto call = std::make_shared<Call>(multipy::Payload{});
    call->watch(first);
    call->watch(second);
    call->start();
    bool failed;
    {
      const WithoutMemory failure(nth);
      CHECK_NOTHROW(call->succeed({}));
      failed = failure.failed();
    }
    CHECK(first->pop() == call);
    CHECK(second->pop() == call);
    if (!failed) break;
  }
}

namespace {

class Worker final : public Runner {
 public:
  using Runner::Runner;
  ~Worker() override { leave(); }

 protected:
  Reached interrupt_running(const Call*, const CallGroup*) override { return Reached::code; }
};

}  // namespace

TEST_CASE("a coroutine waits for nothing if there was no memory for that, and is asked the next time") {
  for (int nth = 1;; ++nth) {
    Worker one("one");
    const auto group = std::make_shared<CallGroup>("Actor");
    const auto queue = std::make_shared<CompletionQueue>();
    const auto aside = [&] {
      auto call = std::make_shared<Call>(multipy::Payload{}, group);
      call->set_mailbox(1, std::make_shared<multipy::Servers>(multipy::Servers{one.id()}));
      std::thread([&] {
        one.adopt_thread();
        call->set_worker(0, one.id());
        call->start();
        call->run_aside(queue);
      }).join();
      return call;
    };
    const auto running = aside();
    const auto waiting = aside();
    waiting->wait_for_turn(1);
    bool failed = false;
    {
      const auto await = std::make_shared<Await>(std::vector<std::shared_ptr<Call>>{running});
      const WithoutMemory failure(nth);
      try {
        await->add(waiting);
      } catch (const std::bad_alloc&) {
        CHECK(failure.failed());
      }
      failed = failure.failed();
    }
    // Nothing of the first is left in the graph.
    const auto await = std::make_shared<Await>(std::vector<std::shared_ptr<Call>>{running});
    await->add(waiting);
    CHECK(await->asked());
    if (!failed) {
      CHECK(nth > 1);
      break;
    }
  }
}
