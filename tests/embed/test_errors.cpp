// What fails, and that it fails as a C++ exception, whatever is destroyed first.
#include <unistd.h>

#include <array>
#include <memory>
#include <optional>

#include "support.h"

using namespace support;

TEST_CASE("what Python raises has its type, message and traceback") {
  const auto error = thrown<RemoteError>([] { manager().submit("probe", "fail", "as it was told to").get(); });
  CHECK(error.type() == "ValueError");
  CHECK(error.message() == "as it was told to");
  CHECK(contains(error.traceback(), "KeyError: 'reason'"));
  CHECK(contains(error.traceback(), "in fail"));
  CHECK(contains(error.what(), "ValueError: as it was told to\n"));
  CHECK(thrown<RemoteError>([] { manager().submit("probe", "fail_oddly").get(); }).type() == "probe.Odd");
  CHECK(thrown<RemoteError>([] { manager().submit("probe", "fail", std::string(100'000, 'x')).get(); })
            .message()
            .size() == 100'000);
}

TEST_CASE("assertions that fail in Python are errors of their calls") {
  CHECK(manager().submit("probe", "claim", 1).get().isNone());
  const auto error = thrown<RemoteError>([] { manager().submit("probe", "claim", 2).get(); });
  CHECK(error.type() == "AssertionError");
  CHECK(error.message() == "x is one");
  const auto session = manager().acquireOne();
  CHECK_THROWS_AS(session.global("probe", "claim")(2), RemoteError);
  CHECK(session.global("probe", "claim")(1).value().isNone());
}

TEST_CASE("what is not there is not imported, and leaving Python ends a call alone") {
  CHECK_THROWS_AS(manager().submit("no_such_module", "f").get(), RemoteError);
  CHECK_THROWS_AS(manager().submit("math", "no_such_function").get(), RemoteError);
  const auto session = manager().acquireOne();
  CHECK(thrown<RemoteError>([&] { session.global("no_such_module", "f"); }).type() == "ModuleNotFoundError");
  CHECK(thrown<RemoteError>([&] { session.global("math", "no_such_function"); }).type() == "AttributeError");
  CHECK(thrown<RemoteError>([&] { session.global("sys", "exit")(3); }).type() == "SystemExit");
  CHECK(session.global("math", "sqrt")(4).to<double>() == 2);
}

TEST_CASE("a manager can be made anew, many times and beside another") {
  for (int round = 0; round < 3; ++round) {
    InterpreterManager again(1);
    CHECK(again.submit("math", "sqrt", 4).get<double>() == 2);
  }
  InterpreterManager first(1);
  InterpreterManager second(1);
  const auto session = first.acquireOne();
  const Obj list = session.fromValue(Value::List{});
  CHECK_THROWS_AS(second.createMovable(list), SessionError);
  const ReplicatedObj movable = first.createMovable(session.global("operator", "neg"));
  CHECK_THROWS_AS(second.acquireOne().fromMovable(movable), SessionError);
  first = InterpreterManager(1);
  CHECK(first.submit("operator", "neg", 1).get<int>() == -1);
  CHECK_THROWS_AS(movable(1), ClosedError);
}

TEST_CASE("whatever outlives its manager throws, and is destroyed in silence") {
  auto own = std::make_unique<InterpreterManager>(1);
  auto session = own->acquireOne();
  Obj object = session.fromValue(1);
  ReplicatedObj movable = own->createMovable(session.global("operator", "neg"));
  const Interpreter interpreter = own->allInstances()[0];
  const Future done = own->submit("operator", "neg", 3);
  done.wait();
  own.reset();
  CHECK_THROWS_AS(object.value(), ClosedError);
  CHECK_THROWS_AS(session.global("math", "sqrt"), ClosedError);
  CHECK_THROWS_AS(movable(1), ClosedError);
  CHECK_THROWS_AS(movable.hasattr("x"), ClosedError);
  CHECK_THROWS_AS(interpreter.acquireSession(), ClosedError);
  CHECK_THROWS_AS(interpreter.submit("math", "sqrt", 4), ClosedError);
  CHECK(done.get<int>() == -3);
}

TEST_CASE("a manager that was moved from, or closed, throws") {
  InterpreterManager first(1);
  InterpreterManager second(std::move(first));
  CHECK_THROWS_AS(first.acquireOne(), ClosedError);
  CHECK(second.close());
  CHECK_THROWS_AS(second.acquireOne(), ClosedError);
  CHECK_THROWS_AS(second.submit("math", "sqrt", 4), ClosedError);
  CHECK_THROWS_AS(second.registerModuleSource("x", ""), ClosedError);
  CHECK(second.close());
}

TEST_CASE("a call can be taken back, interrupted, and waited for in vain") {
  InterpreterManager one(1);
  std::array<int, 2> pipe{};
  REQUIRE(::pipe(pipe.data()) == 0);
  one.registerModuleSource("blocking", "import os\ndef wait(fd): os.read(fd, 1)\ndef spin():\n  while True: pass\n");
  const Future blocked = one.submit("blocking", "wait", pipe[0]);
  const Future waiting = one.submit("blocking", "spin");
  CHECK(blocked.wait_for(std::chrono::milliseconds(1)) == std::future_status::timeout);
  CHECK(waiting.cancel());
  CHECK_THROWS_AS(waiting.get(), CancelledError);
  REQUIRE(::write(pipe[1], "x", 1) == 1);
  CHECK(blocked.get().isNone());
  const Future spinning = one.submit("blocking", "spin");
  while (spinning.wait_for(std::chrono::milliseconds(1)) != std::future_status::ready) spinning.cancel(true);
  CHECK_THROWS_AS(spinning.get(), Error);
  const Future left = one.submit("blocking", "spin");
  CHECK(one.closeNow(std::chrono::seconds(20)));
  CHECK_THROWS_AS(left.get(), Error);
  ::close(pipe[0]);
  ::close(pipe[1]);
  CHECK_THROWS_AS(Future().get(), Error);
}

TEST_CASE("a session that waits for an interpreter ends with the manager") {
  auto own = std::make_unique<InterpreterManager>(1);
  std::optional<InterpreterSession> session = own->acquireOne();
  const Obj object = session->fromValue(1);
  own->close();
  CHECK_THROWS_AS(own->acquireOne(), ClosedError);
  CHECK_THROWS_AS(object.value(), ClosedError);
  own.reset();
  session.reset();
}

TEST_CASE("a Python that cannot be one is refused with the reason") {
  const auto refusal = [](const std::string& python) {
    return std::string(
        thrown<StartError>([&] { InterpreterManager(1, std::make_shared<NoopEnvironment>(python)); }).what());
  };
  CHECK(contains(refusal("/nowhere/python3"), "/nowhere/python3"));
  CHECK(contains(refusal("no-such-python"), "no-such-python"));
  CHECK(contains(refusal("/bin/false"), "/bin/false"));
  CHECK_THROWS_AS(InterpreterManager(0), StartError);
  ManagerOptions options;
  options.preload = {"no_such_module"};
  CHECK_THROWS_AS(InterpreterManager(1, nullptr, options), RemoteError);
  options = {};
  options.startTimeout = std::chrono::milliseconds(1);
  CHECK_THROWS_AS(InterpreterManager(1, nullptr, options), StartError);
}

TEST_CASE("environments say where modules are found, and are told of each interpreter") {
  class Counting final : public Environment {
   public:
    std::vector<std::string> searchPaths(std::vector<std::string> installed) const override {
      installed.insert(installed.begin(), data("modules"));
      return installed;
    }
    void configureInterpreter(Interpreter& interpreter) const override {
      interpreter.submit("builtins", "setattr", interpreter.submit("types", "SimpleNamespace").get(), "a", 1).get();
      ++count;
    }
    mutable int count = 0;
  };
  const auto counting = std::make_shared<Counting>();
  InterpreterManager own(2, counting);
  CHECK(counting->count == 2);
  CHECK(own.submit("found_here", "answer").get<int>() == 42);
  InterpreterManager other(1, std::make_shared<PathEnvironment>(data("modules")));
  CHECK(other.submit("found_here", "answer").get<int>() == 42);
  CHECK_THROWS_AS(manager().submit("found_here", "answer").get(), RemoteError);
}

TEST_CASE("modules are registered as text") {
  manager().registerModuleSource("registered.inner", "def twice(x):\n    return 2 * x\n");
  for (const auto& interpreter : manager().allInstances())
    CHECK(interpreter.submit("registered.inner", "twice", 21).get<int>() == 42);
  manager().registerModuleSource("broken", "def twice(x:\n");
  CHECK(contains(thrown<RemoteError>([] { manager().submit("broken", "twice", 1).get(); }).what(), "SyntaxError"));
}

TEST_CASE("what interpreters print comes between what the program prints") {
  const auto print = [](const char* text) {
    for (const auto& interpreter : manager().allInstances()) interpreter.submit("builtins", "print", text).get();
  };
  ::write(STDOUT_FILENO, "before\n", 7);
  print("during");
  ::write(STDOUT_FILENO, "after\n", 6);
}
