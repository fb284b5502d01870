"""What `shutdown` waits for, what it does not wait for, and what it says of what is left behind."""

from __future__ import annotations

import re
import threading
import time

import pytest

import multipy_actors as multipy

SOON = 30.0  # seconds, on a loaded machine; what is not bounded would take a thousand


@multipy.remote
class Stubborn:
    def block(self, gate):
        import ctypes

        sleep = ctypes.CDLL(None).sleep
        try:
            gate.report()
            sleep(1000)
        except BaseException:  # the interrupt came before
            sleep(1000)

    def swallow(self, gate):
        tell = gate.report
        while True:
            try:
                tell()
                tell = int
                while True:
                    pass
            except BaseException:
                pass


@multipy.remote
class Endless:
    def items(self):
        try:
            while True:
                yield 1
        finally:
            while True:
                pass


def spin(gate):
    gate.report()
    while True:
        pass


@pytest.fixture
def own_pool():
    pool = multipy.Pool(1)
    yield pool
    pool.shutdown(interrupt=True, timeout=SOON)


def test_it_waits_for_calls_that_run_and_that_are_queued(own_pool, gate):
    running = own_pool.submit(gate.stop, 1)
    queued = own_pool.submit(abs, -2)
    gate.arrivals()
    opener = threading.Timer(3.0, gate.open)  # longer than what is given up would be waited for
    opener.start()
    own_pool.shutdown()
    opener.join()
    assert (running.result(timeout=0), queued.result(timeout=0)) == (1, 2)


def test_with_interrupt_what_runs_is_interrupted_and_what_is_queued_is_cancelled(own_pool, gate):
    running = own_pool.submit(spin, gate)
    gate.arrivals()
    queued = own_pool.submit(abs, -2)
    own_pool.shutdown(interrupt=True)
    assert queued.cancelled()
    with pytest.raises(multipy.Interrupted):
        running.result(timeout=0)


@pytest.mark.parametrize("method", ["block", "swallow"])
def test_what_cannot_be_interrupted_is_named_and_its_callers_are_told(own_pool, gate, method):
    handle = Stubborn.options(pool=own_pool, name=f"stubborn {method}").remote()
    future = getattr(handle, method).submit(gate)
    gate.arrivals()
    begun = time.monotonic()
    with pytest.warns(multipy.LeftBehindWarning) as caught:
        own_pool.shutdown(interrupt=True)
    assert time.monotonic() - begun < SOON
    text = str(caught[0].message)
    assert f"{own_pool.interpreters[0]._pool._name}-0, at a call of Stubborn" in text
    assert re.search(rf'File "{re.escape(__file__)}", line \d+, in {method}', text)
    with pytest.raises(multipy.PoolClosedError, match="left behind"):
        future.result(timeout=0)
    begun = time.monotonic()
    own_pool.shutdown()  # there is nothing to wait for any more
    assert time.monotonic() - begun < 1.0


def test_a_timeout_bounds_the_wait_for_calls(own_pool, gate):
    future = own_pool.submit(gate.stop)
    gate.arrivals()
    with pytest.warns(multipy.LeftBehindWarning, match="at a call for"):
        own_pool.shutdown(timeout=0.1)
    with pytest.raises(multipy.PoolClosedError, match="left behind"):
        future.result(timeout=0)


def test_a_dropped_stream_whose_generator_never_ends_is_left_behind(own_pool):
    stream = Endless.options(pool=own_pool).remote().items.stream()
    assert next(stream) == 1
    del stream
    begun = time.monotonic()
    with pytest.warns(multipy.LeftBehindWarning, match="in items"):
        own_pool.shutdown()
    assert time.monotonic() - begun < SOON


def test_a_timeout_that_is_not_needed_is_silent(own_pool):
    future = own_pool.submit(abs, -1)
    own_pool.shutdown(timeout=SOON)
    assert future.result(timeout=0) == 1


def test_a_timeout_without_a_wait_is_refused(own_pool):
    with pytest.raises(ValueError, match="wait=False"):
        own_pool.shutdown(wait=False, timeout=1.0)


def test_the_default_pool_is_shut_down_with_the_same_options(gate):
    multipy.init(interpreters=1)
    future = multipy.default_pool().submit(spin, gate)
    gate.arrivals()
    multipy.shutdown(interrupt=True, timeout=SOON)
    assert isinstance(future.exception(timeout=0), multipy.Interrupted)


def test_a_forgotten_pool_names_the_line_that_made_it(run_script):
    finished = run_script("import multipy_actors as multipy\n\npool = multipy.Pool(1)\n")
    assert "script.py:3: ResourceWarning" in finished.stderr
    assert "was never shut down; it was made at" in finished.stderr


STUCK = """
import ctypes, os, signal, sys, threading, time
import multipy_actors as multipy

reader, writer = os.pipe()

def block():
    sleep = ctypes.CDLL(None).sleep
    try:
        os.write(writer, b".")
        sleep(1000)
    except BaseException:  # the interrupt came before
        sleep(1000)

def begin(pool):
    future = pool.submit(block)
    os.read(reader, 1)
    return future

"""


def test_stuck_pools_end_together_with_the_process(run_script):
    begun = time.monotonic()
    finished = run_script(
        STUCK + "pools = [multipy.Pool(1) for _ in range(10)]\nfor pool in pools: begin(pool)\n",
        timeout=200,
    )
    assert finished.stderr.count("LeftBehindWarning") == 10
    assert time.monotonic() - begun < 2 * SOON


@pytest.mark.parametrize("options", ["cancel_futures=True", "interrupt=True"])
def test_without_a_wait_the_end_of_the_process_is_bounded(run_script, options):
    begun = time.monotonic()
    finished = run_script(
        STUCK + f"pool = multipy.Pool(1)\nbegin(pool)\npool.shutdown(wait=False, {options})\n"
    )
    assert "LeftBehindWarning" in finished.stderr
    assert time.monotonic() - begun < SOON


def test_without_a_wait_the_end_of_the_process_waits_for_what_is_queued(run_script):
    finished = run_script(
        STUCK + "pool = multipy.Pool(1)\nfor _ in range(3): future = pool.submit(time.sleep, 1)\n"
        "pool.submit(os.write, 1, b'last')\npool.shutdown(wait=False)\n"
    )
    assert (finished.stdout, finished.stderr) == ("last", "")


def test_threads_that_wait_for_a_call_that_is_left_behind_do_not_hold_up_the_end(run_script):
    begun = time.monotonic()
    run_script(
        STUCK
        + """
def wait(future):
    try:
        future.result()
    except multipy.PoolClosedError as error:
        print(error)

def stop(*_):
    raise SystemExit(0)

signal.signal(signal.SIGTERM, stop)
with multipy.Pool(1) as pool:
    future = begin(pool)
    threading.Thread(target=wait, args=(future,)).start()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(1000)
"""
    )
    assert time.monotonic() - begun < SOON


def test_a_pool_that_fails_to_end_leaves_no_other(monkeypatch):
    from multipy_actors.pool import closing

    pools = [multipy.Pool(1) for _ in range(3)]
    told = closing.tell_to_end

    def tell_to_end(pool):
        told(pool)
        if pool is pools[0]:
            raise RuntimeError("mine")

    monkeypatch.setattr(closing, "tell_to_end", tell_to_end)
    with pytest.raises(RuntimeError, match="mine"):
        closing.end_at_once(pools)
    assert all(pool._closed and pool._done for pool in pools)
