"""Ending calls: `cancel(interrupt=True)` and the `timeout` option, whatever the call is doing."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import time
from concurrent.futures import CancelledError

import pytest
from gates import Gate
from occupied import occupied
from sample_actors import Counter, Friend, Spinner

import multipy_actors as multipy

PATIENCE = 60


@pytest.fixture
def spinner(pool):
    return Spinner.options(pool=pool, interpreter=0).remote()


@pytest.fixture
def let_go(pool):
    """Both interpreters are held until this is called: whatever is submitted before stays pending."""
    with occupied(*pool.interpreters) as let_go:
        yield let_go


# Interrupting ----------------------------------------------------------------------------------------------


def test_a_pure_python_loop_is_interrupted_and_the_actor_goes_on(spinner, gate):
    for _ in range(5):
        future = spinner.spin.submit(gate)
        gate.arrivals()
        waiting = spinner.ok.submit()
        assert future.cancel(interrupt=True)
        with pytest.raises(multipy.Interrupted):
            future.result(PATIENCE)
        assert not future.cancelled() and waiting.result(PATIENCE) == "ok"


def test_code_may_catch_the_interrupt_and_return(pool, gate):
    def stubborn():
        try:
            gate.report()
            while True:
                pass
        except multipy.Interrupted:
            return "tidied up"

    future = pool.submit(stubborn)
    gate.arrivals()
    assert future.cancel(interrupt=True)
    assert future.result(PATIENCE) == "tidied up"


def test_only_the_call_that_is_meant_is_interrupted(pool, gate):
    spinners = [Spinner.options(pool=pool, interpreter=index).remote() for index in range(2)]
    futures = [spinner.spin.submit(gate) for spinner in spinners]
    gate.arrivals(2)
    queued = spinners[0].ok.submit()
    assert futures[0].cancel(interrupt=True)
    assert isinstance(futures[0].exception(PATIENCE), multipy.Interrupted)
    assert queued.result(PATIENCE) == "ok" and futures[1].running()
    assert futures[1].cancel(interrupt=True)
    assert isinstance(futures[1].exception(PATIENCE), multipy.Interrupted)


def test_a_call_that_waits_for_another_actor_is_interrupted(pool, spinner, gate):
    friend = Friend.options(pool=pool, interpreter=1).remote(spinner)
    outer = friend.call.submit("spin", gate)
    gate.arrivals()
    assert outer.cancel(interrupt=True)
    assert isinstance(outer.exception(PATIENCE), multipy.Interrupted)
    # What it had called goes on by itself.
    assert friend.introduce() == spinner
    multipy.kill(spinner)


def test_a_call_that_waits_for_a_queued_call_is_interrupted(pool, gate):
    counter = Counter.options(pool=pool, interpreter=0).remote()
    friend = Friend.options(pool=pool, interpreter=1).remote(counter)
    held = counter.stop.submit(gate)
    gate.arrivals()
    for _ in range(10):
        with Gate() as other:

            def wait(counter, other=other):
                other.report()
                return counter.add()

            outer = friend.look.submit(wait)
            other.arrivals()
            assert outer.cancel(interrupt=True)
            assert isinstance(outer.exception(PATIENCE), multipy.Interrupted)
    gate.open()
    assert held.result() is None and friend.call() > 0


def test_interrupting_a_pending_call_cancels_it(pool, let_go):
    future = pool.submit(abs, -1)
    assert future.cancel(interrupt=True) and future.cancelled()


def test_interrupting_a_finished_call_does_nothing(pool, spinner):
    for future in (spinner.ok.submit(), pool.submit(divmod, 1, 0)):
        future.exception()
        assert not future.cancel(interrupt=True) and not future.cancelled()
    assert spinner.ok() == "ok"


def test_interrupts_that_come_as_calls_end_hit_nobody_else(pool):
    counter = Counter.options(pool=pool, interpreter=0).remote()
    for _ in range(300):
        future, after = counter.echo.submit(1), counter.echo.submit(2)
        future.cancel(interrupt=True)
        assert after.result(PATIENCE) == 2
        with contextlib.suppress(multipy.Interrupted, CancelledError):
            assert future.result(PATIENCE) == 1


def test_a_call_is_interrupted_from_another_interpreter(pool, spinner, gate):
    future = spinner.spin.submit(gate)
    gate.arrivals()
    assert pool.interpreters[1].submit(lambda box: box[0].cancel(interrupt=True), [future]).result()
    assert isinstance(future.exception(PATIENCE), multipy.Interrupted)


# The option `timeout` --------------------------------------------------------------------------------------


def test_a_running_call_that_takes_too_long_ends_and_its_code_too(pool, gate):
    spinner = Spinner.options(pool=pool, interpreter=0, timeout=0.05).remote()
    future = spinner.spin.submit(gate)
    gate.arrivals()
    with pytest.raises(TimeoutError, match="outlived its timeout"):
        future.result(PATIENCE)
    assert future.done() and not future.cancelled()
    # The interpreter is free again: the loop was interrupted.
    assert pool.interpreters[0].submit(abs, -1).result(PATIENCE) == 1


def test_a_queued_call_that_takes_too_long_never_runs(pool, let_go):
    counter = Counter.options(pool=pool, interpreter=0, timeout=0.05).remote()
    futures = [counter.add.submit() for _ in range(5)]
    for future in futures:
        assert isinstance(future.exception(PATIENCE), TimeoutError)
    let_go()
    deadline = time.monotonic() + PATIENCE
    while True:  # on a slow machine even this one may time out
        try:
            assert counter.add() == 1
            break
        except TimeoutError:
            assert time.monotonic() < deadline


def test_a_call_that_waits_for_another_too_long_ends(pool, gate):
    counter = Counter.options(pool=pool, interpreter=0).remote()
    held = counter.stop.submit(gate)
    gate.arrivals()
    friend = Friend.options(pool=pool, interpreter=1, timeout=0.05).remote(counter)
    with pytest.raises(TimeoutError):
        friend.call()
    assert pool.interpreters[1].submit(abs, -1).result(PATIENCE) == 1
    gate.open()
    held.result()


def test_the_timeout_counts_for_every_way_to_call(pool, let_go):
    counter = Counter.options(pool=pool, replicas=2, timeout=0.05).remote()
    calls = [counter.add.submit(), counter.on(1).add.submit(), *counter.broadcast.add.submit()]
    for future in calls:
        assert isinstance(future.exception(PATIENCE), TimeoutError)
    with pytest.raises(TimeoutError):
        list(counter.add.map([1, 2]))


def test_a_call_in_time_is_not_disturbed_by_its_timeout(pool):
    counter = Counter.options(pool=pool, timeout=PATIENCE).remote()
    assert [counter.add() for _ in range(100)] == list(range(1, 101))
    assert counter.statistics()["failed"] == 0


def test_callbacks_and_awaiting_hear_of_a_timeout(pool, let_go):
    counter = Counter.options(pool=pool, timeout=0.05).remote()

    async def wait():
        return await counter.add.submit()

    with pytest.raises(TimeoutError):
        asyncio.run(wait())
    future = counter.add.submit()
    assert concurrent.futures.wait([future], timeout=PATIENCE).done == {future}


def test_the_timeout_of_a_call_travels_with_the_handle(pool):
    with multipy.Pool(1) as other:
        spinner = Spinner.options(pool=other, timeout=0.05).remote()

        def work(spinner, gate):
            try:
                spinner.spin(gate)
            except TimeoutError as error:
                return str(error)

        with Gate() as gate:
            assert "outlived" in pool.submit(work, spinner, gate).result(PATIENCE)
        assert other.submit(abs, -1).result(PATIENCE) == 1
