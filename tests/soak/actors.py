"""Operations of the soak: actors, from when they are made to when they end; streams, batches, sessions."""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from random import Random

import workers
from workers import Actor, AsyncActor
from world import PATIENCE, World, check, operation, raised

import multipy_actors as multipy


@operation(8)
def count_up(world: World, drawn: Random) -> None:
    """The calls of one caller run in their order, and each once."""
    kind, interpreter = drawn.choice([Actor, AsyncActor]), drawn.randrange(len(world.pool))
    amounts = [drawn.randint(1, 9) for _ in range(drawn.randint(1, 30))]
    counter = world.actor(kind, interpreter)
    begin = counter.add(0)
    if drawn.random() < 0.5:
        totals = multipy.get([counter.add.submit(amount) for amount in amounts], timeout=PATIENCE)
    else:
        totals = list(counter.add.map(amounts, timeout=PATIENCE))
    check([begin + sum(amounts[: i + 1]) for i in range(len(amounts))], totals)


@operation(5)
def ask_each_other(world: World, drawn: Random) -> None:
    """Actors call others, in another interpreter or another pool."""
    low, high = sorted(drawn.sample(range(len(world.pool)), 2))
    asking, form, value = world.actor(Actor, low), drawn.randint(0, 5), world.value(drawn)
    if form == 0:
        check(value, asking.ask.submit(world.actor(Actor, high), "echo", value).result(PATIENCE))
    elif form == 1:
        error = asking.ask.submit(world.actor(AsyncActor, high), "fail", "LookupError", (1,)).exception(
            PATIENCE
        )
        assert isinstance(error, LookupError), repr(error)
        assert error.args == (1,)
    elif form == 2:
        numbers = sorted(drawn.sample(range(len(world.pool)), drawn.randint(2, len(world.pool))))
        ring = [world.actor(Actor, number) for number in numbers]
        check(len(ring) - 1, ring[0].ring.submit(ring[1:]).result(PATIENCE))
    elif form == 3:
        others = [world.actor(AsyncActor, number) for number in (low, high)]
        values = [world.value(drawn, 1) for _ in range(6)]
        gathered = world.actor(AsyncActor, drawn.randrange(len(world.pool))).gathers.submit(others, values)
        check(values, gathered.result(PATIENCE))
    elif form == 4:
        other = world.actor(drawn.choice([Actor, AsyncActor]), high)
        end, most = drawn.randint(0, 300), drawn.randint(1, 300)
        expected = [(i, [str(i)]) for i in range(min(end, most))]
        check(expected, asking.reads.submit(other, end, most).result(PATIENCE))
    else:
        back = asking.echo.submit([asking, world.ledger]).result(PATIENCE)
        assert back == [asking, world.ledger]


@operation(4)
def ask_neighbours(world: World, drawn: Random) -> None:
    """Actors of one interpreter call each other many times; others call them too, or end what goes on."""
    interpreter, count = drawn.randrange(len(world.pool)), drawn.randint(1, 60)
    end = drawn.choice(["none", "none", "interrupt", "kill"])
    here = Actor.options(pool=world.pool, interpreter=interpreter)
    asking, *others = (here.remote(ledger=world.ledger) for _ in range(drawn.randint(2, 4)))
    keys = [world.key() for _ in range(count)]
    going = asking.asks.submit(others, keys)
    beside = [(world.key(), drawn.choice(others)) for _ in range(drawn.randint(0, 10))]
    noted = [other.note.submit(key, 3) for key, other in beside]
    if end == "interrupt":
        time.sleep(drawn.choice([0.0, 0.001, 0.01]))
        going.cancel(interrupt=True)
    elif end == "kill":
        multipy.kill(others[-1])
    may_fail = {
        "none": (),
        "interrupt": (multipy.Interrupted, concurrent.futures.CancelledError),
        "kill": (multipy.Interrupted, multipy.ActorClosedError),
    }[end]
    try:
        check([workers.answer(i) for i in range(count)], going.result(PATIENCE))
    except may_fail:
        world.expected.update((key, (0, 1)) for key in keys)
    for (key, other), call in zip(beside, noted, strict=True):
        try:
            check(workers.answer(3), call.result(PATIENCE))
        except may_fail:
            assert end == "kill" and other is others[-1], "a call was hit in another's place"
            world.expected[key] = (0, 1)
    check(0, asking.ring.submit([]).result(PATIENCE))
    if end != "kill":
        check(len(others), asking.ring.submit(others).result(PATIENCE))
        error = others[0].ring.submit([*others[1:], asking, others[0]]).exception(PATIENCE)
        assert isinstance(error, multipy.DeadlockError), repr(error)


@operation(1)
def circles_of_waits(world: World, drawn: Random) -> None:
    """Who waits for itself is told."""
    numbers = drawn.sample(range(len(world.side)), 2)
    first, second = (Actor.options(pool=world.side, interpreter=number).remote() for number in numbers)
    error = first.ring.submit([second, first]).exception(PATIENCE)
    assert isinstance(error, multipy.DeadlockError), repr(error)
    check(0, first.ring.submit([]).result(PATIENCE))


@operation(4)
def made_and_ended(world: World, drawn: Random) -> None:
    """Actors are made with any options, called, and ended in any way while calls wait."""
    kind, count = drawn.choice([Actor, AsyncActor]), drawn.randint(0, 12)
    end = drawn.choice(["kill", "unload", "drop", "drop"])
    options = {"pool": world.side if drawn.random() < 0.3 else world.pool}
    if drawn.random() < 0.3:
        options["interpreter"] = drawn.randrange(len(options["pool"]))
    elif drawn.random() < 0.5:
        options["replicas"] = drawn.choice([2, "all"])
    if kind is AsyncActor and drawn.random() < 0.3:
        options["max_concurrency"] = drawn.randint(1, 3)
    actor = kind.options(**options).remote(drawn.randint(0, 9), world.ledger)
    keys = [world.key() for _ in range(count)]
    calls = [actor.note.submit(key, i) for i, key in enumerate(keys)]
    if end == "kill":
        multipy.kill(actor)
    elif end == "unload":
        actor.unload()
    if end != "drop":
        raised(multipy.ActorClosedError, actor.echo, 1)
    del actor
    for i, (key, call) in enumerate(zip(keys, calls, strict=True)):
        try:
            check(workers.answer(i), call.result(PATIENCE))
        except (multipy.ActorClosedError, multipy.Interrupted):
            assert end != "drop", "a call of an actor that was merely dropped has failed"
            world.expected[key] = (0, 1)


@operation(2)
def not_made(world: World, drawn: Random) -> None:
    """What the constructor raises, all calls raise; arguments that do not fit are told at once."""
    raised(TypeError, Actor.options(pool=world.pool).remote, 1, 2, 3)
    actor = multipy.remote(Fragile).options(pool=world.pool).remote(drawn.randint(0, 9))
    for _ in range(2):
        error = actor.echo.submit(1).exception(PATIENCE)
        assert isinstance(error, LookupError), repr(error)
        assert str(error) == "never made"


class Fragile:
    """Cannot be made. The soak's threads decorate one and the same class."""

    def __init__(self, number):
        raise LookupError("never made")

    def echo(self, value):
        return value


@operation(2)
def names(world: World, drawn: Random) -> None:
    """An actor is found by its name, here and in interpreters, as long as somebody holds it."""
    name, number = f"{world.thread}-{world.number}", drawn.randint(0, 99)
    low, high = sorted(drawn.sample(range(len(world.pool)), 2))
    raised(ValueError, multipy.get_actor, name)
    actor = Actor.options(pool=world.pool, name=name, interpreter=high).remote(number)
    again = multipy.get_actor(name)
    assert again == actor
    raised(ValueError, Actor.options(pool=world.pool, name=name).remote)
    check(number, again.total)
    found = world.actor(Actor, low).named.submit(name, number).result(PATIENCE)
    check(number, found)
    check(-number, again(number))
    multipy.kill(actor)
    raised(ValueError, multipy.get_actor, name)


@operation(2)
def replicas(world: World, drawn: Random) -> None:
    """Replicas are called one by one, all together, and by whoever is free."""
    count = drawn.randint(2, len(world.pool))
    amounts = [drawn.randint(0, 9) for _ in range(count)]
    keys = [world.key() for _ in range(drawn.randint(1, 20))]
    actor = drawn.choice([Actor, AsyncActor]).options(pool=world.pool, replicas=count).remote(0, world.ledger)
    assert actor.replicas == count
    for interpreter, amount in zip(actor.interpreters, amounts, strict=True):
        check(amount, actor.on(interpreter).add(amount))
    check(amounts, actor.broadcast.add(0))
    notes = actor.note.map(keys, range(len(keys)), timeout=PATIENCE)
    check([workers.answer(i) for i in range(len(keys))], list(notes))
    statistics = actor.statistics()
    assert statistics == {**statistics, "queued": 0, "failed": 0, "replicas": count}, statistics
    assert statistics["done"] >= 2 * count + len(keys), statistics


@operation(4)
def streams(world: World, drawn: Random) -> None:
    """Streams are read to the end, to their error, or in part; each generator is closed then."""
    kind, interpreter = drawn.choice([Actor, AsyncActor]), drawn.randrange(len(world.pool))
    end, fails = drawn.choice([0, 3, 50, 500]), drawn.random() < 0.3
    read, way = drawn.randint(0, end + 1), drawn.choice(["with", "close", "drop", "async"])
    actor = kind.options(pool=world.pool, interpreter=interpreter).remote()
    items = [(i, [str(i)]) for i in range(min(read, end))]
    if way == "async":
        check(items, asyncio.run(_read(actor, end, fails, read)))
    else:
        stream = actor.numbers.stream(end, fails)
        check(items, [next(stream) for _ in items])
        if read > end:
            error = raised(LookupError if fails else StopIteration, next, stream)
            assert error.args == ((end,) if fails else ())
        if way == "with":
            with stream:
                pass
        elif way == "close":
            stream.close()
        del stream
    deadline = time.monotonic() + PATIENCE * (way == "drop")  # which does not wait
    while (still_open := actor.streams.submit().result(PATIENCE)) and time.monotonic() < deadline:
        pass
    check(0, still_open)


async def _read(actor, end, fails, read):
    items = []
    async with actor.numbers.stream(end, fails) as stream:
        for _ in range(min(read, end)):
            items.append(await anext(stream))
        if read > end:
            try:
                await anext(stream)
            except (LookupError, StopAsyncIteration) as error:
                assert isinstance(error, LookupError) == fails, repr(error)
            else:
                raise AssertionError("a stream has no end")
    return items


@operation(3)
def batches(world: World, drawn: Random) -> None:
    """Calls that run together get each its own result, or its own error."""
    size, wait, count = drawn.randint(1, 8), drawn.choice([0, 0.001]), drawn.randint(1, 40)
    interrupted = drawn.randrange(count) if drawn.random() < 0.3 else None
    batcher = workers.Batcher.options(
        pool=world.pool, interpreter=drawn.randrange(len(world.pool)), max_batch_size=size, batch_wait=wait
    ).remote()
    calls = [batcher.halve.submit(number) for number in range(count)]
    if interrupted is not None:
        calls[interrupted].cancel(interrupt=True)
    for number, call in enumerate(calls):
        try:
            value = call.result(PATIENCE)
        except ValueError as error:
            assert error.args == ("odd", number), repr(error)
            assert number % 2
        except (multipy.Interrupted, concurrent.futures.CancelledError):
            assert number == interrupted, f"call {number} of a batch was hit in another's place"
        else:
            check(number // 2, value)


@operation(2)
def batches_of_a_method(world: World, drawn: Random) -> None:
    """Calls of a method that takes batches are among calls of one that does not."""
    count = drawn.randint(1, 40)
    mixed = workers.Mixed.options(pool=world.pool, interpreter=drawn.randrange(len(world.pool))).remote()
    calls = [mixed.halve.submit(number) for number in range(count)]
    check(count, mixed.count())
    for number, call in enumerate(calls):
        if number % 2:
            error = call.exception(PATIENCE)
            assert isinstance(error, ValueError), repr(error)
            check(("odd", number), error.args)
        else:
            check(number // 2, call.result(PATIENCE))


@operation(2)
def full_mailboxes(world: World, drawn: Random) -> None:
    """No more calls wait than may; those that were taken are done, each once."""
    limit, count, waits = drawn.randint(1, 4), drawn.randint(1, 20), drawn.random() < 0.5
    options = {"max_pending": limit, "on_full": "wait" if waits else "raise"}
    options["interpreter"] = drawn.randrange(len(world.pool))
    actor = drawn.choice([Actor, AsyncActor]).options(pool=world.pool, **options).remote(0, world.ledger)
    calls = []
    for i in range(count):
        key = world.key()
        try:
            calls.append((i, actor.note.submit(key, i)))
        except multipy.MailboxFullError:
            assert not waits, "who may wait was sent away"
            world.expected[key] = (0, 0)
    assert len(calls) >= min(limit, count)
    for i, call in calls:
        check(workers.answer(i), call.result(PATIENCE))


@operation(2)
def sessions(world: World, drawn: Random) -> None:
    """An interpreter is held, its objects are used by name, and one of them is moved."""
    words = ["".join(drawn.choices("ab", k=2)) for _ in range(drawn.randint(0, 30))]
    moves = drawn.random() < 0.3
    with world.pool.acquire(timeout=PATIENCE) as session:
        counter = session.global_("collections", "Counter")(words)
        check(len(set(words)), session.global_("builtins", "len")(counter).value())
        total = counter.attr("total")()
        check(len(words), total.value())
        assert session.is_owner(counter)
        assert counter.hasattr("most_common")
        assert not counter.hasattr("least_common")
        raised(ZeroDivisionError, session.global_("operator", "truediv"), total, 0)
        movable = session.create_movable(counter) if moves else None
    raised(multipy.SessionError, counter.attr, "total")
    if movable is not None:
        check(len(words), movable.total.submit().result(PATIENCE))
        movable.unload()
