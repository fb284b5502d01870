"""Circles of waits through coroutines, event loops, streams and waits for several calls are errors, too."""

from __future__ import annotations

import asyncio
import concurrent.futures
import random

import pytest

import multipy_actors as multipy

PATIENCE = 60


@multipy.remote
class Thread:
    """Asks the first of some others, which asks the next, and waits for the answer in some way."""

    def ok(self):
        return "ok"

    def pass_on(self, way, others):
        if not others:
            return "end"
        first = others[0].pass_on.submit(way, others[1:])
        second = others[0].ok.submit()
        if way == "get":
            return multipy.get([second, first])[1]
        if way == "wait":
            done, _ = multipy.wait([second, first], num_returns=2)
            return done[1].result()
        if way == "as_completed":
            ended = {future.result() for future in concurrent.futures.as_completed([first, second])}
            return (ended - {"ok"}).pop()
        concurrent.futures.wait([first, second], return_when=way)
        return first.result()

    def wait_for(self, seconds, others):
        first = others[0].pass_on.submit("get", others[1:])
        return len(concurrent.futures.wait([first], seconds).done), len(multipy.wait([first], 1, seconds)[0])


@multipy.remote
class Fibre:
    """The same as a coroutine."""

    async def ok(self):
        return "ok"

    async def pass_on(self, way, others):
        if not others:
            return "end"
        first = others[0].pass_on.submit(way, others[1:])
        if way == "await":
            return await first
        if way == "gather":
            return (await asyncio.gather(first, others[0].ok.submit()))[0]
        if way == "task":
            return await asyncio.ensure_future(first)
        if way == "wait":
            (done,), _ = await asyncio.wait([asyncio.ensure_future(first)])
            return done.result()
        if way == "group":
            return await self.in_group(first)
        if way == "sleep before":
            task = asyncio.ensure_future(first)
            await asyncio.sleep(0.01)
            return await task
        return first.result()  # blocks the loop

    async def in_group(self, future):
        async def wait():
            return await future

        try:
            async with asyncio.TaskGroup() as group:
                task = group.create_task(wait())
        except Exception as errors:
            raise errors.exceptions[0] from None
        return task.result()

    async def patient(self, kind, others):
        first = others[0].pass_on.submit("await", others[1:])
        if kind == "wait_for":
            return await asyncio.wait_for(first, 0.05)
        if kind == "wait":
            return len((await asyncio.wait([asyncio.ensure_future(first)], timeout=0.05))[0])
        async with asyncio.timeout(0.05):
            return await first

    async def items(self, others):
        if others:
            async for item in others[0].items.stream(others[1:]):
                yield item
        yield "end"

    async def read(self, others):
        return [item async for item in others[0].items.stream(others[1:])]

    async def visit(self, others):
        """Let several others be asked at once, by each other."""
        asked = [other.visit.submit(others[index + 1 :]) for index, other in enumerate(others)]
        return 1 + sum(await asyncio.gather(*asked))


@pytest.fixture(scope="module")
def three():
    with multipy.Pool(3, name="three") as pool:
        yield pool


def actors(pool, cls, **options):
    return [cls.options(pool=pool, interpreter=index, **options).remote() for index in range(3)]


def all_work(handles):
    return multipy.get([handle.ok.submit() for handle in handles], timeout=PATIENCE) == ["ok"] * len(handles)


WAYS_OF_THREADS = ["get", "wait", "as_completed", "ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION"]
WAYS_OF_FIBRES = ["await", "gather", "task", "wait", "sleep before", "block"]
if hasattr(asyncio, "TaskGroup"):
    WAYS_OF_FIBRES.append("group")


@pytest.mark.parametrize("way", WAYS_OF_THREADS)
def test_a_circle_through_waits_for_several_calls_is_found(three, way):
    handles = actors(three, Thread)
    for length in (1, 2, 3):
        error = handles[0].pass_on.submit(way, [*handles[1:length], handles[0]]).exception(PATIENCE)
        assert isinstance(error, multipy.DeadlockError), f"{way}: {error!r}"
        assert "this wait could never end" in str(error) and "three-0" in str(error)
        assert all_work(handles)
    assert handles[0].pass_on(way, handles[1:]) == "end"


def test_a_wait_for_several_calls_with_a_timeout_is_no_deadlock(three):
    handles = actors(three, Thread)
    assert handles[0].wait_for(0.05, [handles[1], handles[0]]) == (0, 0)
    assert all_work(handles)


def test_a_wait_for_one_of_several_is_no_deadlock_while_one_of_them_may_end(three, gate):
    @multipy.remote
    class Chooser:
        def ok(self):
            return "ok"

        def first_of(self, gate, other, itself):
            hopeless = itself.ok.submit()
            done, rest = multipy.wait([hopeless, other.stop.submit(gate, "first")])
            return done[0].result(), len(rest)

    from sample_actors import Counter

    chooser = Chooser.options(pool=three, interpreter=0).remote()
    other = Counter.options(pool=three, interpreter=1).remote()
    asked = chooser.first_of.submit(gate, other, chooser)
    gate.arrivals()
    with pytest.raises(TimeoutError):
        asked.result(0.05)
    gate.open()
    assert asked.result(PATIENCE) == ("first", 1)


def test_a_wait_in_concurrent_futures_is_interrupted_at_once(three, gate):
    @multipy.remote
    class Waiting:
        def wait(self, gate, future):
            gate.report()
            concurrent.futures.wait(future)

        def ok(self):
            return "ok"

    waiting = Waiting.options(pool=three, interpreter=0).remote()
    held = three.interpreters[1].submit(gate.stop)
    gate.arrivals()
    call = waiting.wait.submit(gate, [held])
    gate.arrivals()
    assert call.cancel(interrupt=True)
    assert isinstance(call.exception(PATIENCE), multipy.Interrupted)
    gate.open()
    assert waiting.ok() == "ok" and held.result(PATIENCE) is None


@pytest.mark.parametrize("way", WAYS_OF_FIBRES)
def test_a_circle_of_coroutines_is_found_where_no_more_may_run(three, way):
    handles = actors(three, Fibre, max_concurrency=1)
    for length in (1, 2, 3):
        error = handles[0].pass_on.submit(way, [*handles[1:length], handles[0]]).exception(PATIENCE)
        assert isinstance(error, multipy.DeadlockError), f"{way}: {error!r}"
        for index in range(length):
            assert f"three-{index}" in str(error)
        assert all_work(handles)
    assert handles[0].pass_on(way, handles[1:]) == "end"


def test_a_circle_of_coroutines_ends_as_long_as_there_is_room(three):
    handles = actors(three, Fibre, max_concurrency=3)
    round_ = [*handles[1:], handles[0]]
    assert handles[0].pass_on("await", round_ * 2) == "end"
    error = handles[0].pass_on.submit("await", round_ * 3).exception(PATIENCE)
    assert isinstance(error, multipy.DeadlockError) and "waits for its turn in three-" in str(error)
    assert all_work(handles)


def test_a_circle_of_threads_and_coroutines_is_found(three):
    fibre = Fibre.options(pool=three, interpreter=0, max_concurrency=1).remote()
    thread = Thread.options(pool=three, interpreter=1).remote()

    @multipy.remote
    class Between:
        def ask(self, other, others):
            return other.pass_on("await", others)

        def pass_on(self, way, others):
            return others[0].pass_on(way, others[1:])

        def ok(self):
            return "ok"

    between = Between.options(pool=three, interpreter=2).remote()
    for start, others in ((between, [fibre, between]), (fibre, [between, fibre])):
        error = start.pass_on.submit("await", others).exception(PATIENCE)
        assert isinstance(error, multipy.DeadlockError)
        assert "three-2 waits" in str(error) and "a call of Fibre in three-0 waits" in str(error)
        assert all_work([fibre, thread, between])


@pytest.mark.parametrize("kind", ["wait_for", "wait", "timeout"])
def test_a_coroutine_that_waits_for_some_time_only_is_in_no_circle(three, kind):
    if kind == "timeout" and not hasattr(asyncio, "timeout"):
        pytest.skip("asyncio.timeout is of Python 3.11")
    fibre = Fibre.options(pool=three, interpreter=0, max_concurrency=1).remote()
    asked = fibre.patient.submit(kind, [fibre])
    if kind == "wait":
        assert asked.result(PATIENCE) == 0
    else:
        assert isinstance(asked.exception(PATIENCE), asyncio.TimeoutError)
    assert fibre.ok() == "ok"


def test_a_circle_of_streams_is_found(three):
    handles = actors(three, Fibre, max_concurrency=1)
    assert handles[0].read(handles[1:]) == ["end", "end"]
    error = handles[0].read.submit([handles[1], handles[0]]).exception(PATIENCE)
    assert isinstance(error, multipy.DeadlockError)
    assert all_work(handles)


def test_coroutines_that_wait_for_others_without_a_circle_are_never_told_of_one(three):
    """However they are placed, and however few may run at once, calls that only go down the line end."""
    chance = random.Random(7)
    for limit in (1, 2, 5):
        line = [
            Fibre.options(pool=three, interpreter=chance.randrange(3), max_concurrency=limit).remote()
            for _ in range(6)
        ]
        asked = [line[0].visit.submit(line[1:]) for _ in range(5)]
        assert multipy.get(asked, timeout=PATIENCE) == [32] * 5
        assert all_work(line)


def test_awaiting_a_call_that_raised_stop_iteration_is_an_error_and_no_hang(three):
    def end():
        raise StopIteration("at the end")

    async def wait():
        return await asyncio.wait_for(_awaited(three.submit(end)), PATIENCE)

    with pytest.raises(RuntimeError) as caught:
        asyncio.run(wait())
    assert isinstance(caught.value.__cause__, StopIteration)


async def _awaited(future):
    return await future
