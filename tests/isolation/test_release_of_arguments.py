"""What a call was given is let go of before its outcome is told, however it was made and however it ends."""

import array
import asyncio
import gc
import mmap
import threading

import numpy
import pytest
import torch
from gates import Gate

import multipy_actors as multipy

SIZE = 100_000
ROUNDS = 20


@pytest.fixture(scope="module")
def pool():
    with multipy.Pool(2) as made:
        yield made


def length(block):
    return len(block)


def fail(block):
    raise ValueError(f"{len(block)} bytes")


def fail_while_failing(block):
    try:
        fail(block)
    except ValueError as error:
        raise KeyError("again") from error


def fail_in_a_circle(block):
    error = ValueError(len(block))
    raise error  # the frame has the error, and the error the frame


def ask_another(handle, block):
    for _ in range(10):
        handle.measure(block)
    mine = bytearray(SIZE)
    handle.measure(mine)
    mine.append(1)
    return len(block)


@multipy.remote
class Plain:
    def measure(self, block):
        return len(block)

    def fail(self, block):
        raise ValueError(f"{len(block)} bytes")

    def fail_and_keep_it(self, block):
        try:
            raise ValueError("kept")
        except ValueError as error:
            self.kept = error
            raise

    def count(self, block):
        yield from range(3)


@multipy.remote
class OnLoop:
    async def measure(self, block):
        await asyncio.sleep(0)
        return len(block)

    def measure_at_once(self, block):
        return len(block)

    async def fail(self, block):
        raise ValueError(f"{len(block)} bytes")

    async def count(self, block):
        for number in range(3):
            yield number


@multipy.remote
class Batched:
    @multipy.batch(max_batch_size=4)
    def measure(self, blocks):
        return [len(block) for block in blocks]

    @multipy.batch
    def fail(self, blocks):
        raise ValueError(f"{len(blocks)} blocks")

    @multipy.batch
    def fail_for_each(self, blocks):
        return [ValueError(len(block)) for block in blocks]


class Broken:
    def __init__(self, block):
        raise ValueError(f"{len(block)} bytes")

    def measure(self):
        return 0


class BrokenOnLoop(Broken):
    async def wait(self):
        pass


def raised(future):
    return type(future.exception()).__name__


def callback(future):
    told = threading.Event()
    future.add_done_callback(lambda _: told.set())
    assert told.wait(60)
    return future.result()


def awaited(future):
    async def wait():
        return await future

    return asyncio.run(wait())


WAYS = {
    "a call": lambda pool, block: pool.submit(length, block).result(),
    "a call by name": lambda pool, block: pool.submit(length, block=block).result(),
    "a call of a builtin": lambda pool, block: pool.submit(len, block).result(),
    "a failing call": lambda pool, block: raised(pool.submit(fail, block)),
    "a call that fails while failing": lambda pool, block: raised(pool.submit(fail_while_failing, block)),
    "a call whose error holds itself": lambda pool, block: raised(pool.submit(fail_in_a_circle, block)),
    "an interpreter's call": lambda pool, block: pool.interpreters[1].submit(length, block).result(),
    "map": lambda pool, block: list(pool.map(length, [block] * 3)),
    "map of chunks": lambda pool, block: list(pool.map(length, [block] * 4, chunksize=2)),
    "broadcast": lambda pool, block: multipy.get(pool.broadcast(length, block)),
    "a callback": lambda pool, block: callback(pool.submit(length, block)),
    "await": lambda pool, block: awaited(pool.submit(length, block)),
    "wait": lambda pool, block: multipy.wait([pool.submit(length, block)])[0][0].result(),
}

ACTORS = {
    "a method": (Plain, lambda actor, block: actor.measure(block)),
    "a failing method": (Plain, lambda actor, block: raised(actor.fail.submit(block))),
    "a method whose error is kept": (
        Plain,
        lambda actor, block: raised(actor.fail_and_keep_it.submit(block)),
    ),
    "a stream": (Plain, lambda actor, block: list(actor.count.stream(block))),
    "a coroutine": (OnLoop, lambda actor, block: actor.measure(block)),
    "a method on the loop": (OnLoop, lambda actor, block: actor.measure_at_once(block)),
    "a failing coroutine": (OnLoop, lambda actor, block: raised(actor.fail.submit(block))),
    "an asynchronous stream": (OnLoop, lambda actor, block: list(actor.count.stream(block))),
    "a batch": (Batched, lambda actor, block: actor.measure(block)),
    "a failing batch": (Batched, lambda actor, block: raised(actor.fail.submit(block))),
    "errors of a batch": (Batched, lambda actor, block: raised(actor.fail_for_each.submit(block))),
    "broadcast to replicas": (Plain, lambda actor, block: actor.broadcast.measure(block)),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_bytearray_can_be_resized_after(way, pool):
    for _ in range(ROUNDS):
        block = bytearray(SIZE)
        WAYS[way](pool, block)
        block.append(1)


@pytest.mark.parametrize("way", ACTORS)
def test_a_bytearray_given_to_an_actor_can_be_resized_after(way, pool):
    cls, call = ACTORS[way]
    actor = cls.options(pool=pool, replicas=2 if way == "broadcast to replicas" else 1).remote()
    for _ in range(ROUNDS):
        view = memoryview(bytearray(SIZE))
        block = view.obj
        call(actor, block)
        call(actor, view)
        view.release()
        block.append(1)


@pytest.mark.parametrize("cls", [Broken, BrokenOnLoop])
def test_what_an_actor_was_given_that_could_not_be_made_can_be_resized(cls, pool):
    for _ in range(ROUNDS):
        block = memoryview(bytearray(SIZE))
        actor = multipy.remote(cls).options(pool=pool).remote(block)
        for _ in range(2):
            with pytest.raises(ValueError, match="100000 bytes") as caught:
                actor.measure()
            assert "in __init__" in str(caught.value.__cause__)
        block.release()


def test_what_interpreters_give_each_other_can_be_resized_after(pool):
    actor = Plain.options(pool=pool, interpreter=1).remote()
    block = bytearray(SIZE)
    assert pool.interpreters[0].submit(ask_another, actor, block).result() == SIZE
    block.append(1)


def test_what_a_session_was_given_can_be_resized_after(pool):
    with pool.acquire() as session:
        measure = session.global_("builtins", "len")
        for _ in range(ROUNDS):
            block = bytearray(SIZE)
            assert measure(block).value() == SIZE
            block.append(1)


def test_what_a_cancelled_call_was_given_can_be_resized_after(pool):
    first, gate = pool.interpreters[0], Gate()
    running = first.submit(gate.stop)
    gate.arrivals()
    block = bytearray(SIZE)
    waiting = first.submit(length, block)
    assert waiting.cancel()
    block.append(1)
    gate.open()
    running.result()


@pytest.mark.parametrize("call", [length, fail])
def test_other_buffers_can_be_closed_and_resized_after(call, pool):
    for _ in range(ROUNDS):
        with mmap.mmap(-1, 1 << 16) as mapped:
            pool.submit(call, memoryview(mapped)).exception()
        numbers = array.array("d", [0.0] * 10_000)
        pool.submit(call, memoryview(numbers)).exception()
        numbers.append(1.0)
        matrix = numpy.zeros(100)
        pool.submit(call, matrix).exception()
        matrix.resize(200)
        tensor = torch.zeros(100)
        pool.submit(call, tensor).exception()
        tensor.resize_(200)


def test_what_the_callee_keeps_stays(pool):
    @multipy.remote
    class Keeper:
        def keep(self, block):
            self.block = block

        def drop(self):
            self.block = None
            gc.collect()

    keeper = Keeper.options(pool=pool).remote()
    block = bytearray(SIZE)
    keeper.keep(memoryview(block))
    with pytest.raises(BufferError):
        block.append(1)
    keeper.drop()
    block.append(1)


def test_what_an_initializer_was_given_is_free_once_the_pool_is_up():
    block = bytearray(SIZE)
    with multipy.Pool(2, initializer=length, initargs=(block,)):
        block.extend(b"more")
        assert len(block) == SIZE + 4
