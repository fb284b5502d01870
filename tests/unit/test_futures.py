"""Futures: true `concurrent.futures.Future`s that can be awaited, cancelled and watched from anywhere."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import sys
import threading
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION, CancelledError

import pytest

import multipy_actors as multipy


def fail(text):
    raise ValueError(text)


@pytest.fixture
def held(pool, gate):
    """Both interpreters stopped at the gate: whatever is submitted now stays pending."""
    futures = [pool.submit(gate.stop, index) for index in range(2)]
    gate.arrivals(2)
    return futures


# Results ---------------------------------------------------------------------------------------------------


def test_a_future_is_a_concurrent_futures_future(pool):
    future = pool.submit(abs, -3)
    assert isinstance(future, concurrent.futures.Future) and isinstance(future, multipy.Future)
    assert future.result() == 3
    assert future.exception() is None
    assert future.done() and not future.running() and not future.cancelled()


def test_a_result_is_the_same_object_each_time(pool):
    future = pool.submit(list, "ab")
    assert future.result() is future.result()


def test_an_error_is_raised_each_time_and_returned_by_exception(pool):
    future = pool.submit(fail, "no")
    for _ in range(2):
        with pytest.raises(ValueError, match="no") as caught:
            future.result()
        assert caught.value is future.exception()
    assert future.done() and not future.cancelled()


def test_a_wait_that_takes_too_long_is_a_timeout_error(held, gate):
    with pytest.raises(concurrent.futures.TimeoutError):
        held[0].result(timeout=0.01)
    with pytest.raises(concurrent.futures.TimeoutError):
        held[0].exception(timeout=0)
    gate.open()
    assert held[0].result(timeout=60) == 0


def test_the_states_are_those_of_concurrent_futures(pool, held, gate):
    pending = pool.submit(abs, 1)
    assert held[0].running() and not held[0].done()
    assert not pending.running() and not pending.done()
    assert "state=running" in repr(held[0]) and "state=pending" in repr(pending)
    gate.open()
    assert pending.result() == 1
    assert "state=finished" in repr(pending)


def test_many_threads_may_wait_for_one_future(held, gate):
    results = []
    threads = [threading.Thread(target=lambda: results.append(held[1].result())) for _ in range(8)]
    for thread in threads:
        thread.start()
    gate.open()
    for thread in threads:
        thread.join()
    assert results == [1] * 8


# Cancelling ------------------------------------------------------------------------------------------------


def test_a_pending_call_can_be_taken_back(pool, held, gate):
    future = pool.submit(abs, 1)
    assert future.cancel() and future.cancel()
    assert future.cancelled() and future.done() and "cancelled" in repr(future)
    for ask in (future.result, future.exception):
        with pytest.raises(CancelledError):
            ask()


def test_a_cancelled_call_never_runs(pool, held, gate):
    with gate.__class__() as other:
        future = pool.submit(other.stop)
        assert future.cancel()
        gate.open()
        assert pool.submit(abs, -1).result() == 1
        assert pool.submit(abs, -1).result() == 1
        with pytest.raises(CancelledError):
            future.result()


def test_a_running_or_finished_call_cannot_be_cancelled(held, gate):
    assert not held[0].cancel() and held[0].running()
    gate.open()
    assert held[0].result() == 0
    assert not held[0].cancel() and not held[0].cancelled()


def test_cancelling_wakes_those_who_wait(pool, held):
    future = pool.submit(abs, 1)
    outcomes = []
    started = threading.Event()

    def wait():
        started.set()
        try:
            future.result()
        except CancelledError as error:
            outcomes.append(type(error))

    thread = threading.Thread(target=wait)
    thread.start()
    started.wait()
    assert future.cancel()
    thread.join(60)
    assert outcomes == [CancelledError]


# Callbacks -------------------------------------------------------------------------------------------------


def outcome_of_callbacks(future, count=1):
    """Add `count` callbacks; return a function that waits for them and returns what they were given."""
    given, all_ran = [], threading.Event()

    def callback(done):
        given.append(done)
        if len(given) == count:
            all_ran.set()

    for _ in range(count):
        future.add_done_callback(callback)

    def wait():
        assert all_ran.wait(60)
        return given

    return wait


def test_callbacks_run_when_the_call_is_done(held, gate):
    ran = outcome_of_callbacks(held[0], 3)
    gate.open()
    assert ran() == [held[0]] * 3


def test_callbacks_run_for_a_future_that_nobody_holds(pool, held, gate):
    ran = outcome_of_callbacks(pool.submit(abs, -7))
    gate.open()
    (future,) = ran()
    assert future.result() == 7


def test_a_callback_added_after_the_end_runs_at_once(pool):
    future = pool.submit(abs, -1)
    future.result()
    threads = []
    future.add_done_callback(lambda _: threads.append(threading.current_thread()))
    assert threads == [threading.current_thread()]


def test_callbacks_run_in_the_order_they_were_added(held, gate):
    order, last = [], threading.Event()
    for number in range(5):
        held[0].add_done_callback(lambda _, number=number: order.append(number))
    held[0].add_done_callback(lambda _: last.set())
    gate.open()
    assert last.wait(60) and order == [0, 1, 2, 3, 4]


def test_callbacks_run_when_the_call_is_cancelled(pool, held):
    future = pool.submit(abs, 1)
    ran = outcome_of_callbacks(future)
    future.cancel()
    assert ran()[0].cancelled()


def test_a_callback_that_raises_is_logged_and_stops_nobody_else(held, gate, caplog):
    held[0].add_done_callback(lambda _: fail("bad callback"))
    ran = outcome_of_callbacks(held[0])
    with caplog.at_level(logging.ERROR, "concurrent.futures"):
        gate.open()
        assert ran() == [held[0]]
    assert "bad callback" in caplog.text


def test_a_callback_that_wants_to_exit_stops_nobody_else(pool, held, gate, caplog):
    held[0].add_done_callback(lambda _: sys.exit(1))
    same = outcome_of_callbacks(held[0])
    gate.open()
    assert same() == [held[0]]
    later = pool.submit(abs, -1)
    assert outcome_of_callbacks(later)() == [later]


def test_a_callback_may_submit_and_wait(pool):
    answers, done = [], threading.Event()

    def callback(future):
        answers.append(pool.submit(abs, -future.result()).result())
        done.set()

    pool.submit(abs, -5).add_done_callback(callback)
    assert done.wait(60) and answers == [5]


# concurrent.futures and asyncio ----------------------------------------------------------------------------


def test_wait_returns_what_is_done(pool, held, gate):
    done, rest = concurrent.futures.wait(held, timeout=0.01)
    assert not done and rest == set(held)
    quick = pool.submit(abs, 1)
    quick.cancel()
    done, rest = concurrent.futures.wait([*held, quick], return_when=FIRST_COMPLETED)
    assert done == {quick} and rest == set(held)
    gate.open()
    done, rest = concurrent.futures.wait(held, timeout=60, return_when=ALL_COMPLETED)
    assert done == set(held) and not rest


def test_wait_returns_at_the_first_exception(pool, gate):
    slow = pool.submit(gate.stop)
    gate.arrivals()
    bad = pool.submit(fail, "first")
    done, rest = concurrent.futures.wait([slow, bad], timeout=60, return_when=FIRST_EXCEPTION)
    assert done == {bad} and rest == {slow}


def test_as_completed_yields_each_future_once_it_is_done(pool, gate):
    slow = pool.submit(gate.stop, "slow")
    gate.arrivals()
    quick = [pool.submit(abs, number) for number in range(20)]
    order = concurrent.futures.as_completed([slow, *quick, *quick], timeout=60)
    first = [next(order) for _ in range(20)]
    assert sorted(future.result() for future in first) == list(range(20))
    gate.open()
    assert [future.result() for future in order] == ["slow"]


def test_futures_of_other_executors_may_be_among_them(pool):
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        futures = [pool.submit(abs, -1), threads.submit(abs, -2), pool.submit(abs, -3)]
        done, rest = concurrent.futures.wait(futures, timeout=60)
        assert sorted(future.result() for future in done) == [1, 2, 3] and not rest
        assert multipy.get(futures) == [1, 2, 3]


def test_wait_waits_for_all_however_calls_end_meanwhile(pool):
    for _ in range(300):
        futures = [pool.submit(abs, -1), pool.submit(abs, -2), pool.submit(abs, -3), pool.submit(abs, -4)]
        futures[0].add_done_callback(lambda _: None)
        done, rest = concurrent.futures.wait(futures, timeout=60)
        assert done == set(futures) and not rest


def test_as_completed_yields_each_once_however_calls_end_meanwhile(pool):
    for _ in range(300):
        futures = [pool.submit(abs, -number) for number in range(4)]
        futures[0].add_done_callback(lambda _: None)
        results = [future.result() for future in concurrent.futures.as_completed(futures, timeout=60)]
        assert sorted(results) == [0, 1, 2, 3]


def test_several_threads_may_wait_for_the_same_futures(pool):
    for _ in range(50):
        futures = [pool.submit(abs, -number) for number in range(8)]
        outcomes = []

        def wait(futures=futures, outcomes=outcomes):
            outcomes.append(len(concurrent.futures.wait(futures, timeout=60).done))
            outcomes.append(len(list(concurrent.futures.as_completed(futures, timeout=60))))

        threads = [threading.Thread(target=wait) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert outcomes == [8] * 8


def test_a_future_can_be_awaited_more_than_once(pool):
    async def main():
        future = pool.submit(abs, -4)
        return await future, await future, await asyncio.wrap_future(future)

    assert asyncio.run(main()) == (4, 4, 4)


def test_awaiting_raises_what_the_call_raised(pool):
    async def main():
        with pytest.raises(ValueError, match="awaited") as caught:
            await pool.submit(fail, "awaited")
        return caught.value.__cause__

    assert isinstance(asyncio.run(main()), multipy.RemoteTraceback)


def test_many_calls_can_be_gathered(pool):
    async def main():
        return await asyncio.gather(*(pool.submit(abs, -number) for number in range(100)))

    assert asyncio.run(main()) == list(range(100))


def test_the_pool_is_an_executor_of_the_event_loop(pool):
    async def main():
        return await asyncio.get_running_loop().run_in_executor(pool, abs, -6)

    assert asyncio.run(main()) == 6


def test_a_cancelled_task_takes_back_its_pending_call(pool, held):
    future = pool.submit(abs, 1)

    async def main():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.wrap_future(future), 0.01)

    asyncio.run(main())
    assert future.cancelled()


def test_a_cancelled_task_leaves_a_running_call_running_if_it_is_shielded(held, gate):
    async def main():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(held[0])), 0.01)
        gate.open()
        assert await held[0] == 0

    asyncio.run(main())


# get -------------------------------------------------------------------------------------------------------


def test_get_takes_one_future_or_several(pool):
    assert multipy.get(pool.submit(abs, -1)) == 1
    assert multipy.get(pool.submit(abs, -n) for n in range(3)) == [0, 1, 2]
    assert multipy.get([]) == []


def test_get_raises_the_first_failure_in_the_order_given(pool):
    with pytest.raises(ValueError, match="early"):
        multipy.get([pool.submit(abs, 1), pool.submit(fail, "early"), pool.submit(fail, "late")])


def test_the_timeout_of_get_bounds_the_whole_wait(held, gate):
    with pytest.raises(concurrent.futures.TimeoutError):
        multipy.get(held, timeout=0.01)
    with pytest.raises(concurrent.futures.TimeoutError):
        multipy.get(held[0], timeout=0.01)
    gate.open()
    assert multipy.get(held, timeout=60) == [0, 1]
    assert multipy.get(iter(held), timeout=0) == [0, 1]
