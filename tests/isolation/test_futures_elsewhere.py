"""Futures as arguments, inside other things, in other interpreters; and `multipy.wait`."""

from __future__ import annotations

import concurrent.futures

import pytest
from sample_actors import Counter, Friend

import multipy_actors as multipy

PATIENCE = 60


def add(left, right=0):
    return left + right


def fail(error):
    raise error


@pytest.fixture
def held(pool, gate):
    """Both interpreters stopped: whatever is submitted now stays pending."""
    futures = [interpreter.submit(gate.stop, interpreter.id) for interpreter in pool.interpreters]
    gate.arrivals(2)
    return futures


# As arguments ----------------------------------------------------------------------------------------------


def test_a_finished_future_as_an_argument_is_its_value(pool):
    one, two = pool.submit(abs, -1), pool.submit(abs, -2)
    multipy.get([one, two])
    assert pool.submit(add, one, two).result() == 3
    assert pool.submit(add, one, right=two).result() == 3
    counter = Counter.options(pool=pool).remote()
    assert counter.add(one) == 1 and counter.add.submit(amount=two).result() == 3


def test_a_pending_future_as_an_argument_is_waited_for(pool, gate):
    with multipy.Pool(1) as other:
        pending = other.submit(gate.stop, 5)
        called = pool.submit(add, pending, 1)
        gate.arrivals()
        assert not called.done()
        gate.open()
        assert called.result(PATIENCE) == 6


def test_a_chain_of_futures_runs_by_itself(pool):
    counter = Counter.options(pool=pool, interpreter=0).remote()
    future = counter.echo.submit(1)
    for _ in range(50):
        future = pool.submit(add, counter.echo.submit(future), 1)
    assert future.result(PATIENCE) == 51


def test_a_failed_future_as_an_argument_fails_the_call_with_its_error(pool):
    failed = pool.submit(fail, LookupError("first"))
    for future in (failed, pool.submit(fail, KeyError("first"))):
        error = pool.submit(add, future).exception(PATIENCE)
        assert type(error) is type(future.exception()) and error.args == ("first",)


def test_a_cancelled_future_as_an_argument_fails_the_call(pool, held, gate):
    cancelled = pool.submit(abs, 1)
    assert cancelled.cancel()
    called = pool.submit(add, cancelled)
    gate.open()
    with pytest.raises(concurrent.futures.CancelledError):
        called.result(PATIENCE)


def test_a_future_of_another_pool_is_an_argument_and_a_result_like_any(pool):
    with multipy.Pool(1) as other, multipy.Pool(1) as third:
        future = other.submit(abs, -3)
        assert pool.submit(add, future, third.submit(abs, -4)).result(PATIENCE) == 7
        box = third.submit(lambda future: [future], pool.submit(list, "ab")).result()
        assert box == [["a", "b"]]


def test_a_tensor_that_a_future_stands_for_is_not_copied(pool):
    numpy = pytest.importorskip("numpy")
    array = numpy.zeros(3)
    echoed = pool.interpreters[0].submit(lambda value: value, array)

    def write(value):
        value[:] = 7

    pool.interpreters[1].submit(write, echoed).result()
    assert array.tolist() == [7, 7, 7] and echoed.result().tolist() == [7, 7, 7]


def test_a_future_of_another_executor_cannot_be_sent_and_is_named(pool):
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        future = threads.submit(abs, 1)
        with pytest.raises(multipy.SerializationError, match="argument 0"):
            pool.submit(add, future)


# Inside other things ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pack", "unpack"),
    [
        (lambda f: [f], lambda v: v[0]),
        (lambda f: {"deep": (1, [f])}, lambda v: v["deep"][1][0]),
        (lambda f: {f}, lambda v: next(iter(v))),
        (lambda f: lambda: f, lambda v: v()),
        (lambda f: type("Box", (), {"value": f})(), lambda v: v.value),
    ],
    ids=["list", "nested", "set", "closure", "object"],
)
def test_a_future_inside_something_arrives_as_a_future(pool, pack, unpack):
    future = pool.submit(abs, -3)

    def look(value):
        inner = unpack(value)
        return type(inner).__name__, isinstance(inner, multipy.Future), inner.result(), inner.done()

    # `Box` is a class made here, whose attribute travels by value.
    assert pool.submit(look, pack(future)).result() == ("Future", True, 3, True)


def test_a_future_that_is_returned_stays_one(pool):
    friend = Friend.options(pool=pool, interpreter=0).remote(
        Counter.options(pool=pool, interpreter=1).remote()
    )
    future = friend.submit("add")
    assert isinstance(future, multipy.Future) and future.result(PATIENCE) == 1


def test_a_future_elsewhere_does_all_that_it_does_here(pool, gate):
    with multipy.Pool(1) as other:
        running, queued = other.submit(gate.stop, 1), other.submit(abs, -2)
        gate.arrivals()

        def use(box):
            running, queued = box
            states = running.running(), queued.running(), queued.cancel(), queued.cancelled()
            try:
                running.result(0.01)
            except TimeoutError:
                return (*states, "timed out")

        assert pool.submit(use, [running, queued]).result() == (True, False, True, True, "timed out")
        assert queued.cancelled()

        def watch(box):
            import asyncio
            import threading

            told = threading.Event()
            box[0].add_done_callback(lambda _: told.set())

            async def wait():
                return await box[0]

            return asyncio.run(wait()), told.wait(60)

        watching = pool.submit(watch, [running])
        gate.open()
        assert watching.result(PATIENCE) == (1, True)


def test_the_error_of_a_future_arrives_elsewhere_with_its_traceback(pool):
    failed = pool.submit(fail, ValueError("deep"))

    def look(box):
        error = box[0].exception()
        return type(error).__name__, str(error), "in fail" in str(error.__cause__)

    assert pool.submit(look, [failed]).result() == ("ValueError", "deep", True)


# multipy.wait ----------------------------------------------------------------------------------------------


def test_wait_returns_what_is_done_and_the_rest_in_their_order(pool, held, gate):
    pending = [pool.submit(abs, -number) for number in range(3)]
    with multipy.Pool(1) as other:
        done = [other.submit(abs, -number) for number in range(2)]
        multipy.get(done)
        futures = [pending[0], done[0], pending[1], done[1], pending[2]]
        assert multipy.wait(futures) == ([done[0]], [pending[0], *pending[1:2], done[1], pending[2]])
        assert multipy.wait(futures, 2) == (done, pending)
        assert multipy.wait(futures, 3, timeout=0.01) == (done, pending)
        assert multipy.wait(futures, 5, timeout=0) == (done, pending)
        assert multipy.wait(futures, 0) == ([], futures)
        assert multipy.wait([], 0) == ([], [])
        gate.open()
        assert multipy.wait(futures, 5) == (futures, [])
    multipy.get(held)


def test_wait_takes_what_failed_or_was_cancelled_for_done(pool, held, gate):
    cancelled = pool.submit(abs, 1)
    cancelled.cancel()
    assert multipy.wait([held[0], cancelled]) == ([cancelled], [held[0]])
    with multipy.Pool(1) as other:
        failed = other.submit(fail, ValueError())
        assert multipy.wait([held[0], failed]) == ([failed], [held[0]])
    gate.open()


def test_wait_waits_for_a_future_that_is_named_twice(pool, held, gate):
    done, rest = multipy.wait([held[0], held[0]], 1, timeout=0.01)
    assert (done, rest) == ([], [held[0]] * 2)
    gate.open()
    assert multipy.wait([held[0], held[0]], 2) == ([held[0]] * 2, [])


@pytest.mark.parametrize("number", [-1, 2])
def test_wait_refuses_numbers_that_make_no_sense(pool, number):
    with pytest.raises(ValueError, match="num_returns must be from 0 to 1"):
        multipy.wait([pool.submit(abs, 1)], number)


def test_wait_takes_futures_of_other_executors_and_iterators(pool):
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        futures = [pool.submit(abs, -1), threads.submit(abs, -2)]
        done, rest = multipy.wait(iter(futures), 2)
        assert (done, rest) == (futures, []) and multipy.get(done) == [1, 2]


def test_wait_works_inside_an_interpreter(pool):
    def work():
        futures = [multipy.default_pool().submit(abs, -number) for number in range(3)]
        done, rest = multipy.wait(futures, 3, timeout=60)
        return len(rest), multipy.get(done)

    assert pool.submit(work).result(PATIENCE) == (0, [0, 1, 2])
