"""C++ exceptions and type information across private libraries."""

from __future__ import annotations

import ctypes
import shutil
import subprocess

import pytest
from isolated import in_pool

DECLARED = """
#include <stdexcept>
#include <string>
struct __attribute__((visibility("default"))) Failure : std::runtime_error {
  explicit Failure(int n) : std::runtime_error("failure " + std::to_string(n)), number(n) {}
  int number;
};
void throws(int n);
int passes(int n);
"""
THROWER = (
    DECLARED
    + """
void throws(int n) {
  if (n == 0) throw std::string(1, 'x').at(5);
  if (n > 0) throw Failure(n);
  throw n;
}
"""
)
MIDDLE = (
    DECLARED
    + """
static int unwound;
struct Guard { ~Guard() { ++unwound; } };
int passes(int n) {
  Guard guard;
  try { throws(n); } catch (int) { throw; }
  return 0;
}
int count_unwound() { return unwound; }
"""
)
CATCHER = (
    DECLARED
    + """
int count_unwound();
extern "C" int answer(int n) {
  try {
    passes(n);
  } catch (const Failure &failure) {
    bool whole = std::string(failure.what()) == "failure " + std::to_string(n);
    return 1000 * count_unwound() + failure.number + 100 * whole;
  } catch (const std::out_of_range &) {
    return 1000 * count_unwound() + 1;
  } catch (...) {
    return 1000 * count_unwound() + 2;
  }
  return -1;
}
"""
)


def three_libraries(workshop, *kinds):
    thrower = workshop.library(f"{kinds[0]}_thrower", THROWER, cpp=True)
    middle = workshop.library(f"{kinds[1]}_middle", MIDDLE, needs=(thrower,), cpp=True)
    return workshop.library(f"{kinds[2]}_catcher", CATCHER, needs=(middle, thrower), cpp=True)


def scenario_of(catcher):
    def scenario(pool):
        def use():
            answer = ctypes.CDLL(catcher).answer
            return [answer(7), answer(0), answer(-1)]

        return [i.submit(use).result() for i in (*pool.interpreters, *pool.interpreters)]

    return scenario


def test_an_exception_is_caught_across_three_private_libraries(workshop):
    catcher = three_libraries(workshop, "private", "private", "private")
    first, second = [1107, 2001, 3002], [4107, 5001, 6002]
    assert in_pool(scenario_of(catcher), interpreters=2) == [first, first, second, second]


def test_an_exception_of_a_shared_library_is_caught_in_a_private_one(workshop):
    catcher = three_libraries(workshop, "shared", "private", "private")
    first, second = [1107, 2001, 3002], [4107, 5001, 6002]
    assert in_pool(scenario_of(catcher), interpreters=2) == [first, first, second, second]


def test_interpreters_throw_at_the_same_time(workshop):
    catcher = three_libraries(workshop, "private", "private", "private")

    def scenario(pool):
        def use():
            answer = ctypes.CDLL(catcher).answer
            return [answer(7) for _ in range(5000)]

        return [future.result() for future in pool.broadcast(use)]

    expected = [1000 * (n + 1) + 107 for n in range(5000)]
    assert in_pool(scenario, interpreters=3) == [expected] * 3


def test_a_dynamic_cast_sees_types_of_another_library(workshop):
    shapes = "struct Shape { virtual ~Shape(); }; struct Round : Shape { int n; Round(); ~Round(); };"
    base = workshop.library(
        "private_shapes",
        shapes
        + """
        Shape::~Shape() {}
        Round::Round() : n(3) {}
        Round::~Round() {}
        Shape *make() { return new Round; }
        """,
        cpp=True,
    )
    user = workshop.library(
        "private_user",
        shapes
        + """
        #include <typeinfo>
        Shape *make();
        struct Square : Shape {};
        extern "C" int answer() {
          Shape *shape = make();
          Round *round = dynamic_cast<Round *>(shape);
          int result = (round ? round->n : 0);
          result += 10 * (dynamic_cast<Square *>(shape) == nullptr);
          result += 100 * (typeid(*shape) == typeid(Round));
          delete shape;
          return result;
        }
        """,
        needs=(base,),
        cpp=True,
    )

    def scenario(pool):
        return [i.submit(lambda: ctypes.CDLL(user).answer()).result() for i in pool.interpreters]

    assert in_pool(scenario, interpreters=2) == [113, 113]


def test_an_exception_thrown_in_a_constructor_function_of_an_image_is_handled_inside(workshop):
    library = workshop.library(
        "private_early",
        """
        #include <stdexcept>
        static int attempt() {
          try { throw std::logic_error("early"); } catch (const std::exception &) { return 4; }
        }
        static int caught = attempt();
        extern "C" int answer() { return caught; }
        """,
        cpp=True,
    )

    def scenario(pool):
        return pool.submit(lambda: ctypes.CDLL(library).answer()).result()

    assert in_pool(scenario) == 4


LIBCXX = """
#include <sstream>
#include <stdexcept>
#include <string>
extern "C" int answer(int n) {
  int sum = 0, number;
  try { throw std::out_of_range(std::string(n, 'x')); } catch (const std::out_of_range &) { sum += 1; }
  try { sum += std::string("a").at(n); } catch (const std::out_of_range &) { sum += 10; }
  std::istringstream in("no number");
  in.exceptions(std::ios::failbit);
  // Thrown inside of the library, and caught and thrown again there.
  try { in >> number; } catch (const std::ios_base::failure &) { sum += 100; }
  return sum;
}
"""


@pytest.fixture
def libcxx(workshop):
    """A library that is private and uses LLVM's C++ library."""
    if not shutil.which("clang++"):
        pytest.skip("no clang++")
    source, library = workshop.folder / "libcxx.cpp", workshop.folder / "libprivate_libcxx.so"
    source.write_text(LIBCXX)
    command = ["clang++", "-stdlib=libc++", "-shared", "-fPIC", "-o", str(library), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip("no libc++")
    return str(library)


def test_exceptions_of_llvm_s_library_are_caught(libcxx):
    def scenario(pool):
        def use():
            return ctypes.CDLL(libcxx).answer(5)

        return [i.submit(use).result() for i in (*pool.interpreters, *pool.interpreters)]

    assert in_pool(scenario, interpreters=2) == [111] * 4
