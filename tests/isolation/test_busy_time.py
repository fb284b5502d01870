"""What `busy_seconds` counts: the time an interpreter's worker is at calls, or its event loop runs code."""

from __future__ import annotations

import asyncio
from time import monotonic, sleep

import pytest

import multipy_actors as multipy

PATIENCE = 60
SPUN = 0.3  # seconds


def spin(seconds):
    end = monotonic() + seconds
    while monotonic() < end:
        pass


@multipy.remote
class Plain:
    def work(self, seconds):
        spin(seconds)

    def stop(self, gate):
        gate.stop()

    def stream(self, seconds):
        for _ in range(3):
            spin(seconds / 3)
            yield 1


@multipy.remote
class OnLoop:
    def __init__(self):
        self.opened = asyncio.Event()

    async def work(self, seconds):
        spin(seconds)

    async def work_in_tasks(self, seconds):
        async def part():
            spin(seconds / 3)

        await asyncio.gather(part(), part(), part())

    def plain_work(self, seconds):
        spin(seconds)

    async def stop(self, gate):
        gate.stop()

    async def wait(self, gate):
        gate.report()
        await self.opened.wait()

    async def sleep(self, gate):
        gate.report()
        await asyncio.sleep(PATIENCE)

    async def open(self):
        self.opened.set()

    async def stream(self, seconds):
        for _ in range(3):
            spin(seconds / 3)
            yield 1


@pytest.fixture
def interpreter(pool):
    return pool.interpreters[0]


def busy(interpreter):
    return interpreter.statistics()["busy_seconds"]


def settled(interpreter):
    """Wait until nothing runs any more: what it was busy for."""
    end = monotonic() + PATIENCE
    before = busy(interpreter)
    while monotonic() < end:
        sleep(0.05)
        now = busy(interpreter)
        if now == before:
            return now
        before = now
    pytest.fail("it is busy for ever")


def grows(interpreter, seconds):
    """Say whether it is busy for `seconds` more, in the end."""
    end, before = monotonic() + PATIENCE, busy(interpreter)
    while monotonic() < end:
        if busy(interpreter) >= before + seconds:
            return True
        sleep(0.01)
    return False


WORK = {
    "a plain call": (Plain, lambda actor: actor.work(SPUN)),
    "a stream": (Plain, lambda actor: list(actor.stream.stream(SPUN))),
    "a coroutine": (OnLoop, lambda actor: actor.work(SPUN)),
    "tasks of a coroutine": (OnLoop, lambda actor: actor.work_in_tasks(SPUN)),
    "a plain method beside coroutines": (OnLoop, lambda actor: actor.plain_work(SPUN)),
    "a stream of coroutines": (OnLoop, lambda actor: list(actor.stream.stream(SPUN))),
}


@pytest.mark.parametrize("what", WORK)
def test_time_in_which_code_runs_is_counted_once(what, interpreter):
    cls, work = WORK[what]
    actor = cls.options(interpreter=interpreter).remote()
    before, began = settled(interpreter), monotonic()
    work(actor)
    after = settled(interpreter)
    assert SPUN <= after - before <= monotonic() - began


@pytest.mark.parametrize("cls", [Plain, OnLoop])
def test_what_still_runs_is_counted_up_to_now(cls, interpreter, gate):
    actor = cls.options(interpreter=interpreter).remote()
    future = actor.stop.submit(gate)
    gate.arrivals()
    assert grows(interpreter, 0.1)
    gate.open()
    future.result(PATIENCE)
    settled(interpreter)


@pytest.mark.parametrize("name", ["wait", "sleep"])
def test_an_interpreter_whose_coroutines_all_wait_is_not_busy(name, interpreter, gate):
    actor = OnLoop.options(interpreter=interpreter).remote()
    futures = [getattr(actor, name).submit(gate) for _ in range(3)]
    gate.arrivals(3)
    settled(interpreter)
    for future in futures:
        assert future.cancel(interrupt=True)
    multipy.wait(futures, 3)


def test_a_call_and_a_coroutine_at_once_are_busy_for_the_same_time(interpreter, gate):
    plain, on_loop = (cls.options(interpreter=interpreter).remote() for cls in (Plain, OnLoop))
    futures = [on_loop.stop.submit(gate), plain.stop.submit(gate)]
    gate.arrivals(2)
    began, before = monotonic(), busy(interpreter)
    assert grows(interpreter, 0.2)
    after = busy(interpreter)
    assert after - before <= monotonic() - began
    gate.open()
    multipy.get(futures, timeout=PATIENCE)


def test_it_never_goes_back(interpreter):
    actors = [cls.options(interpreter=interpreter).remote() for cls in (Plain, OnLoop)]
    futures = [actor.work.submit(0.001) for _ in range(50) for actor in actors]
    read = []
    while not all(future.done() for future in futures):
        read.append(busy(interpreter))
    assert read == sorted(read)


def test_code_in_an_interpreter_sees_what_it_runs_counted_already(pool):
    def measure():
        here = multipy.current_interpreter()
        before = here.statistics()["busy_seconds"]
        spin(SPUN)
        return here.statistics()["busy_seconds"] - before

    assert pool.submit(measure).result(PATIENCE) >= SPUN
    with multipy.Pool(1, inline=True) as inline:
        assert inline.submit(measure).result() >= SPUN


def use_another_loop():
    class Loop(asyncio.selector_events.BaseSelectorEventLoop):
        """Stands for one that is not asyncio's own."""

    class Policy(asyncio.DefaultEventLoopPolicy):
        def new_event_loop(self):
            return Loop()

    asyncio.set_event_loop_policy(Policy())


def test_another_kind_of_event_loop_is_busy_while_it_has_calls(gate):
    with multipy.Pool(1, initializer=use_another_loop) as pool:
        (interpreter,) = pool.interpreters
        actor = OnLoop.options(pool=pool).remote()
        future = actor.wait.submit(gate)
        gate.arrivals()
        assert grows(interpreter, 0.1)
        actor.open()
        future.result(PATIENCE)
        settled(interpreter)
