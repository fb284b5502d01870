"""What runs in the interpreters of the soak: functions and classes of actors.

Interpreters import this module, so it imports little. What is called with a ledger notes its key there
once, at its beginning, so that a call that was lost or run twice is seen.
"""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import hashlib
import logging
import os
import threading
import time
from typing import Any

import multipy_actors as multipy

logger = logging.getLogger("soak")


class Colour(enum.Enum):
    RED = "red"
    BLUE = ("b", 1)


@dataclasses.dataclass
class Record:
    """A value of a class that both sides import."""

    name: str
    items: Any


class Refused(Exception):
    """An error with more to it than its arguments."""

    def __init__(self, reason: str, *, code: int) -> None:
        super().__init__(reason)
        self.code = code


# Functions -------------------------------------------------------------------------------------------------


def echo(value, *, times=1):
    return value if times == 1 else [value] * times


def where():
    return multipy.current_interpreter().id


def work(ledger, key, number):
    """Note the key; return what can be computed from the number."""
    ledger.note(key)
    return answer(number)


def answer(number):
    return number * number + 1, str(number)


def add(left, right):
    return left + right


def fail(kind, args):
    """Raise an error of a class that is named, caused by another."""
    try:
        {}["the cause"]
    except KeyError as cause:
        if kind == "Refused":
            raise Refused(*args, code=7) from cause
        raise getattr(__import__("builtins"), kind)(*args) from cause


def unsendable():
    return {"deep": [threading.Lock()]}


def log(number):
    logger.warning("number %d", number)
    return where()


def shell(text):
    """Run a program; return what it printed, and with which status it ended."""
    import subprocess

    finished = subprocess.run(["sh", "-c", f"echo {text}; exit 3"], capture_output=True, text=True)
    return finished.stdout.strip(), finished.returncode


def fork(number):
    """Fork, here in the interpreter; the child sends a number back by its status."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        os._exit(number if sum(range(100)) == 4950 else 255)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def end_this_interpreter():
    """Have the worker loop fail whatever it does, as no code of a user should."""
    from multipy_actors.worker import serve

    def fail(*args):
        raise SystemError("broken")

    serve._execute = serve.run = fail
    type(serve._native.current_worker()).lost = fail


def digest(data):
    return hashlib.sha256(data).hexdigest(), type(data).__name__, len(data)


def asks_async(echoer, values):
    """Ask an async actor from an event loop of the function's own."""

    async def main():
        return await asyncio.gather(*(echoer.echo.submit(value) for value in values))

    return asyncio.run(main())


def tells_callback(ledger, key):
    """Wait for a call by a callback, in the interpreter."""
    called = threading.Event()
    future = ledger.note.submit(key)
    future.add_done_callback(lambda _: called.set())
    return called.wait(60) and future.result()


# Actors ----------------------------------------------------------------------------------------------------


@multipy.remote
class Ledger:
    """Counts how often each key was noted."""

    def __init__(self):
        self.counts = {}

    def note(self, key):
        self.counts[key] = self.counts.get(key, 0) + 1
        return key

    def take(self):
        """Return the counts, and begin anew."""
        counts, self.counts = self.counts, {}
        return counts


@multipy.remote
class Actor:
    """An actor of plain methods."""

    def __init__(self, value=0, ledger=None):
        self.value, self.ledger = value, ledger
        self.open_streams = 0
        self.kept = None

    @property
    def total(self):
        return self.value

    def __call__(self, number):
        return -number

    def add(self, amount):
        self.value += amount
        return self.value

    def note(self, key, number):
        return work(self.ledger, key, number)

    def echo(self, value):
        return value

    def fail(self, kind, args):
        fail(kind, args)

    def spin(self):
        while True:
            pass

    def pause(self, seconds):
        time.sleep(seconds)
        return seconds

    def ask(self, other, name, *args):
        """Call another actor, and wait."""
        return getattr(other, name)(*args)

    def asks(self, others, keys):
        """Have the others note the keys, one after the other."""
        return [others[i % len(others)].note(key, i) for i, key in enumerate(keys)]

    def pass_on(self, others, value):
        """Call the first of the others, which calls the next; each adds one to an array in place."""
        value += 1
        return value if not others else others[0].pass_on(others[1:], value)

    def pass_back(self, others, value):
        """The same with what cannot be written to."""
        return value if not others else others[0].pass_back(others[1:], value)

    def keep(self, value):
        self.kept = value

    def give_up(self):
        value, self.kept = self.kept, None
        return value

    def ring(self, others):
        return 0 if not others else 1 + others[0].ring(others[1:])

    def named(self, name, number):
        """Find an actor by its name, and call it."""
        return multipy.get_actor(name).echo(number)

    def numbers(self, end, fails=False):
        self.open_streams += 1
        try:
            for number in range(end):
                yield number, [str(number)]
            if fails:
                fail("LookupError", (end,))
        finally:
            self.open_streams -= 1

    def streams(self):
        return self.open_streams

    def reads(self, other, end, most):
        """Read some of another actor's stream."""
        items = []
        with other.numbers.stream(end) as stream:
            for item in stream:
                items.append(item)
                if len(items) == most:
                    break
        return items


@multipy.remote
class AsyncActor:
    """An actor whose methods run on an event loop."""

    def __init__(self, value=0, ledger=None):
        self.value, self.ledger = value, ledger
        self.open_streams = 0

    async def add(self, amount):
        self.value += amount
        return self.value

    async def note(self, key, number):
        await self.ledger.note.submit(key)
        return answer(number)

    async def echo(self, value):
        await asyncio.sleep(0)
        return value

    async def fail(self, kind, args):
        await asyncio.sleep(0)
        fail(kind, args)

    async def spin(self):
        while True:
            pass

    async def wait_for_ever(self):
        await asyncio.Event().wait()

    async def gathers(self, others, values):
        calls = [others[i % len(others)].echo.submit(value) for i, value in enumerate(values)]
        return await asyncio.gather(*calls)

    async def numbers(self, end, fails=False):
        self.open_streams += 1
        try:
            for number in range(end):
                if number % 3 == 0:
                    await asyncio.sleep(0)
                yield number, [str(number)]
            if fails:
                fail("LookupError", (end,))
        finally:
            self.open_streams -= 1

    async def streams(self):
        return self.open_streams


@multipy.remote
class Batcher:
    """An actor of one method, which runs for several calls at once."""

    def halve(self, numbers):
        return [ValueError("odd", number) if number % 2 else number // 2 for number in numbers]


@multipy.remote
class Mixed:
    """An actor of which one method runs for several calls at once, and the other does not."""

    def __init__(self):
        self.calls = 0

    @multipy.batch(max_batch_size=5, batch_wait=0.001)
    def halve(self, numbers):
        self.calls += len(numbers)
        return [ValueError("odd", number) if number % 2 else number // 2 for number in numbers]

    def count(self):
        return self.calls


class Model:
    """An ordinary object with an array, to be replicated."""

    def __init__(self, weights):
        self.weights = weights

    def __call__(self, factor):
        return self.sum_of(factor)

    def sum_of(self, factor):
        return (self.weights * factor).sum().item()

    def address(self):
        return self.weights.__array_interface__["data"][0]
