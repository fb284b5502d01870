"""Operations of the soak: calls of functions, their futures, their errors, and how they are given up."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import time
from random import Random

import workers
from world import PATIENCE, World, check, operation, raised

import multipy_actors as multipy

ERRORS = [
    ("ValueError", ("no", 3)),
    ("KeyError", ("missing",)),
    ("FileNotFoundError", (2, "No such file or directory", "nowhere")),
    ("ZeroDivisionError", ()),
    ("StopIteration", (5,)),
    ("UnicodeDecodeError", ("utf-8", b"\xff", 0, 1, "bad")),
    ("SystemExit", (3,)),
    ("Refused", ("by decision",)),
]


@operation(8)
def plain_call(world: World, drawn: Random) -> None:
    """Send a value by a function of some kind, and look at what comes back."""
    value, other = world.value(drawn), drawn.randint(0, 9)
    form, number = drawn.randint(0, 4), drawn.randrange(len(world.pool))
    if form == 0:
        check(value, world.pool.submit(workers.echo, value).result(PATIENCE))
    elif form == 1:
        check([value] * 2, world.pool.submit(workers.echo, value, times=2).result(PATIENCE))
    elif form == 2:
        closure = world.pool.submit(lambda left, *, right=other: (left, right, value), [other])
        check(([other], other, value), closure.result(PATIENCE))
    elif form == 3:
        pinned = world.pool.interpreters[number]
        check(value, pinned.submit(workers.echo, value).result(PATIENCE))
        check(number, pinned.submit(workers.where).result(PATIENCE))
    else:
        check(value, world.side.submit(workers.echo, value).result(PATIENCE))


@operation(8)
def several_calls(world: World, drawn: Random) -> None:
    """Have several calls noted, and wait for them in one of many ways."""
    count, way = drawn.randint(1, 20), drawn.randint(0, 6)
    keys = [world.key() for _ in range(count)]
    order = drawn.sample(range(count), count)
    futures = [world.pool.submit(workers.work, world.ledger, key, i) for i, key in enumerate(keys)]
    if way == 0:
        for i in order:
            check(workers.answer(i), futures[i].result(PATIENCE))
    elif way == 1:
        check([workers.answer(i) for i in range(count)], multipy.get(futures, timeout=PATIENCE))
    elif way == 2:
        done, rest = multipy.wait(futures, num_returns=(count + 1) // 2, timeout=PATIENCE)
        assert len(done) == (count + 1) // 2
        assert len(rest) == count - len(done)
        assert all(future.done() for future in done)
    elif way == 3:
        assert not concurrent.futures.wait(futures, PATIENCE).not_done
    elif way == 4:
        assert set(concurrent.futures.as_completed(futures, PATIENCE)) == set(futures)
    elif way == 5:
        called: list[object] = []
        all_called = threading.Semaphore(0)
        for future in futures:
            future.add_done_callback(lambda future: (called.append(future), all_called.release()))
        for _ in futures:
            assert all_called.acquire(timeout=PATIENCE), "a callback never came"
        assert len(called) == count
        assert set(called) == set(futures)
    else:
        asyncio.run(_awaited(futures))
    for i, future in enumerate(futures):
        check(workers.answer(i), future.result(PATIENCE))


async def _awaited(futures: list[multipy.Future]) -> None:
    values = await asyncio.wait_for(asyncio.gather(*futures), PATIENCE)
    check([workers.answer(i) for i in range(len(futures))], values)


@operation(3)
def map_numbers(world: World, drawn: Random) -> None:
    """Map a function over numbers; perhaps read only some of the values."""
    count, chunk = drawn.randint(0, 60), drawn.randint(1, 9)
    ahead, read = drawn.choice([None, 1, 5]), drawn.choice([0, count // 2, count])
    values = world.pool.map(
        workers.answer, iter(range(count)), timeout=PATIENCE, chunksize=chunk, buffersize=ahead
    )
    check([workers.answer(i) for i in range(read)], [next(values) for _ in range(read)])
    if read == count:
        check([], list(values))


@operation(3)
def futures_as_arguments(world: World, drawn: Random) -> None:
    """Chain calls by their futures; an error at the head arrives at the end."""
    length, fails = drawn.randint(1, 6), drawn.random() < 0.2
    head = world.pool.submit(
        workers.fail if fails else workers.add, *(("KeyError", ("head",)) if fails else (0, 0))
    )
    future = head
    for _ in range(length):
        future = world.pool.submit(workers.add, future, 1)
    if fails:
        assert raised(KeyError, future.result, PATIENCE).args == ("head",)
    else:
        check(length, future.result(PATIENCE))


@operation(4)
def errors(world: World, drawn: Random) -> None:
    """What is raised arrives in its type, with its arguments and the remote traceback."""
    kind, args = drawn.choice(ERRORS)
    form, interpreter = drawn.randint(0, 2), drawn.randrange(len(world.pool))
    if form == 0:
        future = world.pool.submit(workers.fail, kind, args)
    else:
        actor = world.actor([workers.Actor, workers.AsyncActor][form - 1], interpreter)
        future = actor.fail.submit(kind, args)
    error = future.exception(PATIENCE)
    assert error is not None
    if kind == "StopIteration" and form == 2:  # asyncio lets no coroutine raise that
        assert type(error) is RuntimeError, repr(error)
        return
    assert type(error).__name__ == kind, repr(error)
    assert getattr(error, "code", 7 if kind == "Refused" else None) in (7, None, 3)
    if not isinstance(error, OSError):
        assert error.args == args, repr(error)
    text = str(error.__cause__)
    assert isinstance(error.__cause__, multipy.RemoteTraceback)
    assert "in fail" in text, text
    assert "the cause" in text, text


@operation(1)
def what_cannot_travel(world: World, drawn: Random) -> None:
    """Locks are refused, with their place, as arguments and as results."""
    error = raised(multipy.SerializationError, world.pool.submit, workers.echo, [0, {"a": threading.Lock()}])
    assert "argument 0[1]['a']" in str(error), error
    error = raised(multipy.SerializationError, world.pool.submit(workers.unsendable).result, PATIENCE)
    assert "['deep'][0]" in str(error), error


@operation(2)
def broadcast(world: World, drawn: Random) -> None:
    """Call a function in each interpreter once."""
    check(list(range(len(world.pool))), multipy.get(world.pool.broadcast(workers.where), timeout=PATIENCE))


@operation(3)
def cancel_what_waits(world: World, drawn: Random) -> None:
    """Calls that were taken back never run; the others do."""
    interpreter, count = drawn.randrange(len(world.pool)), drawn.randint(1, 12)
    chosen = set(drawn.sample(range(count), drawn.randint(1, count)))
    actor = world.actor(drawn.choice([workers.Actor, workers.AsyncActor]), interpreter)
    pausing = world.actor(workers.Actor, interpreter).pause.submit(0.002)
    keys = [world.key(0, 1) for _ in range(count)]
    futures = [actor.note.submit(key, i) for i, key in enumerate(keys)]
    for i in chosen:
        futures[i].cancel()
    for i, (key, future) in enumerate(zip(keys, futures, strict=True)):
        if future.cancelled():
            assert i in chosen, "a call was cancelled in another's place"
            world.expected[key] = (0, 0)
        else:
            check(workers.answer(i), future.result(PATIENCE))
            world.expected[key] = (1, 1)
    check(0.002, pausing.result(PATIENCE))


@operation(3)
def interrupt(world: World, drawn: Random) -> None:
    """An endless call ends at the first interrupt, and no other does."""
    kind, name = drawn.choice(
        [(workers.Actor, "spin"), (workers.AsyncActor, "spin"), (workers.AsyncActor, "wait_for_ever")]
    )
    actor, seconds = world.actor(kind, drawn.randrange(len(world.pool))), drawn.choice([0.0, 0.001, 0.005])
    others = [actor.note.submit(world.key(), i) for i in range(drawn.randint(0, 3))]
    endless = getattr(actor, name).submit()
    after = [actor.note.submit(world.key(), i) for i in range(drawn.randint(0, 3))]
    time.sleep(seconds)
    endless.cancel(interrupt=True)
    try:
        error = endless.exception(PATIENCE / 2)
    except concurrent.futures.CancelledError:
        pass
    else:
        assert isinstance(error, multipy.Interrupted), repr(error)
    for calls in (others, after):
        check([workers.answer(i) for i in range(len(calls))], multipy.get(calls, timeout=PATIENCE))


@operation(3)
def interrupt_work(world: World, drawn: Random) -> None:
    """Calls that are interrupted have run once, or not to their end; their neighbours have run."""
    interpreter, count = drawn.randrange(len(world.pool)), drawn.randint(2, 12)
    actor = world.actor(drawn.choice([workers.Actor, workers.AsyncActor]), interpreter)
    chosen = [drawn.random() < 0.4 for _ in range(count)]
    keys = [world.key() for _ in range(count)]
    calls = []
    for i in range(count):
        calls.append(actor.note.submit(keys[i], i))
        if chosen[i]:
            calls[i].cancel(interrupt=True)
    for i, call in enumerate(calls):
        try:
            check(workers.answer(i), call.result(PATIENCE))
        except (multipy.Interrupted, concurrent.futures.CancelledError):
            assert chosen[i], f"call {i} was hit in another's place"
            world.expected[keys[i]] = (0, 1)


@operation(1.5)
def time_limits(world: World, drawn: Random) -> None:
    """A call that outlives its limit ends with TimeoutError, and its actor goes on."""
    kind = drawn.choice([workers.Actor, workers.AsyncActor])
    limited = world.actor(kind, drawn.randrange(len(world.pool)), timeout=drawn.choice([0.02, 0.05]))
    raised(TimeoutError, limited.spin.submit().result, PATIENCE / 2)
    deadline = time.monotonic() + PATIENCE / 2
    while True:
        try:
            check(5, limited.echo(5))
            return
        except TimeoutError:  # the limit is short, and others want the interpreter too
            assert time.monotonic() < deadline, "an actor cannot be used after a time limit"


@operation(2)
def short_waits(world: World, drawn: Random) -> None:
    """Who gives up a wait leaves the call alone; who cancels an await interrupts it."""
    interpreter, in_asyncio = drawn.randrange(len(world.pool)), drawn.random() < 0.5
    if not in_asyncio:
        future = world.actor(workers.Actor, interpreter).pause.submit(0.003)
        try:
            check(0.003, future.result(0.0005))
        except TimeoutError:
            check(0.003, future.result(PATIENCE))
        return
    actor = world.actor(drawn.choice([workers.Actor, workers.AsyncActor]), interpreter)

    async def give_up():
        future = actor.spin.submit()
        try:
            await asyncio.wait_for(future, 0.005)
        except asyncio.TimeoutError:
            return await asyncio.wait_for(actor.echo.submit(5), PATIENCE / 2)

    check(5, asyncio.run(give_up()))


@operation(1)
def waits_inside(world: World, drawn: Random) -> None:
    """Code in interpreters waits by callbacks and event loops of its own."""
    low, high = sorted(drawn.sample(range(len(world.pool)), 2))
    values = [world.value(drawn, 1) for _ in range(4)]
    echoer = world.actor(workers.AsyncActor, high)
    asked = world.pool.interpreters[low].submit(workers.asks_async, echoer, values)
    key = world.key()
    told = world.side.submit(workers.tells_callback, world.ledger, key)
    check(values, asked.result(PATIENCE))
    check(key, told.result(PATIENCE))
