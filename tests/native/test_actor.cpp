// Actors on a pool whose interpreters never start: the tests take calls in their place.
#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "pool/actor.h"
#include "pool/pool.h"

using multipy::Actor;
using multipy::ActorOptions;
using multipy::Call;
using multipy::CallState;
using multipy::Clock;
using multipy::ClosedError;
using multipy::Error;
using multipy::FullError;
using multipy::Payload;
using multipy::Pool;
using multipy::WaitResult;

namespace {

std::shared_ptr<Pool> make_pool(std::size_t size) {
  std::vector<multipy::InterpreterOptions> options(size);
  for (std::size_t index = 0; index < size; ++index) options[index].name = "test-" + std::to_string(index);
  return std::make_shared<Pool>(options, "test");
}

std::shared_ptr<Actor> make_actor(const std::shared_ptr<Pool>& pool, std::size_t replicas, const std::string& name = {},
                                  std::size_t limit = 0) {
  ActorOptions options;
  options.number = Actor::next_number();
  options.interpreters = pool->place(replicas);
  options.label = "Label";
  options.name = name;
  options.farewell = "farewell";
  options.limit = limit;
  auto actor = Actor::create(pool, options);
  actor->announce();
  return actor;
}

std::shared_ptr<Call> posted(Actor& actor) {
  auto call = actor.make_call({"call", {}});
  actor.post(call);
  return call;
}

std::shared_ptr<Call> posted_on(Actor& actor, std::size_t interpreter) {
  auto call = actor.make_call({"pinned", {}});
  actor.post(call, interpreter);
  return call;
}

/// What `interpreter` finds when it looks for its next call, by the text of its request; empty: nothing.
std::string next(Pool& pool, std::size_t interpreter) {
  if (pool.dispatcher().statistics(interpreter).queued + pool.dispatcher().statistics(interpreter).queued_shared == 0)
    return {};
  const auto delivery = pool.dispatcher().take(interpreter);
  if (!delivery.call || !delivery.call->start()) return {};
  return delivery.call->take_request().data;
}

}  // namespace

TEST_CASE("the last reference says farewell to every replica, after the calls posted before") {
  const auto pool = make_pool(2);
  auto actor = make_actor(pool, 2);
  posted(*actor);
  posted_on(*actor, 1);
  auto another = actor;
  actor.reset();
  CHECK(next(*pool, 0) == "call");
  CHECK(next(*pool, 0).empty());
  posted(*another);
  another.reset();
  CHECK(next(*pool, 1) == "pinned");
  CHECK(next(*pool, 1) == "call");
  CHECK(next(*pool, 1) == "farewell");
  CHECK(next(*pool, 0) == "farewell");
  CHECK(next(*pool, 0).empty());
  CHECK(pool->place(2) == std::vector<std::size_t>{0, 1});
}

TEST_CASE("calls on one replica keep their order among the others, and go nowhere else") {
  const auto pool = make_pool(2);
  const auto actor = make_actor(pool, 2, {}, 3);
  posted_on(*actor, 0);
  posted(*actor);
  posted_on(*actor, 0);
  posted_on(*actor, 0);
  CHECK(actor->queued() == 4);
  CHECK(next(*pool, 1) == "call");
  CHECK(next(*pool, 1).empty());
  for (int index = 0; index < 3; ++index) CHECK(next(*pool, 0) == "pinned");
  CHECK(actor->queued() == 0);
}

TEST_CASE("a full mailbox refuses a call, and so does that of a replica alone, each on its own account") {
  const auto pool = make_pool(2);
  const auto actor = make_actor(pool, 2, {}, 1);
  posted(*actor);
  CHECK_THROWS_AS(posted(*actor), FullError);
  CHECK(actor->wait_for_room(std::nullopt, Clock::now()) == WaitResult::timed_out);
  for (const std::size_t index : {0u, 1u}) {
    CHECK(actor->wait_for_room(index, Clock::now()) == WaitResult::woken);
    posted_on(*actor, index);
    CHECK_THROWS_AS(posted_on(*actor, index), FullError);
    CHECK(actor->wait_for_room(index, Clock::now()) == WaitResult::timed_out);
  }
  actor->post(actor->make_call({"unlimited", {}}), 0, false);
  CHECK(actor->queued() == 4);
  CHECK_THROWS_AS(actor->wait_for_room(7, Clock::now()), ClosedError);
}

TEST_CASE("a killed actor fails what waits, and keeps replicas from being made") {
  const auto pool = make_pool(2);
  const auto actor = make_actor(pool, 2, "killed");
  const auto making = actor->make_replica(0, {"make", {}});
  const auto made = actor->make_replica(1, {"make", {}});
  CHECK(next(*pool, 1) == "make");
  const std::vector<std::shared_ptr<Call>> calls{posted(*actor), posted_on(*actor, 0), posted_on(*actor, 1)};
  actor->kill({"error", {}});
  for (const auto& call : calls) {
    CHECK(call->state() == CallState::failed);
    CHECK(call->result().data == "error");
  }
  CHECK(making->state() == CallState::cancelled);
  CHECK(made->interrupted());
  CHECK(actor->closed());
  CHECK(actor->interpreters().empty());
  CHECK(Actor::find("killed") == nullptr);
  CHECK_THROWS_AS(posted(*actor), ClosedError);
  CHECK_THROWS_AS(posted_on(*actor, 0), ClosedError);
  for (const std::size_t index : {0u, 1u}) {
    std::vector<std::string> found;
    while (pool->dispatcher().statistics(index).queued > 0) found.push_back(next(*pool, index));
    CHECK(std::count(found.begin(), found.end(), "farewell") == 1);
    CHECK(std::count(found.begin(), found.end(), "make") == 0);
  }
  actor->kill({"again", {}});
  CHECK_FALSE(actor->unload(0, {}));
  CHECK(pool->place(1) == std::vector<std::size_t>{0});
}

TEST_CASE("an unloaded replica fails its own calls and leaves the others; the last ends the actor") {
  const auto pool = make_pool(2);
  const auto actor = make_actor(pool, 2, "unloaded");
  const auto shared = posted(*actor);
  const auto own = posted_on(*actor, 0);
  const auto other = posted_on(*actor, 1);
  CHECK(actor->unload(0, {"error", {}}));
  CHECK(own->result().data == "error");
  CHECK(shared->state() == CallState::pending);
  CHECK(actor->interpreters() == std::vector<std::size_t>{1});
  CHECK_FALSE(actor->unload(0, {}));
  CHECK_FALSE(actor->unload(7, {}));
  CHECK_THROWS_WITH_AS(posted_on(*actor, 0), "there is no replica in interpreter 0", ClosedError);
  CHECK_FALSE(actor->closed());
  CHECK(next(*pool, 1) == "call");
  const auto last = posted(*actor);
  CHECK(actor->unload(1, {"error", {}}));
  CHECK(last->result().data == "error");
  CHECK(other->result().data == "error");
  CHECK(actor->closed());
  CHECK(Actor::find("unloaded") == nullptr);
  CHECK(next(*pool, 0) == "farewell");
  CHECK(next(*pool, 0).empty());
}

TEST_CASE("a name belongs to one actor, from its announcement to its end") {
  const auto pool = make_pool(1);
  ActorOptions options;
  options.interpreters = pool->place(1);
  options.name = "name";
  auto actor = Actor::create(pool, options);
  CHECK_THROWS_WITH_AS(make_actor(pool, 1, "name"), "there is an actor named 'name' already", Error);
  std::shared_ptr<Actor> found;
  std::thread finder([&found] { found = Actor::find("name"); });
  actor->announce();
  finder.join();
  CHECK(found == actor);
  found.reset();
  CHECK(Actor::find("name") == actor);
  CHECK(Actor::find("other") == nullptr);
  actor->kill({});
  auto heir = make_actor(pool, 1, "name");
  actor.reset();
  CHECK(Actor::find("name") == heir);
  heir.reset();
  CHECK(Actor::find("name") == nullptr);
  heir = make_actor(pool, 1, "name");
  pool->close();
  const auto other = make_pool(1);
  const auto last = make_actor(other, 1, "name");
  CHECK(Actor::find("name") == last);
  CHECK_THROWS_AS(make_actor(pool, 1), ClosedError);
}

TEST_CASE("figures count what ended of an actor's own calls") {
  const auto pool = make_pool(1);
  const auto actor = make_actor(pool, 1);
  actor->make_replica(0, {"make", {}});
  CHECK(next(*pool, 0) == "make");
  for (const bool fails : {false, true, false}) {
    const auto call = posted(*actor);
    pool->dispatcher().take(0);
    call->start();
    fails ? call->fail({}) : call->succeed({});
  }
  CHECK(actor->figures().done == 3);
  CHECK(actor->figures().failed == 1);
}

TEST_CASE("actors are made, found, called, unloaded, killed and dropped from many threads") {
  for (int round = 0; round < 20; ++round) {
    const auto pool = make_pool(3);
    std::vector<std::thread> workers;
    for (std::size_t index = 0; index < 3; ++index) {
      workers.emplace_back([&pool, index] {
        while (true) {
          const auto delivery = pool->dispatcher().take(index);
          if (delivery.kind == multipy::Dispatcher::Delivery::closed) return;
          if (delivery.call && delivery.call->start()) delivery.call->succeed({});
        }
      });
    }
    std::vector<std::thread> users;
    for (int user = 0; user < 4; ++user) {
      users.emplace_back([&pool, user] {
        for (int turn = 0; turn < 20; ++turn) {
          std::shared_ptr<Actor> actor;
          try {
            actor = make_actor(pool, 2, "everybody's");
          } catch (const Error&) {
            actor = Actor::find("everybody's");
          }
          if (!actor) continue;
          std::vector<std::shared_ptr<Call>> calls;
          try {
            for (int index = 0; index < 5; ++index) calls.push_back(posted(*actor));
            for (const std::size_t place : actor->interpreters()) calls.push_back(posted_on(*actor, place));
            if (turn % 4 == user) actor->unload(actor->interpreters().at(0), {"error", {}});
          } catch (const ClosedError&) {
          } catch (const std::out_of_range&) {
          }
          if (turn % 3 == user) actor->kill({"error", {}});
          actor.reset();
          for (const auto& call : calls) call->wait();
        }
      });
    }
    for (auto& user : users) user.join();
    CHECK(Actor::find("everybody's") == nullptr);
    // All places were given back.
    CHECK(pool->place(1) == std::vector<std::size_t>{0});
    CHECK(pool->place(1) == std::vector<std::size_t>{1});
    CHECK(pool->place(1) == std::vector<std::size_t>{2});
    pool->close();
    for (auto& worker : workers) worker.join();
  }
}

TEST_CASE("in a forked child an actor goes without a word") {
  const auto pool = make_pool(1);
  auto actor = make_actor(pool, 1, "forked");
  const pid_t child = ::fork();
  if (child == 0) {
    actor.reset();
    ::_exit(pool->is_lost() && pool->dispatcher().statistics(0).queued == 0 ? 0 : 1);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  CHECK_FALSE(pool->is_lost());
  CHECK(Actor::find("forked") == actor);
}
