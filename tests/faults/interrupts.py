"""Interrupts at random moments: `python tests/faults/interrupts.py`, with ROUNDS and SEED in the environment.

Two interpreters run calls of every kind, on worker threads and event loops. In each round some calls are
interrupted, at moments that are drawn. It must never be another call that ends so; an endless call must end
at the first interrupt, whether that falls into the user's code or into the library; and what the interpreters
can do, they must be able to do afterwards. Exits with 1 and says what was wrong, and with which seed.
"""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import os
import random
import sys
import threading
import time
import traceback

import multipy_actors as multipy

PATIENCE = float(os.environ.get("PATIENCE", "60"))


class Other:
    """Is called by what is interrupted."""

    def echo(self, value):
        return value

    def count(self, end):
        yield from range(end)


class AsyncOther:
    async def echo(self, value):
        return value

    async def count(self, end):
        for number in range(end):
            yield number


class Worker:
    """Endless methods, each mostly inside another part of the library; and `check`, which is not endless."""

    def __init__(self, other, async_other):
        self.other, self.async_other = other, async_other

    def spin(self):
        while True:
            pass

    def calls(self):
        while True:
            self.other.echo(1)

    def futures(self):
        while True:
            futures = [self.other.echo.submit(i) for i in range(5)]
            multipy.wait(futures, num_returns=3)
            multipy.get(futures)

    def callbacks(self):
        while True:
            called = threading.Event()
            future = self.other.echo.submit(1)
            future.add_done_callback(lambda _, called=called: called.set())
            while not called.wait(0.01):
                pass

    def waits(self):
        while True:
            futures = [self.other.echo.submit(i) for i in range(4)]
            list(concurrent.futures.as_completed(futures))
            concurrent.futures.wait(futures)

    def streams(self):
        while True:
            with self.other.count.stream(50) as stream:
                for number in stream:
                    if number == 7:
                        break
            list(self.async_other.count.stream(10))

    def coroutines(self):
        async def main():
            return await asyncio.gather(*(self.async_other.echo.submit(i) for i in range(5)))

        while True:
            assert asyncio.run(main()) == list(range(5))

    def actors(self):
        while True:
            actor = multipy.remote(Other).options(interpreter=0).remote()
            assert actor.echo(2) == 2
            actor.unload()

    def packs(self):
        rows = {"a": [(i, str(i), {i}) for i in range(300)]}
        while True:
            self.other.echo(rows)

    def check(self):
        """Do all that should work."""
        assert self.other.echo(1) == 1
        called = threading.Event()
        self.other.echo.submit(1).add_done_callback(lambda _: called.set())
        assert called.wait(PATIENCE), "a callback never came"
        futures = [self.other.echo.submit(i) for i in range(4)]
        assert len(concurrent.futures.wait(futures, PATIENCE).done) == 4, "a wait never ended"
        assert list(self.other.count.stream(5)) == [0, 1, 2, 3, 4]

        async def main():
            calls = asyncio.gather(*(self.async_other.echo.submit(i) for i in range(5)))
            return await asyncio.wait_for(calls, PATIENCE)

        assert asyncio.run(main()) == list(range(5))
        return threading.active_count(), len(os.listdir("/proc/self/fd"))


class AsyncWorker:
    """The same on an event loop, where calls go on beside others."""

    def __init__(self, other):
        self.other = other

    def spin(self):
        while True:
            pass

    async def awaits(self):
        while True:
            await self.other.echo.submit(1)

    async def mixed(self):
        while True:
            for _ in range(1000):
                pass
            await asyncio.sleep(0)

    async def check(self):
        assert await self.other.echo.submit(2) == 2


class Bystander:
    """Short calls, which nobody interrupts."""

    def work(self, number):
        return sum(range(number % 50)), number


class AsyncBystander:
    async def work(self, number):
        await asyncio.sleep(0)
        return sum(range(number % 50)), number


class Failure(Exception):
    pass


ENDLESS = ["spin", "calls", "futures", "callbacks", "waits", "streams", "coroutines", "actors", "packs"]
ASYNC_ENDLESS = ["spin", "awaits", "mixed"]


def interrupt_until_over(name, future, tally):
    """Interrupt an endless call; it should end at once."""
    for _ in range(20):
        future.cancel(interrupt=True)
        try:
            error = future.exception(timeout=PATIENCE / 20)
        except concurrent.futures.CancelledError:
            tally[f"{name}: cancelled before it began"] += 1
            return
        except concurrent.futures.TimeoutError:
            tally[f"{name}: another interrupt was needed"] += 1
            continue
        if not isinstance(error, multipy.Interrupted):
            raise Failure(f"{name} ended with {error!r}\n{getattr(error, '__cause__', None)}")
        tally[f"{name}: interrupted"] += 1
        return
    raise Failure(f"{name} could not be interrupted")


def disturb(bystanders, drawn, count):
    """Interrupt every third of many short calls: those may be interrupted, the others must not."""
    calls = []
    for number in range(count):
        future = bystanders[number % len(bystanders)].work.submit(number)
        meant = drawn.random() < 0.33
        if meant:
            future.cancel(interrupt=True)
        calls.append((number, meant, future))
    for number, meant, future in calls:
        try:
            value = future.result(timeout=PATIENCE)
        except (multipy.Interrupted, concurrent.futures.CancelledError):
            if not meant:
                raise Failure(f"call {number} was hit in another's place") from None
        else:
            if value != (sum(range(number % 50)), number):
                raise Failure(f"call {number} returned {value}")


def stacks():
    """Return what the threads of an interpreter do."""
    import sys
    import threading
    import traceback

    names = {thread.ident: thread.name for thread in threading.enumerate()}
    frames = sys._current_frames().items()
    return "\n".join(f"{names.get(i)}:\n{''.join(traceback.format_stack(frame))}" for i, frame in frames)


def show_stacks():
    """Print the stacks of both interpreters, as far as they answer."""
    for interpreter in multipy.default_pool().interpreters:
        try:
            print(interpreter, interpreter.submit(stacks).result(5))
        except concurrent.futures.TimeoutError:
            print(interpreter, "does not answer")


def main() -> int:
    rounds = int(os.environ.get("ROUNDS", "10000"))
    seed = int(os.environ.get("SEED", str(time.time_ns() % 1_000_000)))
    print(f"{rounds} rounds, SEED={seed}", flush=True)
    drawn = random.Random(seed)
    tally: collections.Counter[str] = collections.Counter()
    multipy.init(interpreters=2)
    remote = multipy.remote
    other = remote(Other).options(interpreter=0).remote()
    async_other = remote(AsyncOther).options(interpreter=0).remote()
    worker = remote(Worker).options(interpreter=1).remote(other, async_other)
    async_worker = remote(AsyncWorker).options(interpreter=1).remote(other)
    bystanders = [remote(kind).options(interpreter=1).remote() for kind in (Bystander, AsyncBystander)]
    worker.check()
    try:
        for number in range(rounds):
            if drawn.random() < 0.75:
                name, actor = drawn.choice(ENDLESS), worker
            else:
                name, actor = drawn.choice(ASYNC_ENDLESS), async_worker
            future = getattr(actor, name).submit()
            time.sleep(drawn.choice([0.0003, 0.001, 0.003, 0.01]) * 2 * drawn.random())
            interrupt_until_over(name if actor is worker else f"async {name}", future, tally)
            if number % 10 == 0:
                disturb(bystanders, drawn, 60)
            if number % 5 == 0:
                worker.check.submit().result(timeout=PATIENCE)
                async_worker.check.submit().result(timeout=PATIENCE)
    except Exception as error:
        print(f"round {number}, SEED={seed}: {type(error).__name__}: {error}\n{error.__cause__ or ''}")
        traceback.print_exc(file=sys.stdout)
        show_stacks()
        return 1
    for what, count in sorted(tally.items()):
        print(count, what)
    again = sum(count for what, count in tally.items() if "another" in what)
    multipy.shutdown()
    if again > rounds / 1000:
        print(f"SEED={seed}: {again} interrupts were lost")
        return 1
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)
