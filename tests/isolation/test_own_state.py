"""Each interpreter has its own GIL, modules, environment variables and torch; the process is common."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
import time

import numpy
import pytest

import multipy_actors as multipy

ROUNDS = 2000


def meet(flags, me, patience):
    """Count to ROUNDS in step with the other side, in pure Python; say whether it worked.

    The switch interval is so long that whoever holds a GIL keeps it: with one GIL for both sides, the first
    would wait for the other until its patience ends.
    """
    sys.setswitchinterval(1000.0)
    try:
        end = time.monotonic() + patience
        for step in range(1, ROUNDS + 1):
            flags[me] = step
            while flags[1 - me] < step:
                if time.monotonic() > end:
                    return False
        return True
    finally:
        sys.setswitchinterval(0.005)


def meet_in_threads(flags, patience):
    met = []
    other = threading.Thread(target=lambda: met.append(meet(flags, 1, patience)))
    other.start()
    met.append(meet(flags, 0, patience))
    other.join()
    return all(met)


def test_two_interpreters_run_python_truly_at_once(pool):
    flags = numpy.zeros(2, dtype=numpy.int64)
    futures = [interpreter.submit(meet, flags, interpreter.id, 60.0) for interpreter in pool.interpreters]
    assert multipy.get(futures) == [True, True]
    assert flags.tolist() == [ROUNDS, ROUNDS]


def test_the_host_and_an_interpreter_run_python_truly_at_once(pool):
    flags = numpy.zeros(2, dtype=numpy.int64)
    future = pool.submit(meet, flags, 0, 60.0)
    assert meet(flags, 1, 60.0) and future.result()


def test_two_threads_under_one_gil_cannot_meet_so(pool):
    # The control: it shows that the meeting above proves something.
    assert not pool.submit(meet_in_threads, numpy.zeros(2, dtype=numpy.int64), 0.2).result()


def test_the_host_runs_while_an_interpreter_keeps_its_gil_in_c(pool, gate):
    # PyDLL keeps the GIL during the call, so that interpreter stands still; nobody else does.
    def block(descriptor):
        pipe = ctypes.c_char()
        return ctypes.PyDLL(None).read(descriptor, ctypes.byref(pipe), 1)

    reader, writer = os.pipe()
    future = pool.interpreters[0].submit(block, reader)
    assert pool.interpreters[1].submit(abs, -1).result() == 1
    os.write(writer, b"x")
    assert future.result() == 1
    os.close(reader)
    os.close(writer)


# Modules ---------------------------------------------------------------------------------------------------


def set_global(value):
    import colorsys

    colorsys.marker = value
    sys.modules["made_up"] = colorsys
    return id(sys.modules)


def get_global():
    import colorsys

    return getattr(colorsys, "marker", None), "made_up" in sys.modules


def test_a_global_set_in_one_interpreter_is_invisible_in_another_and_in_the_host(pool):
    pool.interpreters[0].submit(set_global, 1).result()
    assert multipy.get(pool.broadcast(get_global)) == [(1, True), (None, False)]
    assert get_global() == (None, False)


def test_every_interpreter_has_its_own_objects(pool):
    def singletons():
        return id(None), id(int), id(sys.modules), id(())

    here = singletons()
    there = multipy.get(pool.broadcast(singletons))
    for kind in zip(here, *there, strict=True):
        assert len(set(kind)) == 3


def test_settings_of_sys_are_each_interpreters_own(pool):
    limit = sys.getrecursionlimit()
    pool.interpreters[0].submit(sys.setrecursionlimit, 777).result()
    assert pool.interpreters[1].submit(sys.getrecursionlimit).result() == limit == sys.getrecursionlimit()
    pool.interpreters[0].submit(sys.setrecursionlimit, limit).result()


def test_a_monkeypatched_builtin_stays_inside(pool):
    def patch():
        import builtins

        builtins.print = None

    with multipy.Pool(1) as other:
        other.submit(patch).result()
        assert print is not None
        assert pool.submit(lambda: print is not None).result()
        assert other.submit(lambda: print is None).result()


# Environment variables -------------------------------------------------------------------------------------

VARIABLE = "MULTIPY_TEST_VARIABLE"


def put(value):
    os.environ[VARIABLE] = value


def seen():
    """What Python and a child process see of the variable."""
    child = [sys.executable, "-c", f"import os; print(os.environ.get({VARIABLE!r}))"]
    return os.environ.get(VARIABLE), subprocess.run(child, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def variable(monkeypatch):
    monkeypatch.setenv(VARIABLE, "of the host")
    with multipy.Pool(2) as pool:
        yield pool


def test_an_interpreter_starts_with_a_copy_of_the_hosts_variables(variable):
    assert multipy.get(variable.broadcast(seen)) == [("of the host", "of the host")] * 2


def test_a_variable_set_in_one_interpreter_is_seen_by_nobody_else(variable):
    variable.interpreters[0].submit(put, "mine").result()
    assert multipy.get(variable.broadcast(seen)) == [("mine", "mine"), ("of the host", "of the host")]
    assert seen() == ("of the host", "of the host")


def test_a_variable_set_later_in_the_host_is_not_seen_inside(variable, monkeypatch):
    monkeypatch.setenv(VARIABLE, "later")
    assert multipy.get(variable.broadcast(seen)) == [("of the host", "of the host")] * 2


def test_a_variable_can_be_removed_inside(variable):
    def remove():
        del os.environ[VARIABLE]

    variable.interpreters[1].submit(remove).result()
    assert multipy.get(variable.broadcast(seen)) == [("of the host", "of the host"), (None, "None")]
    assert seen() == ("of the host", "of the host")


def test_os_system_sees_the_interpreters_own_variables(variable):
    def check():
        return os.system(f'test "${VARIABLE}" = mine')

    variable.interpreters[0].submit(put, "mine").result()
    assert variable.interpreters[0].submit(check).result() == 0
    assert variable.interpreters[1].submit(check).result() != 0


# The process -----------------------------------------------------------------------------------------------


def test_the_host_changes_its_own_working_directory_alone(pool, monkeypatch, tmp_path):
    before = os.getcwd()
    monkeypatch.chdir(tmp_path)
    assert os.getcwd() == str(tmp_path)
    assert multipy.get(pool.broadcast(os.getcwd)) == [before] * 2


def test_process_and_file_descriptors_are_common(pool):
    reader, writer = os.pipe()
    assert multipy.get(pool.broadcast(os.getpid)) == [os.getpid()] * 2
    pool.submit(os.write, writer, b"hello").result()
    assert os.read(reader, 5) == b"hello"
    pool.submit(os.close, writer).result()
    assert os.read(reader, 1) == b""
    os.close(reader)


# torch -----------------------------------------------------------------------------------------------------


def draw():
    import torch

    return torch.rand(3).tolist()


def test_the_default_dtype_of_torch_is_each_interpreters_own(pool):
    import torch

    def choose(name):
        import torch

        torch.set_default_dtype(getattr(torch, name))

    def kind():
        import torch

        return str(torch.ones(1).dtype)

    pool.interpreters[0].submit(choose, "float64").result()
    assert multipy.get(pool.broadcast(kind)) == ["torch.float64", "torch.float32"]
    assert torch.ones(1).dtype is torch.float32
    pool.interpreters[0].submit(choose, "float32").result()


def test_the_random_numbers_of_torch_are_each_interpreters_own(pool):
    import torch

    def seed(number):
        import torch

        torch.manual_seed(number)

    seed(1)
    state = torch.get_rng_state()
    multipy.get(pool.broadcast(seed, 1))
    first = pool.interpreters[0].submit(draw).result()
    assert pool.interpreters[0].submit(draw).result() != first
    assert pool.interpreters[1].submit(draw).result() == first
    assert torch.equal(torch.get_rng_state(), state)


def test_an_operator_registered_in_one_interpreter_is_unknown_in_another(pool):
    def register(factor):
        import torch

        library = torch.library.Library("multipy_own", "DEF")
        library.define("scale(Tensor x) -> Tensor")
        library.impl("scale", lambda x: x * factor, "CPU")
        sys.keep = library

    def scale():
        import torch

        return torch.ops.multipy_own.scale(torch.ones(1)).item()

    pool.interpreters[0].submit(register, 3).result()
    assert pool.interpreters[0].submit(scale).result() == 3
    with pytest.raises(AttributeError):
        pool.interpreters[1].submit(scale).result()
    pool.interpreters[1].submit(register, 5).result()
    assert multipy.get(pool.broadcast(scale)) == [3, 5]
