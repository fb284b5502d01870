"""What CPython asks of its own executors in tests that cannot be run against a pool.

Those tests share lists, events and semaphores with the workers, or look at threads and processes; here the
same is asked with what may travel.
"""

from __future__ import annotations

import concurrent.futures
import gc
import os
import weakref

import pytest

import multipy_actors as multipy


class Thing:
    pass


def make_thing(_):
    return Thing()


def report(gate, number):
    gate.report()
    return number


def test_what_map_submitted_runs_even_if_its_values_are_dropped(gate):
    with multipy.Pool(2) as pool:
        pool.map(report, [gate] * 10, range(10))
    gate.arrivals(10)


@pytest.mark.parametrize("buffersize", [None, 2])
def test_who_gives_up_on_a_value_of_map_has_its_call_taken_back_too(gate, buffersize):
    with multipy.Pool(1) as pool, gate.__class__() as never:
        busy = pool.submit(gate.stop)
        gate.arrivals()
        values = pool.map(never.stop, ["second", "third"], timeout=0, buffersize=buffersize)
        with pytest.raises(concurrent.futures.TimeoutError):
            next(values)
        gate.open()
        busy.result()
        # Both would stop at the other gate, and this come to nothing.
        assert pool.submit(abs, -1).result(timeout=60) == 1


@pytest.mark.parametrize("chunksize", [1, 3, 20])
@pytest.mark.parametrize("buffersize", [None, 1, 2])
def test_map_does_not_hold_on_to_values_it_has_given_away(chunksize, buffersize):
    with multipy.Pool(1) as pool:
        for thing in pool.map(make_thing, range(10), chunksize=chunksize, buffersize=buffersize):
            given = weakref.ref(thing)
            del thing
            gc.collect()
            assert given() is None


def test_a_pool_closed_without_waiting_gives_every_value_of_map():
    pool = multipy.Pool(2)
    values = pool.map(abs, range(-50, 0))
    pool.shutdown(wait=False)
    assert list(values) == list(range(50, 0, -1))
    pool.shutdown()


def test_futures_may_outlive_their_pool():
    with multipy.Pool(2) as pool:
        futures = [pool.submit(abs, -number) for number in range(10)]
    del pool
    gc.collect()
    assert multipy.get(futures) == list(range(10))


def test_more_calls_than_interpreters_wait_for_their_turn(gate):
    with multipy.Pool(2) as pool:
        futures = [pool.submit(gate.stop, number) for number in range(30)]
        gate.arrivals(2)
        assert sum(future.running() for future in futures) == 2
        gate.open()
        assert multipy.get(futures) == list(range(30))


def test_interpreters_do_not_end_between_calls(pool):
    assert multipy.get([pool.submit(os.getpid) for _ in range(20)]) == [os.getpid()] * 20
    first = multipy.get(pool.broadcast(id, None))
    assert multipy.get(pool.broadcast(id, None)) == first and len(set(first)) == 2


@pytest.mark.parametrize("closing", ["", "pool.shutdown()", "pool.shutdown(wait=False)"])
def test_a_pool_takes_no_calls_while_the_process_ends(run_script, closing):
    finished = run_script(
        f"""
        import atexit, warnings

        @atexit.register
        def last():
            try:
                pool.submit(abs, 1)
            except RuntimeError as error:
                print(type(error).__name__, end="")

        import multipy_actors as multipy
        warnings.simplefilter("ignore", ResourceWarning)
        pool = multipy.Pool(1)
        assert pool.submit(abs, -1).result() == 1
        {closing}
        """
    )
    assert (finished.stdout, finished.stderr) == ("PoolClosedError", "")


def test_calls_of_a_pool_closed_without_waiting_run_before_the_process_ends(run_script):
    finished = run_script(
        """
        import os
        import multipy_actors as multipy

        pool = multipy.Pool(1)
        for number in range(5):
            pool.submit(os.write, 1, b"%d " % number)
        pool.shutdown(wait=False)
        """
    )
    assert (finished.stdout.split(), finished.stderr) == (["0", "1", "2", "3", "4"], "")


def test_a_call_whose_arguments_arrive_while_the_pool_is_given_up_does_not_begin(run_script):
    finished = run_script(
        """
        import importlib, os, pathlib
        import multipy_actors as multipy

        arrived, report = os.pipe()
        way, go = os.pipe()
        pathlib.Path("slow_to_import.py").write_text(
            f"import os; os.write({report}, b'.'); os.read({way}, 1)"
        )

        class Imports:
            def __reduce__(self):
                return importlib.import_module, ("slow_to_import",)

        def spin(_):
            while True:
                pass

        try:
            with multipy.Pool(1) as pool:
                call = pool.submit(spin, Imports())
                pool.submit(abs, 1).add_done_callback(lambda _: os.write(go, b"."))
                os.read(arrived, 1)
                raise LookupError("enough")
        except LookupError:
            print(type(call.exception(timeout=0)).__name__)
        """
    )
    assert (finished.stdout, finished.stderr) == ("Interrupted\n", "")
