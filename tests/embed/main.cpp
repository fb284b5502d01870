// Runs the tests of one program, and closes the manager that they share.
#define DOCTEST_CONFIG_IMPLEMENT
#include <memory>

#include "support.h"

namespace support {

namespace {

std::unique_ptr<InterpreterManager>& shared() {
  static std::unique_ptr<InterpreterManager> manager;
  return manager;
}

constexpr const char* kProbe = R"(
import threading

state = 0
barrier = threading.Event()

def same(x):
    return x

def type_of(x):
    return type(x).__name__

def remember(x):
    global state
    state = x

def remembered():
    return state

def fail(text):
    try:
        {}["reason"]
    except KeyError as error:
        raise ValueError(text) from error

class Odd(Exception):
    pass

def fail_oddly():
    raise Odd("of a class that the program does not know")

def claim(x):
    assert x == 1, "x is one"

def spin():
    while True:
        pass

def wait_for_byte(fd):
    import os
    os.read(fd, 1)

def address(array):
    return array.__array_interface__["data"][0]

def add_to(array, index, times):
    for _ in range(times):
        array[index] += 1

class Box:
    def __init__(self, content=0):
        self.content = content

    def __call__(self, *args, **kwargs):
        return [self.content, list(args), kwargs]

    def put(self, content):
        self.content = content

class Stubborn:
    def __reduce__(self):
        raise TypeError("this stays where it is")

class Late:
    def __init__(self):
        self.armed = True

    def __setstate__(self, state):
        raise RuntimeError("it does not come up again")
)";

}  // namespace

InterpreterManager& manager() {
  if (shared() == nullptr) {
    shared() = std::make_unique<InterpreterManager>(2);
    shared()->registerModuleSource("probe", kProbe);
  }
  return *shared();
}

void close_manager() { shared().reset(); }

}  // namespace support

int main(int count, char** arguments) {
  doctest::Context context;
  context.applyCommandLine(count, arguments);
  const int status = context.run();
  support::close_manager();
  return status;
}
