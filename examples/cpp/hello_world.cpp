// Two Pythons in a C++ program: both greet, and both compute at the same time.
#include <multipy_actors/multipy_actors.h>

#include <iostream>

using namespace multipy_actors;

int main() {
  // Interpreters of the Python that multipy_actors is installed in.
  InterpreterManager manager(2);

  // Hold each in turn, and call what is in it.
  for (const Interpreter& interpreter : manager.allInstances()) {
    InterpreterSession session = interpreter.acquireSession();
    session.global("builtins", "print")("Hello from interpreter", interpreter.id());
  }

  // A call runs where an interpreter is free. Two run at once: each has a GIL of its own.
  Future first = manager.submit("math", "factorial", 25);
  Future second = manager.submit("math", "comb", 10, 3);
  std::cout << "25! = " << first.get() << "\n10 over 3 = " << second.get<int>() << std::endl;

  // What Python raises is a C++ exception.
  try {
    manager.submit("math", "sqrt", -1).get();
  } catch (const RemoteError& error) {
    std::cout << error.type() << ": " << error.message() << std::endl;
  }
}
