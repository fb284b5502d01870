// Makes an object in one interpreter, moves it to all, and works with the copies.
#include <multipy_actors/multipy_actors.h>

#include <exception>
#include <iostream>
#include <vector>

using namespace multipy_actors;

namespace {

// Any module that interpreters can import will do; this one comes with the program.
constexpr const char* kCounter = R"(
class Counter:
    def __init__(self, step):
        self.step = step
        self.total = 0

    def __call__(self, times):
        self.total += self.step * times
        return self.total
)";

void run() {
  InterpreterManager manager(2);
  manager.registerModuleSource("counting", kCounter);

  ReplicatedObj counter;
  {
    // A session has one interpreter for itself; its objects stay there.
    InterpreterSession session = manager.acquireOne();
    Obj made = session.global("counting", "Counter").callKwargs({{"step", 5}});
    made(1);
    counter = session.createMovable(made);
    std::cout << "made: " << made.attr("total").to<int>() << "\n";
  }

  // The copies began where the object was, and go on by themselves: each interpreter has its own.
  for (const Interpreter& interpreter : manager.allInstances()) {
    InterpreterSession session = counter.acquireSession(interpreter);
    session.self(static_cast<int>(interpreter.id()) + 1);
    std::cout << "copy " << interpreter.id() << ": " << session.self.attr("total").to<int>() << "\n";
  }

  // Without a session, a call goes to the interpreter that is free first.
  std::cout << "step: " << (counter.hasattr("step") ? "yes" : "no") << std::endl;
}

}  // namespace

int main() {
  try {
    run();
  } catch (const std::exception& error) {
    std::cerr << error.what() << std::endl;
    return 1;
  }
}
