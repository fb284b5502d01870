"""Futures beside those of other executors, and in event loops: who waits need not know what they are."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import logging
import threading

import pytest

import multipy_actors as multipy


def fail(text):
    raise ValueError(text)


def add(*numbers, more=0):
    return sum(numbers) + more


@pytest.fixture(scope="module")
def threads():
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        yield threads


@pytest.fixture
def stopped(pool, gate):
    """A call that is running, until the gate is opened."""
    future = pool.submit(gate.stop, "ran")
    gate.arrivals()
    return future


# concurrent.futures ----------------------------------------------------------------------------------------


def test_the_first_to_complete_may_be_of_either_executor(pool, threads, gate, stopped):
    thread = threads.submit(abs, -2)
    done, rest = concurrent.futures.wait(
        [stopped, thread], timeout=60, return_when=concurrent.futures.FIRST_COMPLETED
    )
    assert (done, rest) == ({thread}, {stopped})
    waiting = threads.submit(gate.stop)
    gate.arrivals()
    call = pool.submit(abs, -3)
    done, rest = concurrent.futures.wait(
        [waiting, stopped, call], timeout=60, return_when=concurrent.futures.FIRST_COMPLETED
    )
    assert (done, rest) == ({call}, {waiting, stopped})


def test_the_first_exception_may_be_of_either_executor(pool, threads, stopped):
    for executor in (pool, threads):
        bad, good = executor.submit(fail, "first"), executor.submit(abs, 1)
        good.result()
        done, rest = concurrent.futures.wait(
            [stopped, good, bad], timeout=60, return_when=concurrent.futures.FIRST_EXCEPTION
        )
        assert (done, rest) == ({bad, good}, {stopped})


def test_as_completed_yields_futures_of_both_executors(pool, threads, gate, stopped):
    waiting = threads.submit(gate.stop, "ran too")
    gate.arrivals()
    quick = [executor.submit(abs, -number) for number in range(20) for executor in (pool, threads)]
    order = concurrent.futures.as_completed([stopped, waiting, *quick], timeout=60)
    assert {next(order) for _ in quick} == set(quick)
    gate.open()
    assert {future.result() for future in order} == {"ran", "ran too"}


def test_a_thread_of_another_executor_may_wait_for_a_future(pool, threads, gate, stopped):
    waiting = [threads.submit(stopped.result, 60) for _ in range(2)]
    gate.open()
    assert multipy.get(waiting) == ["ran", "ran"]


def test_callbacks_may_add_callbacks_to_the_same_future(gate, stopped):
    order, last = [], threading.Event()

    def first(future):
        future.add_done_callback(lambda _: order.append("inner"))
        order.append("first")

    stopped.add_done_callback(first)
    stopped.add_done_callback(lambda _: order.append("second"))
    stopped.add_done_callback(lambda _: last.set())
    gate.open()
    assert last.wait(60)
    # One that is added when the call is done is called at once, as with any future.
    assert order == ["inner", "first", "second"]


def test_a_callback_that_raises_keeps_neither_later_ones_nor_waiters_from_knowing(gate, stopped, caplog):
    order, last = [], threading.Event()
    for number in range(3):
        stopped.add_done_callback(lambda _, number=number: fail(f"callback {number}"))
        stopped.add_done_callback(lambda _, number=number: order.append(number))
    stopped.add_done_callback(lambda _: last.set())
    with caplog.at_level(logging.ERROR, "concurrent.futures"):
        gate.open()
        assert concurrent.futures.wait([stopped], timeout=60).done == {stopped}
        assert last.wait(60) and order == [0, 1, 2]
    assert [f"callback {number}" in caplog.text for number in range(3)] == [True] * 3


# asyncio ---------------------------------------------------------------------------------------------------


def test_a_pending_future_may_be_awaited_by_many_tasks(gate, stopped):
    async def wait():
        return await stopped

    async def main():
        tasks = [asyncio.create_task(wait()) for _ in range(5)]
        await asyncio.sleep(0)  # each of them has come to its await
        gate.open()
        return await asyncio.gather(*tasks, stopped)

    assert asyncio.run(main()) == ["ran"] * 6


def test_a_future_may_be_awaited_in_two_loops_at_once(gate, stopped):
    waiting = threading.Barrier(3)
    results = []

    async def main():
        task = asyncio.ensure_future(asyncio.wrap_future(stopped))
        await asyncio.sleep(0)
        waiting.wait(60)
        results.append((await task, await stopped))

    loops = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(2)]
    for loop in loops:
        loop.start()
    waiting.wait(60)
    gate.open()
    for loop in loops:
        loop.join(60)
    assert results == [("ran", "ran")] * 2


def test_a_future_may_be_awaited_in_one_loop_after_another(pool):
    async def wait(future):
        return await future

    future = pool.submit(abs, -4)
    assert [asyncio.run(wait(future)) for _ in range(3)] == [4, 4, 4]
    bad = pool.submit(fail, "again")
    for _ in range(3):
        with pytest.raises(ValueError, match="again"):
            asyncio.run(wait(bad))


def test_awaiting_a_cancelled_future_raises_cancelled_error(gate):
    async def wait(future):
        with pytest.raises(asyncio.CancelledError):
            await future

    with multipy.Pool(1) as pool:
        pool.submit(gate.stop)
        gate.arrivals()
        future = pool.submit(abs, 1)
        assert future.cancel()
        gate.open()
        asyncio.run(wait(future))


def test_cancelling_while_awaited_wakes_whoever_awaits(gate):
    with multipy.Pool(1) as pool:
        pool.submit(gate.stop)
        gate.arrivals()
        future = pool.submit(abs, 1)

        async def main():
            tasks = [asyncio.ensure_future(asyncio.wrap_future(future)) for _ in range(3)]
            await asyncio.sleep(0)
            assert future.cancel()
            return await asyncio.gather(*tasks, return_exceptions=True)

        outcomes = asyncio.run(main())
        gate.open()
    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError] * 3


def test_wrapped_futures_are_shielded_waited_for_and_completed_as_any(pool, gate, stopped):
    async def main():
        slow = asyncio.wrap_future(stopped)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(slow), 0.01)
        quick = [asyncio.wrap_future(pool.submit(abs, -number)) for number in range(10)]
        results = [await each for each in asyncio.as_completed(quick, timeout=60)]
        assert sorted(results) == list(range(10))
        done, rest = await asyncio.wait([slow, *quick], return_when=asyncio.FIRST_COMPLETED)
        assert done == set(quick) and rest == {slow}
        gate.open()
        return await slow

    assert asyncio.run(main()) == "ran"


def test_errors_can_be_gathered_with_results(pool):
    async def main():
        calls = [pool.submit(abs, -1), pool.submit(fail, "gathered"), pool.submit(abs, -2)]
        return await asyncio.gather(*calls, return_exceptions=True)

    first, error, second = asyncio.run(main())
    assert (first, second) == (1, 2) and isinstance(error, ValueError)


def test_a_loop_runs_functions_with_arguments_in_the_pool(pool):
    async def main():
        loop = asyncio.get_running_loop()
        run = functools.partial(loop.run_in_executor, pool)
        partial = functools.partial(add, 1, more=10)
        calls = [run(add, 1, 2), run(partial, 5), run(lambda x: x * 2, 4)]
        assert await asyncio.gather(*calls) == [3, 16, 8]
        with pytest.raises(ValueError, match="in the pool"):
            await run(fail, "in the pool")

    asyncio.run(main())


def test_a_loop_that_is_gone_when_a_call_ends_harms_nobody(pool, gate, stopped, caplog):
    async def give_up():
        waiting = asyncio.ensure_future(asyncio.wrap_future(stopped))
        await asyncio.sleep(0)
        del waiting

    loop = asyncio.new_event_loop()
    loop.run_until_complete(give_up())
    loop.close()
    gate.open()
    assert stopped.result(60) == "ran"
    later, told = pool.submit(abs, -1), threading.Event()
    later.add_done_callback(lambda _: told.set())
    assert told.wait(60)
    assert not caplog.records
