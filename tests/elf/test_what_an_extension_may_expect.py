"""What C++ extension modules take for granted in a Python of their own holds in every interpreter.

Static and thread-local objects are constructed once per copy and thread and destroyed when those end,
exceptions leave the library for whoever called it, and the C++ library's own machinery (call_once, streams,
locales), which all copies share, works in each.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time

import pytest
from isolated import in_pool

MODULE = r"""
#include <Python.h>
#include <atomic>
#include <stdexcept>
#include <thread>

static std::atomic<int> statics{0}, locals{0}, gone{0};
struct Static { int value; Static() : value(40) { ++statics; } };
struct Local { int value; Local() : value(70) { ++locals; } ~Local() { ++gone; value = -1; } };
static Static at_load;
static thread_local Local local;
static Local *kept() { static Local object; return &object; }

static PyObject *state(PyObject *, PyObject *) {
  return Py_BuildValue("(iiii)", statics.load(), at_load.value, locals.load(), gone.load());
}
static PyObject *touch(PyObject *, PyObject *) { return PyLong_FromLong(++local.value); }
static PyObject *in_a_thread(PyObject *, PyObject *) {
  int seen = 0;
  std::thread thread([&] { seen = ++local.value; });
  thread.join();
  return Py_BuildValue("(ii)", seen, gone.load());
}
static PyObject *inner(PyObject *, PyObject *) { throw std::runtime_error("out of the extension"); }
static PyObject *catches(PyObject *self, PyObject *args) {
  try {
    return inner(self, args);
  } catch (const std::runtime_error &error) {
    PyErr_SetString(PyExc_ValueError, error.what());
    return nullptr;
  }
}
static PyObject *through_python(PyObject *, PyObject *callable) {
  try {
    PyObject *result = PyObject_CallNoArgs(callable);
    if (!result) throw std::logic_error("python failed");
    return result;
  } catch (const std::logic_error &) {
    return nullptr;
  }
}
static PyObject *function_static(PyObject *, PyObject *) { return PyLong_FromLong(++kept()->value); }
static PyMethodDef methods[] = {{"state", state, METH_NOARGS, ""}, {"touch", touch, METH_NOARGS, ""},
  {"in_a_thread", in_a_thread, METH_NOARGS, ""}, {"catches", catches, METH_NOARGS, ""},
  {"through_python", through_python, METH_O, ""}, {"function_static", function_static, METH_NOARGS, ""}, {}};
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "expecting", "", -1, methods};
PyMODINIT_FUNC PyInit_expecting() { return PyModule_Create(&definition); }
"""


@pytest.fixture
def expecting(workshop):
    """Imports the extension module, inside an interpreter or in the host."""
    folder = os.path.dirname(workshop.extension("expecting", MODULE, "-pthread", cpp=True))

    def load():
        import importlib
        import sys

        if folder not in sys.path:
            sys.path.insert(0, folder)
        return importlib.import_module("expecting")

    return load


def each(use, interpreters=3):
    """What `use` returns in each of the interpreters, at work at the same time."""
    return in_pool(lambda pool: [f.result() for f in pool.broadcast(use)], interpreters=interpreters)


def test_static_and_thread_local_constructors_of_each_copy_run_once(expecting):
    def scenario(pool):
        def use():
            module = expecting()
            before = module.state()
            touched = [module.touch(), module.touch()]
            return before, touched, expecting().state()

        use()  # the host has a copy too
        return [future.result() for future in pool.broadcast(use)]

    # Thread-locals are made when a thread first uses one.
    assert in_pool(scenario, interpreters=3) == [((1, 40, 0, 0), [71, 72], (1, 40, 1, 0))] * 3


def test_a_thread_started_later_has_thread_locals_of_its_own_which_end_with_it(expecting):
    def use():
        module = expecting()
        module.touch()
        return [module.in_a_thread() for _ in range(3)], module.state(), module.touch()

    assert each(use) == [([(71, 1), (71, 2), (71, 3)], (1, 40, 4, 3), 72)] * 3


def test_python_s_own_threads_have_thread_locals_of_their_own_which_end_with_them(expecting):
    def use():
        module = expecting()
        module.touch()
        seen = []
        for _ in range(3):
            thread = threading.Thread(target=lambda: seen.append(module.touch()))
            thread.start()
            thread.join()
        # Python joins a thread shortly before its thread-locals are destroyed.
        while module.state()[3] < 3:
            time.sleep(0.001)
        return seen, module.state(), module.touch()

    assert each(use) == [([71] * 3, (1, 40, 4, 3), 72)] * 3


def test_statics_of_functions_are_made_once_per_copy(expecting):
    def use():
        module = expecting()
        return [module.function_static() for _ in range(3)]

    assert each(use) == [[71, 72, 73]] * 3


def test_an_exception_is_caught_in_the_extension_that_threw_it_however_often(expecting):
    def use():
        module, seen = expecting(), set()
        for _ in range(500):
            try:
                module.catches()
            except ValueError as error:
                seen.add(str(error))
        return seen

    assert each(use) == [{"out of the extension"}] * 3


def test_exceptions_pass_between_python_and_the_extension(expecting):
    def use():
        module = expecting()

        def deep(depth):
            if depth == 0:
                module.catches()
            return module.through_python(lambda: deep(depth - 1))

        try:
            deep(20)
        except ValueError as error:
            return str(error)

    assert each(use) == ["out of the extension"] * 3


THROWS = r"""
#include <stdexcept>
#include <string>
struct __attribute__((visibility("default"))) Left : std::out_of_range { using out_of_range::out_of_range; };
extern "C" void leaves(int n) {
  if (n == 0) throw Left("left the library");
  leaves(n - 1);
}
"""
CALLS = r"""
#include <stdexcept>
#include <string>
extern "C" int calls(void (*function)(int), int n) {
  try { function(n); }
  catch (const std::out_of_range &error) { return std::string(error.what()) == "left the library"; }
  return -1;
}
"""


@pytest.mark.parametrize("caller", ["private_caller", "shared_caller"])
def test_an_exception_leaves_the_library_and_is_caught_by_its_caller(workshop, caller):
    thrower = workshop.library("private_thrower", THROWS, cpp=True)
    catcher = workshop.library(caller, CALLS, cpp=True)

    def use():
        leaves = ctypes.cast(ctypes.CDLL(thrower).leaves, ctypes.c_void_p)
        return [ctypes.CDLL(catcher).calls(leaves, n) for n in (0, 1, 50)]

    assert each(use) == [[1, 1, 1]] * 3


def test_an_exception_that_nobody_catches_ends_the_process_as_anywhere(workshop, run_script):
    library = workshop.library("private_thrower", THROWS, cpp=True)
    script = f"""
        import ctypes, multipy_actors as multipy
        pool = multipy.Pool(1, private=["libprivate_*"])
        pool.submit(lambda: ctypes.CDLL({library!r}).leaves(3)).result()
        """
    done = run_script(script, status=-6)
    assert "terminate called" in done.stderr  # a libstdc++ of its own may not know what was thrown


ONCE = r"""
#include <atomic>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <vector>
static std::once_flag flag, failing;
static std::atomic<int> runs{0}, attempts{0}, arrived{0};
extern "C" int once() {
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i) threads.emplace_back([] {
    std::call_once(flag, [](int by) { runs += by; }, 1);
    ++arrived;
  });
  for (auto &thread : threads) thread.join();
  return arrived * 10 + runs;
}
extern "C" int at_the_second_attempt() {
  for (int i = 0; i < 4; ++i) {
    try { std::call_once(failing, [] { if (++attempts == 1) throw std::runtime_error("again"); }); }
    catch (const std::runtime_error &) { attempts += 10; }
  }
  return attempts;
}
"""


def test_call_once_runs_once_per_interpreter_and_again_after_an_exception(workshop):
    library = workshop.library("private_once", ONCE, "-pthread", cpp=True)

    def use():
        handle = ctypes.CDLL(library)
        return [handle.once(), handle.once(), handle.at_the_second_attempt()]

    assert each(use) == [[81, 161, 12]] * 3


STREAMS = r"""
#include <fstream>
#include <iomanip>
#include <iostream>
#include <locale>
#include <sstream>
#include <string>
static std::string text;
static std::ostringstream made_at_load;
static struct Early { Early() { std::clog << std::flush; } } early;
struct Points : std::numpunct<char> {
  char do_thousands_sep() const override { return '_'; }
  std::string do_grouping() const override { return "\3"; }
};
struct Facet : std::locale::facet {  // one that the C++ library does not know, found by an id of this copy
  static std::locale::id id;
  int value;
  explicit Facet(int v) : value(v) {}
};
std::locale::id Facet::id;
extern "C" const char *streams(int n) {
  std::ostringstream out;
  out.imbue(std::locale(out.getloc(), new Points));
  out << 1234567 << ' ' << std::hex << std::showbase << 255 << ' ' << std::setprecision(3) << 2.0 / 3;
  std::locale own(std::locale::classic(), new Facet(n));
  out << ' ' << std::dec << std::use_facet<Facet>(own).value << ' '
      << std::has_facet<Facet>(std::locale::classic());
  std::istringstream in("12 0x1f word");
  int twelve, hexadecimal;
  std::string word;
  in >> twelve >> std::hex >> hexadecimal >> word;
  out << ' ' << twelve << ' ' << hexadecimal << ' ' << word << ' ' << in.eof();
  made_at_load << n;
  out << ' ' << made_at_load.str() << ' ' << std::isalpha('x', out.getloc());
  return (text = out.str()).c_str();
}
extern "C" void print(const char *what) { std::cout << what << std::endl; std::cerr << what << '\n'; }
extern "C" int fails(const char *path) {
  std::ifstream file;
  file.exceptions(std::ios::failbit);
  try { file.open(path); } catch (const std::ios_base::failure &error) { return error.code().value() != 0; }
  return -1;
}
"""


def test_streams_and_locales_work_in_each_interpreter(workshop):
    library = workshop.library("private_streams", STREAMS, cpp=True)

    def use():
        handle = ctypes.CDLL(library)
        handle.streams.restype = ctypes.c_char_p
        return [handle.streams(n).decode() for n in (1, 22)], handle.fails(b"/no/such/file")

    texts = [f"1_234_567 0xff 0.667 {n} 0 12 31 word 1 {all} 1" for n, all in ((1, "1"), (22, "122"))]
    assert each(use) == [(texts, 1)] * 3


def test_what_images_print_arrives_whole(workshop, run_script):
    library = workshop.library("private_streams", STREAMS, cpp=True)
    script = f"""
        import ctypes, multipy_actors as multipy
        def use():
            for n in range(200):
                ctypes.CDLL({library!r}).print(b"a line that stays whole")
        with multipy.Pool(2, private=["libprivate_*"]) as pool:
            [future.result() for future in pool.broadcast(use)]
        """
    done = run_script(script)
    for output in (done.stdout, done.stderr):
        assert output.replace("\n", "") == "a line that stays whole" * 400
