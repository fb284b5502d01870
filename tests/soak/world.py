"""What one host thread of the soak works with, and the list of what it may do.

Each operation draws from a generator of its own, whose seed is made of the soak's and the numbers of the
thread and of the operation. So a seed has the same operations in every run, and what an operation draws
depends on nothing that happened before it. Within an operation nothing may be drawn whose number of draws
before is a matter of time.
"""

from __future__ import annotations

import datetime
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from workers import Actor, Colour, Record

import multipy_actors as multipy

PATIENCE = 60.0  # seconds that one operation may take

Operation = Callable[["World", random.Random], None]
OPERATIONS: dict[str, tuple[float, Operation]] = {}


def operation(weight: float) -> Callable[[Operation], Operation]:
    """Enter a function into the list; `weight` says how often it is drawn."""

    def enter(function: Operation) -> Operation:
        OPERATIONS[function.__name__] = (weight, function)
        return function

    return enter


class World:
    """The pools, which all threads share, and the thread's own actors and expectations."""

    def __init__(self, seed: str, thread: int, pools: dict[str, multipy.Pool], ledger: Any) -> None:
        self.seed, self.thread = seed, thread
        self.pool, self.side = pools["main"], pools["side"]
        self.ledger = ledger
        self.number = 0
        self.counts: Counter[str] = Counter()
        self.doing: tuple[str, int, float] | None = None  # kind, number, since when
        self.interpreters_ended = 0  # of pools that the thread has made, in this process
        self.expected: dict[tuple[int, int, int], tuple[int, int]] = {}
        self._actors: dict[Any, Any] = {}
        self._keys = 0

    def step(self, kinds: list[str]) -> None:
        """Do the next operation, unless it is none of `kinds`."""
        self.number += 1
        drawn = random.Random(f"{self.seed}/{self.thread}/{self.number}")
        names = list(OPERATIONS)
        kind = drawn.choices(names, [OPERATIONS[name][0] for name in names])[0]
        if kind in kinds:
            self.do(kind, drawn)

    def do(self, kind: str, drawn: random.Random) -> None:
        """Do an operation; on failure, `doing` goes on saying which it was."""
        self._keys = 0
        self.doing = (kind, self.number, time.monotonic())
        OPERATIONS[kind][1](self, drawn)
        self.doing = None
        self.counts[kind] += 1

    # What operations use -----------------------------------------------------------------------------------

    def key(self, least: int = 1, most: int = 1) -> tuple[int, int, int]:
        """Return a new key, which is to be noted in the ledger so many times."""
        self._keys += 1
        key = (self.thread, self.number, self._keys)
        self.expected[key] = (least, most)
        return key

    def actor(self, kind: Any = Actor, interpreter: int = 0, **options: Any) -> Any:
        """Return the thread's actor of a kind in an interpreter; it lives until the end of the phase."""
        key = (kind, interpreter, *options.items())
        if key not in self._actors:
            made = kind.options(pool=self.pool, interpreter=interpreter, **options)
            self._actors[key] = made.remote(ledger=self.ledger)
        return self._actors[key]

    def value(self, drawn: random.Random, depth: int = 3) -> Any:
        """Draw plain data, nested to some depth."""
        atoms = [
            lambda: None,
            lambda: drawn.random() < 0.5,
            lambda: drawn.randint(-(2**70), 2**70),
            lambda: drawn.randint(-9, 9),
            lambda: drawn.choice([0.0, -0.0, 1.5, float("inf"), drawn.random()]),
            lambda: "".join(drawn.choices("aß€𝄞\0\n", k=drawn.randint(0, 40))),
            lambda: drawn.randbytes(drawn.randint(0, 300)),
            lambda: complex(drawn.random(), -1),
            lambda: datetime.datetime(2024, 2, drawn.randint(1, 29), tzinfo=datetime.timezone.utc),
            lambda: drawn.choice(list(Colour)),
            lambda: range(drawn.randint(0, 9)),
        ]
        if depth == 0 or drawn.random() < 0.3:
            return drawn.choice(atoms)()
        inner = [self.value(drawn, depth - 1) for _ in range(drawn.randint(0, 4))]
        number = drawn.randint(0, 5)
        if number == 0:
            return inner
        if number == 1:
            return tuple(inner)
        if number == 2:
            return {(i, str(i)): value for i, value in enumerate(inner)}
        if number == 3:
            return {drawn.randint(0, 99) for _ in inner}
        if number == 4:
            return Record("".join(drawn.choices("abc", k=5)), inner)
        return {"items": inner, "size": len(inner)}

    def array(self, drawn: random.Random, most: int = 5000) -> Any:
        """Draw a NumPy array of numbers, perhaps of a part of its memory."""
        import numpy

        size = drawn.randint(1, most)
        array = numpy.arange(size, dtype=drawn.choice(["i4", "i8", "f4", "f8"]))
        form = drawn.randint(0, 3)
        if form == 1:
            return array[:: drawn.randint(1, 3)]
        if form == 2:
            return array[: size - size % 2].reshape(2, -1).T
        return array

    def rest(self) -> None:
        """Let go of all that the thread has, at the end of a phase."""
        self._actors.clear()


def raised(kind: type[BaseException], function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function that is to raise an error of a kind; return the error."""
    try:
        value = function(*args, **kwargs)
    except kind as error:
        return error
    raise AssertionError(f"returned {value!r}, where {kind.__name__} was to be raised")


def is_equal(sent: Any, received: Any) -> bool:
    """Say whether a value of `World.value` has arrived as it was, types included."""
    if type(sent) is not type(received):
        return False
    if isinstance(sent, (list, tuple)):
        return len(sent) == len(received) and all(map(is_equal, sent, received))
    if isinstance(sent, dict):
        return is_equal(list(sent.items()), list(received.items()))
    if isinstance(sent, Record):
        return is_equal(vars(sent), vars(received))
    return repr(sent) == repr(received) if isinstance(sent, float) else bool(sent == received)


def check(sent: Any, received: Any) -> None:
    """Complain of a value that has not arrived as it was."""
    assert is_equal(sent, received), f"expected {sent!r}, got {received!r}"
