// Sessions, their objects, and objects that move to every interpreter.
#include <atomic>
#include <set>
#include <thread>
#include <vector>

#include "support.h"

using namespace support;

TEST_CASE("a session works with objects that stay in the interpreter") {
  const auto session = manager().acquireOne();
  const Obj list = session.global("builtins", "list")(Value::tuple({1, 2}));
  CHECK(list.hasattr("append"));
  CHECK_FALSE(list.hasattr("appendix"));
  list.attr("append")(3);
  list.attr("append")(list.attr("copy")());
  CHECK(list.value().repr() == "[1, 2, 3, [1, 2, 3]]");
  const Obj text = session.global("builtins", "str")(session.fromValue(Value::List{"x"}));
  CHECK(text.to<std::string>() == "['x']");
  const Obj path = session.global("os.path", "join");
  CHECK(path("a", session.fromValue("b")).to<std::string>() == "a/b");
}

TEST_CASE("keyword arguments are values and objects of the session") {
  const auto session = manager().acquireOne();
  const Obj dict = session.global("builtins", "dict");
  const Obj made = dict.callKwargs({Value::Dict{{"a", 1}}}, {{"b", 2}, {"c", session.fromValue("three")}});
  CHECK(made.value() == Value(Value::Dict{{"a", 1}, {"b", 2}, {"c", "three"}}));
  CHECK(session.global("builtins", "int").callKwargs({"ff"}, {{"base", 16}}).to<int>() == 255);
}

TEST_CASE("each interpreter has modules of its own") {
  for (const auto& interpreter : manager().allInstances())
    interpreter.submit("probe", "remember", interpreter.id()).get();
  for (const auto& interpreter : manager().allInstances()) {
    CHECK(interpreter.submit("probe", "remembered").get<std::size_t>() == interpreter.id());
    CHECK(interpreter.acquireSession().interpreter() == interpreter.id());
  }
}

TEST_CASE("one thread may hold two interpreters") {
  const auto first = manager().allInstances()[0].acquireSession();
  const auto second = manager().allInstances()[1].acquireSession();
  CHECK(first.interpreter() != second.interpreter());
  const Obj one = first.fromValue(1);
  CHECK(first.isOwner(one));
  CHECK_FALSE(second.isOwner(one));
}

TEST_CASE("an object of another session, or of one that has ended, is an error") {
  auto first = manager().acquireOne();
  const auto second = manager().acquireOne();
  const Obj list = first.fromValue(Value::List{1});
  const Obj length = second.global("builtins", "len");
  CHECK_THROWS_AS(length(list), SessionError);
  CHECK_THROWS_AS(second.createMovable(list), SessionError);
  first.end();
  CHECK_THROWS_AS(list.value(), SessionError);
  CHECK_THROWS_AS(list.attr("append"), SessionError);
  CHECK_THROWS_AS(first.global("builtins", "len"), SessionError);
  CHECK_THROWS_AS(Obj().value(), SessionError);
  CHECK_THROWS_AS(manager().createMovable(list), SessionError);
}

TEST_CASE("a movable is called with args and kwargs, wherever an interpreter is free") {
  ReplicatedObj box;
  {
    const auto session = manager().acquireOne();
    box = session.createMovable(session.global("probe", "Box")("content"));
  }
  CHECK(box(1, "two").repr() == "['content', [1, 'two'], {}]");
  CHECK(box.callKwargs({1}, {{"x", 2}}).repr() == "['content', [1], {'x': 2}]");
  CHECK(box.callKwargs({{"x", 2}}).repr() == "['content', [], {'x': 2}]");
  CHECK(box.hasattr("put"));
  CHECK_FALSE(box.hasattr("take"));
  Future future = box.submit(nullptr);
  CHECK(future.valid());
  future.wait();
  CHECK(future.wait_for(std::chrono::seconds(0)) == std::future_status::ready);
  CHECK(future.get().at(1) == Value(Value::List{nullptr}));
}

TEST_CASE("calls of a method that takes batches run as one, from here and from an interpreter") {
  InterpreterManager two(2);
  two.registerModuleSource("batched", R"(
import multipy_actors as multipy

class Counts:
    @multipy.batch(max_batch_size=3, batch_wait=60)
    def how_many(self, items, *, of=None):
        return [len(items)] * len(items)

    def single(self, item):
        return item

def submit(handle, item):
    return [future.result() for future in [handle.how_many.submit(item) for _ in range(3)]]
)");
  ReplicatedObj counts;
  {
    const auto session = two.acquireOne();
    counts = session.createMovable(session.global("batched", "Counts")());
  }
  const auto& caller = two.allInstances()[0];
  counts.unload(caller);
  std::vector<Future> futures;
  for (int i = 0; i < 3; ++i) futures.push_back(counts.submitMethod("how_many", {i}, {{"of", i}}));
  for (auto& future : futures) CHECK(future.get() == Value(3));
  CHECK(caller.submit("batched", "submit", counts, "x").get() == Value(Value::List{3, 3, 3}));
  CHECK(counts.callMethod("single", "one") == Value("one"));
}

TEST_CASE("copies of a movable are independent, and a session's self is the copy") {
  ReplicatedObj box;
  {
    const auto session = manager().acquireOne();
    box = manager().createMovable(session.global("probe", "Box")("first"));
  }
  const auto& instances = manager().allInstances();
  {
    const auto session = box.acquireSession(instances[0]);
    session.self.attr("put")("changed");
    CHECK(box.toObj(session).attr("content").to<std::string>() == "changed");
  }
  CHECK(box.acquireSession(instances[1]).self.attr("content").to<std::string>() == "first");
}

TEST_CASE("a movable is an argument of calls, as a handle") {
  const auto session = manager().acquireOne();
  const ReplicatedObj box = session.createMovable(session.global("probe", "Box")(5));
  const Obj handle = session.global("probe", "same")(box);
  CHECK(handle(1).value().repr() == "[5, [1], {}]");
}

TEST_CASE("unloading drops one copy, or all") {
  ReplicatedObj box;
  {
    const auto session = manager().acquireOne();
    box = session.createMovable(session.global("probe", "Box")(1));
  }
  box.unload(manager().allInstances()[0]);
  CHECK(box(1).at(0) == Value(1));
  CHECK(box.acquireSession().interpreter() == 1);
  box.unload();
  CHECK_THROWS_AS(box(1), ClosedError);
  CHECK_THROWS_AS(box.acquireSession(), ClosedError);
}

TEST_CASE("what cannot be copied is an error where it is to be moved, and a copy's error one of its calls") {
  const auto session = manager().acquireOne();
  const auto error = thrown<RemoteError>([&] { session.createMovable(session.global("probe", "Stubborn")()); });
  CHECK(contains(error.message(), "this stays where it is"));
  const ReplicatedObj late = session.createMovable(session.global("probe", "Late")());
  for (int i = 0; i < 2; ++i)
    CHECK(contains(thrown<RemoteError>([&] { late.hasattr("armed"); }).message(), "it does not come up again"));
}

TEST_CASE("sessions nest on one interpreter, and what a session calls elsewhere gets through") {
  InterpreterManager one(1);
  const auto outer = one.acquireOne();
  const ReplicatedObj partial =
      outer.createMovable(outer.global("functools", "partial")(outer.global("operator", "add"), 40));
  CHECK(partial(2) == Value(42));
  {
    const auto inner = one.acquireOne();
    CHECK(inner.global("operator", "add")(1, 2).to<int>() == 3);
    CHECK(inner.fromMovable(partial)(1).to<int>() == 41);
  }
  CHECK(outer.fromMovable(partial)(0).to<int>() == 40);
}

TEST_CASE("calls of many threads are those of one after the other") {
  ReplicatedObj square;
  {
    const auto session = manager().acquireOne();
    square = session.createMovable(session.global("functools", "partial")(session.global("operator", "mul"), 3));
  }
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      for (int k = 0; k < 50; ++k) wrong += square(i * k) == Value(3 * i * k) ? 0 : 1;
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(wrong == 0);
}

TEST_CASE("an array that sixteen interpreters race for stays correct") {
  constexpr std::size_t kRacers = 16;
  constexpr int kTimes = 2000;
  InterpreterManager many(kRacers);
  many.registerModuleSource("racing", R"(
import numpy

class Lane:
    def __init__(self, array):
        self.array = array

    def run(self, index, times):
        for _ in range(times):
            self.array[index] += 1
        return int(self.array[index])
)");
  const Tensor array = Tensor::of(std::vector<std::int64_t>(kRacers)).as(Tensor::Kind::array);
  ReplicatedObj lane;
  {
    const auto session = many.acquireOne();
    lane = session.createMovable(session.global("racing", "Lane")(array));
  }
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < kRacers; ++i) {
    threads.emplace_back([&, i] {
      const auto session = lane.acquireSession(many.allInstances()[i]);
      session.self.attr("run")(i, kTimes);
    });
  }
  for (auto& thread : threads) thread.join();
  CHECK(array.elements<std::int64_t>() == std::vector<std::int64_t>(kRacers, kTimes));
}
