// What cannot throw goes on where an allocation fails, and what throws leaves nothing behind.
#include <doctest/doctest.h>

#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "exchange/return_queue.h"
#include "exchange/tensor.h"
#include "pool/actor.h"
#include "pool/closing.h"
#include "pool/dispatcher.h"
#include "pool/pool.h"
#include "posting.h"
#include "task/call.h"
#include "task/completion_queue.h"
#include "task/waits.h"
#include "without_memory.h"

void* operator new(std::size_t size) {
  if (WithoutMemory::until_failure > 0 && --WithoutMemory::until_failure == 0) {
    WithoutMemory::has_failed = true;
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
using multipy::CallState;
using multipy::Clock;
using multipy::ClosedError;
using multipy::Closing;
using multipy::CompletionQueue;
using multipy::Dispatcher;
using multipy::Payload;
using multipy::Pool;
using multipy::Runner;

namespace {

/// Whether `function` needs no memory.
template <typename Function>
bool needs_none(Function&& function) {
  const WithoutMemory failure(1);
  function();
  return !failure.failed();
}

/// Has `attempt` told each number in turn, and says whether what it calls in WithoutMemory came so far.
template <typename Attempt>
void each_failure(Attempt&& attempt) {
  int nth = 1;
  while (attempt(nth)) ++nth;
  CHECK(nth > 1);
}

/// Calls `function`, in which the `nth` allocation fails; false: there were less. `threw`: it did not end.
template <typename Function>
bool fails_at(int nth, bool& threw, Function&& function) {
  threw = false;
  const WithoutMemory failure(nth);
  try {
    function();
  } catch (const std::bad_alloc&) {
    threw = true;
  }
  return failure.failed();
}

std::shared_ptr<Pool> make_pool(std::size_t size) {
  std::vector<multipy::InterpreterOptions> options(size);
  for (std::size_t index = 0; index < size; ++index) options[index].name = "test-" + std::to_string(index);
  return std::make_shared<Pool>(options, "test");
}

std::shared_ptr<Actor> make_actor(const std::shared_ptr<Pool>& pool, std::size_t replicas) {
  multipy::ActorOptions options;
  options.number = Actor::next_number();
  options.interpreters = pool->place(replicas);
  options.label = "Label";
  auto actor = Actor::create(pool, options);
  actor->announce();
  return actor;
}

std::shared_ptr<Call> posted_to(Actor& actor, std::optional<std::size_t> on = std::nullopt) {
  auto call = actor.make_call({"call", {}});
  actor.post(call, on);
  return call;
}

const Payload kError{"an error that is longer than what a string has room for by itself", {}};

}  // namespace

TEST_CASE("a dispatcher closes without memory, and all who sleep there hear of it") {
  Dispatcher dispatcher(2);
  dispatcher.open_mailbox({0, 1});
  std::vector<std::thread> sleepers;
  for (const std::size_t interpreter : {0, 1}) {
    sleepers.emplace_back(
        [&dispatcher, interpreter] { CHECK(dispatcher.take(interpreter).kind == Dispatcher::Delivery::closed); });
  }
  while (dispatcher.idle() < 2) std::this_thread::yield();
  CHECK(needs_none([&] { dispatcher.close(); }));
  for (auto& sleeper : sleepers) sleeper.join();
}

TEST_CASE("what is queued is given back without memory, whatever ends") {
  for (int way = 0; way < 4; ++way) {
    Dispatcher dispatcher(2);
    const auto own = dispatcher.open_mailbox({0});
    const auto other = dispatcher.open_mailbox({0});
    const std::vector<std::shared_ptr<Call>> calls = {posted(dispatcher, own), posted(dispatcher, own)};
    const auto alone = make_call();
    dispatcher.post_alone(0, alone);
    const auto first = make_call();
    dispatcher.put_first(0, {first});
    std::vector<std::shared_ptr<Call>> given;
    multipy::CallList list;
    CHECK(needs_none([&] {
      if (way == 0) list.append(dispatcher.retire(0));
      if (way == 1) list.append(dispatcher.cancel_pending());
      if (way == 2) list.append(dispatcher.close_mailbox(own));
      if (way == 3) dispatcher.leave(own, 0, list);
    }));
    CHECK(list.size() == (way < 2 ? 4 : 2));
    for (const auto& call : calls) CHECK(call->state() == (way == 1 ? CallState::cancelled : CallState::pending));
    CHECK(dispatcher.queued(own) == 0);
    dispatcher.close_mailbox(other);
  }
}

TEST_CASE("a call for which there was no memory is not queued, and can be posted again") {
  each_failure([](int nth) {
    Dispatcher dispatcher(1);
    const auto mailbox = dispatcher.open_mailbox({0}, 1);
    const auto call = make_call();
    bool threw;
    const bool failed = fails_at(nth, threw, [&] { dispatcher.post(mailbox, call); });
    CHECK(dispatcher.queued(mailbox) == (threw ? 0 : 1));
    if (threw) dispatcher.post(mailbox, call);
    CHECK(dispatcher.take(0).call == call);
    CHECK(call->cancel());
    CHECK(dispatcher.queued(mailbox) == 0);
    return failed;
  });
}

TEST_CASE("a mailbox for which there was no memory is not there") {
  each_failure([](int nth) {
    Dispatcher dispatcher(2);
    bool threw;
    Dispatcher::MailboxId mailbox = 0;
    const bool failed = fails_at(nth, threw, [&] { mailbox = dispatcher.open_mailbox({0, 1}); });
    if (threw) mailbox = dispatcher.open_mailbox({0, 1});
    const auto call = posted(dispatcher, mailbox);
    CHECK(dispatcher.statistics(0).queued_shared == 1);
    CHECK(all_of(dispatcher.retire(0)).empty());
    CHECK(dispatcher.take(1).call == call);
    posted(dispatcher, mailbox);
    CHECK(dispatcher.retire(1).size() == 1);
    return failed;
  });
}

TEST_CASE("no call is lost while there is no memory for who takes it") {
  each_failure([](int nth) {
    Dispatcher dispatcher(1);
    const auto mailbox = dispatcher.open_mailbox({0});
    const auto ended = posted(dispatcher, mailbox);
    const auto session = make_call();
    dispatcher.request(mailbox, session, 7);
    const auto alone = make_call();
    dispatcher.post_alone(0, alone);
    const auto last = posted(dispatcher, mailbox);
    const auto within = make_call();
    within->set_holdings(std::make_shared<const multipy::Holding>(multipy::Holding{7, nullptr, nullptr}));
    dispatcher.post(mailbox, within);
    const auto first = make_call();
    dispatcher.put_first(0, {first});
    REQUIRE(ended->cancel());
    Dispatcher::Desk desk;
    std::vector<std::shared_ptr<Call>> taken;
    taken.reserve(4);
    bool threw;
    const auto take_all = [&] {
      while (taken.size() < 4) {
        if (taken.size() == 2) dispatcher.release(7);
        taken.push_back(dispatcher.take(0, desk).call);
      }
    };
    const bool failed = fails_at(nth, threw, take_all);
    if (threw) take_all();
    CHECK(session->state() == CallState::succeeded);
    CHECK(taken == std::vector{first, within, alone, last});
    return failed;
  });
}

TEST_CASE("no call is lost while there is no memory for who gathers a batch") {
  each_failure([](int nth) {
    Dispatcher dispatcher(1);
    const auto mailbox = dispatcher.open_mailbox({0});
    std::vector<std::shared_ptr<Call>> calls;
    for (int i = 0; i < 5; ++i) {
      calls.push_back(make_call());
      calls.back()->set_batch("batch");
      dispatcher.post(mailbox, calls.back());
    }
    REQUIRE(calls[1]->cancel());
    const auto first = dispatcher.take(0).call;
    REQUIRE(first == calls[0]);
    std::vector<std::shared_ptr<Call>> more;
    more.reserve(calls.size());
    bool threw;
    const auto gather = [&] {
      while (auto next = dispatcher.take_more(0, mailbox, Clock::now(), first.get())) more.push_back(std::move(next));
    };
    const bool failed = fails_at(nth, threw, gather);
    if (threw) gather();
    CHECK(more == std::vector(calls.begin() + 2, calls.end()));
    return failed;
  });
}

TEST_CASE("who cannot leave a mailbox for want of memory serves it still") {
  each_failure([](int nth) {
    Dispatcher dispatcher(3);
    const auto mailbox = dispatcher.open_mailbox({0, 1, 2});
    const auto call = posted(dispatcher, mailbox);
    multipy::CallList stranded;
    bool threw;
    const bool failed = fails_at(nth, threw, [&] { dispatcher.leave(mailbox, 0, stranded); });
    CHECK(stranded.empty());
    CHECK(dispatcher.servers(mailbox).size() == (threw ? 3 : 2));
    CHECK(dispatcher.take(threw ? 0 : 1).call == call);
    return failed;
  });
}

TEST_CASE("a call that is put back where there is no memory for it is given back") {
  each_failure([](int nth) {
    Dispatcher dispatcher(1);
    const auto mailbox = dispatcher.open_mailbox({0});
    std::vector<std::shared_ptr<Call>> calls;
    for (int i = 0; i < 40; ++i) {
      auto call = make_call();
      call->set_retries(1);
      dispatcher.post(mailbox, call);
      REQUIRE(dispatcher.take(0).call == call);
      calls.push_back(call);
    }
    multipy::CallList again, homeless;
    for (const auto& call : calls) again.push_back(call);
    bool threw;
    const bool failed = fails_at(nth, threw, [&] { homeless.append(dispatcher.put_back(std::move(again))); });
    CHECK_FALSE(threw);
    CHECK(homeless.size() == (failed ? 1 : 0));
    std::erase(calls, homeless.front());
    for (const auto& call : calls) CHECK(dispatcher.take(0).call == call);
    return failed;
  });
}

TEST_CASE("an interpreter whose place cannot be taken for want of memory keeps it") {
  each_failure([](int nth) {
    Dispatcher dispatcher(1);
    const auto mailbox = dispatcher.open_mailbox({0});
    const auto taken = posted(dispatcher, mailbox);
    REQUIRE(dispatcher.take(0).call == taken);
    const auto queued = posted(dispatcher, mailbox);
    multipy::CallList lost;
    Dispatcher::Calls in_hand;
    bool threw;
    const bool failed = fails_at(nth, threw, [&] { lost.append(dispatcher.replace(0, 0, &in_hand)); });
    CHECK(lost.size() == (threw ? 0 : 1));
    if (threw) {
      CHECK(dispatcher.in_hand(0).front() == taken);
      CHECK(dispatcher.take(0).call == queued);
    } else {
      CHECK(in_hand.front() == taken);
    }
    return failed;
  });
}

TEST_CASE("an actor is killed whole, or goes on where there is no memory for that") {
  each_failure([](int nth) {
    const auto pool = make_pool(2);
    const auto actor = make_actor(pool, 2);
    const auto making = actor->make_replica(0, {"make", {}});
    const auto running = posted_to(*actor);
    REQUIRE(pool->dispatcher().take(1).call == running);
    REQUIRE(running->start());
    auto* const worker = const_cast<multipy::Worker*>(&pool->worker(1));
    worker->begin(*running);
    const std::vector<std::shared_ptr<Call>> queued = {posted_to(*actor), posted_to(*actor, 0), posted_to(*actor, 1)};
    bool threw;
    const bool failed = fails_at(nth, threw, [&] { actor->kill(kError); });
    worker->end();
    CHECK(actor->closed() == !threw);
    for (const auto& call : queued) CHECK(call->state() == (threw ? CallState::pending : CallState::failed));
    CHECK(making->state() == (threw ? CallState::pending : CallState::cancelled));
    CHECK(running->state() == (threw ? CallState::running : CallState::failed));
    if (threw) {
      actor->kill(kError);
      for (const auto& call : queued) CHECK(call->result().data == kError.data);
    }
    CHECK_THROWS_AS(posted_to(*actor), ClosedError);
    return failed;
  });
}

TEST_CASE("a replica is dropped whole, or stays where there is no memory for that") {
  each_failure([](int nth) {
    const auto pool = make_pool(3);
    const auto actor = make_actor(pool, 3);
    const auto any = posted_to(*actor);
    const auto pinned = posted_to(*actor, 0);
    bool threw;
    const bool failed = fails_at(nth, threw, [&] { actor->unload(0, kError); });
    CHECK(any->state() == CallState::pending);
    CHECK(pinned->state() == (threw ? CallState::pending : CallState::failed));
    CHECK(actor->interpreters().size() == (threw ? 3 : 2));
    return failed;
  });
}

TEST_CASE("an actor that cannot be made for want of memory leaves no mailbox") {
  each_failure([](int nth) {
    const auto pool = make_pool(1);
    multipy::ActorOptions options;
    options.number = Actor::next_number();
    options.interpreters = {0};
    options.name = "a name that is longer than what a string has room for";
    bool threw;
    const bool failed = fails_at(nth, threw, [&] { Actor::create(pool, options)->announce(); });
    options.number = Actor::next_number();
    CHECK_NOTHROW(Actor::create(pool, options));  // the name is free
    return failed;
  });
}

TEST_CASE("a call for one replica is posted, or not, where there is no memory for a mailbox of its own") {
  each_failure([](int nth) {
    const auto pool = make_pool(2);
    const auto actor = make_actor(pool, 2);
    const auto call = actor->make_call({"call", {}});
    bool threw;
    const bool failed = fails_at(nth, threw, [&] { actor->post(call, 1); });
    CHECK(actor->queued() == (threw ? 0 : 1));
    if (threw) actor->post(call, 1);
    CHECK(pool->dispatcher().take(1).call == call);
    return failed;
  });
}

TEST_CASE("the calls of an interpreter that is lost fail where there is no memory to say why") {
  each_failure([](int nth) {
    const auto pool = make_pool(1);
    auto* const worker = const_cast<multipy::Worker*>(&pool->worker(0));
    std::vector<std::shared_ptr<Call>> calls;
    for (int i = 0; i < 3; ++i) calls.push_back(posted(pool->dispatcher(), pool->own_mailbox(0)));
    REQUIRE(pool->dispatcher().take(0).call == calls[0]);
    REQUIRE(calls[0]->start());
    const auto queue = std::make_shared<CompletionQueue>();
    const auto aside = make_call();
    std::thread([&] {
      worker->adopt_thread();
      aside->start();
      aside->run_aside(queue);
    }).join();
    calls.push_back(aside);
    bool threw;
    const bool failed = fails_at(nth, threw, [&] { pool->lost(*worker); });
    CHECK_FALSE(threw);
    for (const auto& call : calls) CHECK(call->state() == CallState::failed);
    CHECK(queue->pop(Clock::now()) == aside);
    CHECK_THROWS_AS(posted(pool->dispatcher(), pool->own_mailbox(0)), ClosedError);
    return failed;
  });
}

TEST_CASE("a closed pool is left behind where there is no memory to tell who waits for its calls") {
  each_failure([](int nth) {
    const auto pool = make_pool(2);
    std::vector<std::shared_ptr<Call>> calls;
    for (int i = 0; i < 3; ++i) calls.push_back(posted(pool->dispatcher(), pool->own_mailbox(1)));
    REQUIRE(pool->dispatcher().take(1).call == calls[0]);
    REQUIRE(calls[0]->start());
    pool->close();
    const auto closing = std::make_shared<Closing>(pool);
    bool threw;
    const bool failed = fails_at(nth, threw, [&] { closing->leave(kError); });
    CHECK_FALSE(threw);
    for (const auto& call : calls) CHECK(call->done());
    CHECK(pool->messages()->closed());
    return failed;
  });
}

TEST_CASE("a tensor that nobody uses any more goes home without memory, and its owner is told") {
  for (const bool put_off : {false, true}) {
    const auto queue = std::make_shared<multipy::ReturnQueue>();
    int woken = 0;
    int deleted = 0;
    queue->set_wake([&] { ++woken; });
    DLManagedTensor managed{};
    managed.dl_tensor = {&deleted, {kDLCPU, 0}, 0, {kDLFloat, 32, 1}, nullptr, nullptr, 0};
    managed.manager_ctx = &deleted;
    managed.deleter = [](DLManagedTensor* self) { ++*static_cast<int*>(self->manager_ctx); };
    auto tensor = multipy::SharedTensor::adopt(&managed, queue);
    // On a thread that has never put anything off.
    std::thread([&] {
      if (put_off) multipy::ReturnQueue::put_off_calls();
      CHECK(needs_none([&] { tensor.reset(); }) == !put_off);
    }).join();
    CHECK(woken == 1);
    CHECK(deleted == 0);
    CHECK(queue->drain() == 1);
    CHECK(deleted == 1);
    queue->set_wake(nullptr);
  }
}

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

TEST_CASE("a call goes on aside, or not where there is no memory for that, and an interrupt reaches it") {
  for (int nth = 1;; ++nth) {
    Worker one("one");
    const auto call = make_call();
    const auto queue = std::make_shared<CompletionQueue>();
    bool threw = false;
    bool failed = false;
    std::thread([&] {
      one.adopt_thread();
      call->start();
      failed = fails_at(nth, threw, [&] { call->run_aside(queue); });
      CHECK(call->runs_aside() == !threw);
      if (threw) call->run_aside(queue);
    }).join();
    CHECK(fails_at(1, threw, [&] { Runner::interrupt_asides(one.id(), nullptr, &kError); }));
    CHECK_FALSE(threw);
    CHECK(call->state() == CallState::failed);
    CHECK(queue->pop(Clock::now()) == call);
    if (!failed) {
      CHECK(nth > 1);
      break;
    }
  }
}
