"""The inside of an interpreter: what a call may do, what comes of it, and what it leaves behind."""

from __future__ import annotations

import gc
import sys
import threading
import weakref

import numpy
import pytest

import multipy_actors as multipy


def leave(how):
    raise how


def recurse():
    return recurse()


@pytest.mark.parametrize(
    "how",
    [
        SystemExit(3),
        SystemExit(),
        KeyboardInterrupt("mine"),
        GeneratorExit(),
        MemoryError(),
        StopIteration(1),
    ],
)
def test_whatever_is_raised_fails_that_call_alone(pool, how):
    for interpreter in pool.interpreters:
        future = interpreter.submit(leave, how)
        with pytest.raises(type(how)) as caught:
            future.result()
        assert caught.value.args == how.args
        assert interpreter.submit(abs, -1).result() == 1


def test_endless_recursion_fails_that_call_alone(pool):
    with pytest.raises(RecursionError):
        pool.submit(recurse).result()
    assert pool.submit(abs, -1).result() == 1


def test_sys_exit_ends_a_call_and_not_the_process(pool):
    with pytest.raises(SystemExit) as caught:
        pool.submit(sys.exit, "bye").result()
    assert caught.value.code == "bye"


def test_calls_run_on_the_main_thread_of_their_interpreter(pool):
    def threads():
        import threading

        return threading.current_thread() is threading.main_thread(), threading.get_native_id()

    outcomes = multipy.get(pool.broadcast(threads))
    assert [main for main, _ in outcomes] == [True, True]
    assert len({thread for _, thread in outcomes} | {threading.get_native_id()}) == 3


def test_a_call_leaves_no_references_behind(pool):
    def give(fails):
        class Heavy:
            pass

        heavy = Heavy()
        import sys
        import weakref

        sys.marker = weakref.ref(heavy)
        if fails:
            raise ValueError(heavy.__class__.__name__)
        return [1]

    def given():
        import gc
        import sys

        gc.collect()
        return sys.marker() is None

    for fails in (False, True):
        future = pool.interpreters[0].submit(give, fails)
        assert (future.exception() is not None) is fails
        assert pool.interpreters[0].submit(given).result()


def test_arguments_are_released_when_the_call_has_run_even_if_its_future_lives(pool):
    released = threading.Event()
    array = numpy.ones(1000)
    weakref.finalize(array, released.set)
    future = pool.submit(len, array)
    assert future.result() == 1000
    del array
    gc.collect()
    assert released.wait(60)
    assert future.result() == 1000


def test_what_a_call_prints_appears_at_once(run_script):
    finished = run_script(
        """
        import os, sys
        import multipy_actors as multipy

        def talk():
            print("out from inside")
            print("err from inside", file=sys.stderr)

        pool = multipy.Pool(1)
        pool.submit(talk).result()
        os._exit(0)
        """
    )
    assert finished.stdout == "(pool-1-0) out from inside\n"
    assert finished.stderr == "(pool-1-0) err from inside\n"


def test_an_interpreter_without_standard_streams_works(run_script, tmp_path):
    done = tmp_path / "done"
    run_script(
        f"""
        import os, sys
        for descriptor in (0, 1, 2):
            os.close(descriptor)
        sys.stdout = sys.stderr = None
        import multipy_actors as multipy
        with multipy.Pool(1) as pool:
            assert pool.submit(abs, -1).result() == 1
        open({str(done)!r}, "w").close()
        """
    )
    assert done.exists()


def test_an_interpreter_may_redirect_its_output_for_itself(pool):
    def capture():
        import contextlib
        import io

        with contextlib.redirect_stdout(io.StringIO()) as stream:
            print("captured")
        return stream.getvalue()

    assert multipy.get(pool.broadcast(capture)) == ["captured\n"] * 2


_FILL = """
import gc

before = gc.get_stats()[1]["collections"]
kept = [[] for _ in range(600_000)]
looked = gc.get_stats()[1]["collections"] - before
"""


def looks(folder=None, thresholds=None):
    """Of the collector at older objects while many are made, by a module of `folder` that is imported."""
    import gc
    import sys

    if thresholds is not None:
        gc.set_threshold(*thresholds)
    if folder is None:
        made = {}
        exec(_FILL, made)
        return made["looked"], gc.get_threshold()
    sys.path.append(folder)
    try:
        import filling_module

        return filling_module.looked, gc.get_threshold()
    finally:
        sys.path.remove(folder)


def test_an_import_is_not_held_up_by_looking_for_garbage(tmp_path):
    (tmp_path / "filling_module.py").write_text(_FILL)
    with multipy.Pool(1) as pool:
        _, usual = pool.submit(looks).result()
        # The first look shows that an import goes on, and may be one at older objects.
        assert pool.submit(looks, str(tmp_path)).result()[0] <= 1
        looked, afterwards = pool.submit(looks).result()
    assert looked >= 4
    assert afterwards == usual


def test_thresholds_that_code_has_set_stay_as_they_are(tmp_path):
    (tmp_path / "filling_module.py").write_text(_FILL)
    with multipy.Pool(1) as pool:
        looked, thresholds = pool.submit(looks, str(tmp_path), (500, 5, 5)).result()
    assert looked > 0
    assert thresholds == (500, 5, 5)


_TIME_SLICE = """
import array
import ctypes
import platform

SCHED_GETATTR = {"x86_64": 315, "aarch64": 275}[platform.machine()]


def time_slice():
    "How long this thread runs at a stretch, in ns; 0 where the kernel does not tell."
    attributes = array.array("Q", bytes(48))
    address, size = attributes.buffer_info()
    failed = ctypes.CDLL(None).syscall(SCHED_GETATTR, 0, ctypes.c_void_p(address), size * 8, 0)
    return 0 if failed else attributes[3]
"""


def test_what_imports_has_long_time_slices_and_other_calls_have_not(tmp_path):
    (tmp_path / "time_slices.py").write_text(_TIME_SLICE)
    (tmp_path / "making_module.py").write_text(
        "import time_slices\nkept = [[] for _ in range(30_000)]\nfound = time_slices.time_slice()\n"
    )

    def usual():
        import time_slices

        return time_slices.time_slice()

    def importing():
        import making_module

        return making_module.found

    with multipy.Pool(1, env=multipy.PathEnvironment(tmp_path)) as pool:
        pool.submit(usual).result()  # imports, too
        before = pool.submit(usual).result()
        if before == 0:
            pytest.skip("this kernel has one length of time slices for all")
        assert pool.submit(importing).result() > 5 * before
        assert pool.submit(usual).result() == before
