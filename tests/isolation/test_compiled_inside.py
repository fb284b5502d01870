"""An extension compiled by the test: C++ exceptions, thread_locals and statics in each of its images."""

from __future__ import annotations

import importlib.util
import subprocess
import sysconfig
import threading

import pytest

import multipy_actors as multipy

SOURCE = r"""
#include <Python.h>

#include <atomic>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <typeinfo>
#include <vector>

namespace {

struct Failure : std::runtime_error { using std::runtime_error::runtime_error; };
struct Guard { int& count; ~Guard() { ++count; } };

thread_local int calls = 0;
thread_local std::string name = "unnamed";
std::atomic<int> counter{100};
std::map<std::string, int> table{{"one", 1}, {"two", 2}};

inline int& shared_static() { static int value = 7; return value; }

void fail(int depth, int& unwound) {
  Guard guard{unwound};
  if (depth == 0) throw Failure("from the depth");
  fail(depth - 1, unwound);
}

PyObject* throw_and_catch(PyObject*, PyObject* argument) {
  int unwound = 0;
  const long depth = PyLong_AsLong(argument);
  try {
    try {
      fail(static_cast<int>(depth), unwound);
    } catch (const Failure&) {
      std::throw_with_nested(std::logic_error("outer"));
    }
  } catch (const std::exception& error) {
    std::string inner;
    try {
      std::rethrow_if_nested(error);
    } catch (const Failure& failure) {
      inner = failure.what();
    }
    return Py_BuildValue("(ssi)", error.what(), inner.c_str(), unwound);
  }
  Py_RETURN_NONE;
}

PyObject* standard_exceptions(PyObject*, PyObject*) {
  std::string text;
  try { std::vector<int>().at(3); } catch (const std::out_of_range&) { text += "out_of_range "; }
  try { std::stoi("x"); } catch (const std::invalid_argument&) { text += "invalid_argument "; }
  try { throw 42; } catch (int value) { text += std::to_string(value) + " "; }
  try { (void)dynamic_cast<Failure&>(static_cast<std::exception&>(*std::make_unique<std::exception>())); }
  catch (const std::bad_cast&) { text += "bad_cast"; }
  return PyUnicode_FromString(text.c_str());
}

PyObject* exception_in_a_thread(PyObject*, PyObject*) {
  std::string text;
  std::thread([&text] {
    int unwound = 0;
    try { fail(5, unwound); } catch (const Failure& error) { text = error.what() + std::to_string(unwound); }
  }).join();
  return PyUnicode_FromString(text.c_str());
}

PyObject* python_error_through_cpp(PyObject*, PyObject* callable) {
  struct Raised {};
  try {
    PyObject* result = PyObject_CallNoArgs(callable);
    if (result == nullptr) throw Raised();
    return result;
  } catch (const Raised&) {
    return nullptr;
  }
}

PyObject* count_calls(PyObject*, PyObject*) {
  name += "!";
  return Py_BuildValue("(is)", ++calls, name.c_str());
}

PyObject* statics(PyObject*, PyObject*) {
  return Py_BuildValue("(iii)", ++counter, ++shared_static(), static_cast<int>(++table["one"]));
}

PyObject* address(PyObject*, PyObject*) { return PyLong_FromVoidPtr(&counter); }

PyMethodDef methods[] = {
    {"throw_and_catch", throw_and_catch, METH_O, nullptr},
    {"standard_exceptions", standard_exceptions, METH_NOARGS, nullptr},
    {"exception_in_a_thread", exception_in_a_thread, METH_NOARGS, nullptr},
    {"python_error_through_cpp", python_error_through_cpp, METH_O, nullptr},
    {"count_calls", count_calls, METH_NOARGS, nullptr},
    {"statics", statics, METH_NOARGS, nullptr},
    {"address", address, METH_NOARGS, nullptr},
    {nullptr, nullptr, 0, nullptr},
};
PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "compiled_probe", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr};

}  // namespace

PyMODINIT_FUNC PyInit_compiled_probe() { return PyModule_Create(&definition); }
"""


@pytest.fixture(scope="module")
def extension(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compiled")
    source = folder / "compiled_probe.cpp"
    source.write_text(SOURCE)
    path = folder / f"compiled_probe{sysconfig.get_config_var('EXT_SUFFIX')}"
    include = sysconfig.get_path("include")
    command = ["g++", "-std=c++17", "-O1", "-shared", "-fPIC", f"-I{include}", str(source), "-o", str(path)]
    subprocess.run([*command, "-pthread"], check=True, capture_output=True)
    return path


@pytest.fixture(scope="module")
def probes(extension):
    """A pool whose interpreters find the extension."""
    with multipy.Pool(2, env=multipy.PathEnvironment(extension.parent)) as pool:
        yield pool


@pytest.fixture(scope="module")
def host(extension):
    specification = importlib.util.spec_from_file_location("compiled_probe", extension)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def ask(function, *args):
    import compiled_probe

    return getattr(compiled_probe, function)(*args)


def test_cpp_exceptions_are_thrown_nested_and_caught(probes, host):
    expected = ("outer", "from the depth", 51)
    assert host.throw_and_catch(50) == expected
    assert multipy.get(probes.broadcast(ask, "throw_and_catch", 50)) == [expected] * 2


def test_exceptions_of_the_standard_library_are_recognised(probes, host):
    expected = "out_of_range invalid_argument 42 bad_cast"
    assert host.standard_exceptions() == expected
    assert multipy.get(probes.broadcast(ask, "standard_exceptions")) == [expected] * 2


def test_cpp_exceptions_work_in_threads_of_cpp(probes):
    assert multipy.get(probes.broadcast(ask, "exception_in_a_thread")) == ["from the depth6"] * 2


def test_cpp_exceptions_work_in_both_interpreters_at_once(probes):
    def many():
        return {ask("throw_and_catch", 30) for _ in range(3000)}

    assert multipy.get(probes.broadcast(many)) == [{("outer", "from the depth", 31)}] * 2


def test_an_error_of_python_crosses_cpp(probes):
    def fail():
        return ask("python_error_through_cpp", lambda: 1 // 0)

    for future in probes.broadcast(fail):
        assert isinstance(future.exception(), ZeroDivisionError)


def test_thread_locals_belong_to_one_thread_of_one_interpreter(probes, host):
    def count():
        counted = [ask("count_calls"), ask("count_calls")]
        thread = threading.Thread(target=lambda: counted.append(ask("count_calls")))
        thread.start()
        thread.join()
        return counted

    with multipy.Pool(2, env=multipy.PathEnvironment(host.__file__.rpartition("/")[0])) as fresh:
        for counted in multipy.get(fresh.broadcast(count)):
            assert counted == [(1, "unnamed!"), (2, "unnamed!!"), (1, "unnamed!")]


def test_statics_belong_to_one_interpreter(probes, host):
    assert probes.interpreters[0].submit(ask, "statics").result() == (101, 8, 2)
    assert probes.interpreters[0].submit(ask, "statics").result() == (102, 9, 3)
    assert probes.interpreters[1].submit(ask, "statics").result() == (101, 8, 2)
    assert host.statics() == (101, 8, 2)
    assert len({host.address(), *multipy.get(probes.broadcast(ask, "address"))}) == 3


def test_ctypes_opens_the_image_that_the_interpreter_has(probes, extension):
    def same():
        import ctypes

        import compiled_probe

        library = ctypes.PyDLL(compiled_probe.__file__)
        entry = ctypes.cast(library.PyInit_compiled_probe, ctypes.c_void_p).value
        return abs(entry - compiled_probe.address()) < 1 << 24

    assert multipy.get(probes.broadcast(same)) == [True, True]
