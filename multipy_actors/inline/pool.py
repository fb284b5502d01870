"""Inline mode: a pool whose calls run in the host's own Python, for debuggers.

Problem: `breakpoint()`, pdb and the debuggers of editors see the host's Python alone. The same user code
should run where they see it: `multipy.init(inline=True)` or `Pool(inline=True)`, and nothing else changes.

Model: what is here has the methods of the core's classes of the same names that the public modules use, and
takes their place. A `Seat` stands for an interpreter: it has actors and runs one call at a time, on the
thread that submitted it, so a future is done when `submit` returns. A call that no seat is free for, as one
that a method makes on its own actor, waits, and runs on the thread that frees one; a wait for it that could
never end is a DeadlockError, as in interpreters.

As in interpreters: arguments and results are encoded and decoded, so each side has objects of its own,
tensors are shared, and what cannot travel fails here too. Coroutines run on an event loop of the seat, but
`submit` returns only when they are done. A stream is one item ahead of its reader. Batches have one call.

Otherwise than in interpreters: modules, classes and their globals are the host's. What a call raises is
raised again as it is, with its own traceback. KeyboardInterrupt, and the end of a debugger, go through to
whoever submitted. Nothing is interrupted: `timeout` is ignored, and a running call goes on when its actor is
killed. No mailbox is ever full. A session does not keep the calls of others out of its seat.

Threads and locks: any. `_changed` guards seats, queues and states, and is not held while a call runs.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any

from multipy_actors import _native, wire
from multipy_actors.errors import DeadlockError, MultipyError, PoolClosedError
from multipy_actors.inline.interpreter import Seat

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from multipy_actors.inline.interpreter import Encoded

__all__ = ["Actor", "Call", "Pool", "Session", "current_worker"]

_changed = threading.Condition(threading.RLock())  # dropping an actor may come from anywhere
_waiting: dict[int, Call] = {}  # by thread, the calls that threads wait for without a time limit
_here = threading.local()  # `workers`: whose calls this thread is running


class Worker:
    """The seat whose call this thread runs."""

    def __init__(self, pool: Pool, index: int, call: Call) -> None:
        """Stand for the seat `index` of `pool`, which runs `call`."""
        self.pool = pool
        self.index = index
        self.call = call


def current_worker() -> Worker | None:
    """Return the seat whose call this thread runs, if it does."""
    workers: list[Worker] | None = getattr(_here, "workers", None)
    return workers[-1] if workers else None


class Call:
    """One request and, once done, its outcome."""

    expired = False
    makes = 0  # the number of the actor that it makes a replica of
    interrupted = False
    runs_aside = False

    def __init__(
        self, pool: Pool, request: Encoded, seats: Callable[[], Sequence[int]], actor: Actor | None
    ) -> None:
        """Have `request` run by one of `seats`; it calls a method of `actor`, if there is one."""
        self.pool = pool
        self.interpreter = -1
        self.request = request
        self.seats = seats
        self.actor = actor
        self.thread: int | None = None  # that runs it
        # Whoever watches a call is told by the core: this call of it has the same state.
        self._twin = _native.Call()
        self._outcome: tuple[bytes, Sequence[Any]] = b"", ()

    @property
    def state(self) -> str:
        """How far it is."""
        return self._twin.state

    @property
    def key(self) -> int:
        """Identifies the call while it is alive."""
        return self._twin.key

    def done(self) -> bool:
        """Say whether it has ended."""
        return self._twin.done()

    def cancel(self) -> bool:
        """Take it back if it has not started."""
        with _changed:
            _changed.notify_all()
            return self._twin.cancel()

    def interrupt(self) -> None:
        """Do nothing: what runs here cannot be interrupted."""

    def expect_nobody(self) -> None:
        """Do nothing: it has ended."""

    def watch(self, queue: _native.CompletionQueue) -> None:
        """Push the call to `queue` when it is done."""
        self._twin.watch(queue)

    def start(self) -> bool:
        """pending to running; false if it was cancelled."""
        return self._twin.start()

    def succeed(self, data: bytes, attachments: Sequence[Any]) -> bool:
        """End it with the encoded value."""
        return self._end((data, attachments), self._twin.succeed)

    def fail(self, data: bytes, attachments: Sequence[Any]) -> bool:
        """End it with the encoded exception."""
        return self._end((data, attachments), self._twin.fail)

    def fail_with(self, error: BaseException) -> bool:
        """End it with an exception that need not be encoded."""
        return self.fail(b"", (error,))

    def _end(self, outcome: tuple[bytes, Sequence[Any]], end: Callable[[bytes, list[Any]], bool]) -> bool:
        with _changed:
            if self._twin.done():
                return False
            self._outcome = outcome
            _changed.notify_all()
            self.actor = None
            return end(b"", [])

    def result(self) -> tuple[bytes, Sequence[Any]]:
        """Return the encoded value; if it failed, the exception itself as the only attachment."""
        return self._outcome

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is done; false if `timeout` seconds have passed."""
        me = threading.get_ident()
        deadline = None if timeout is None else monotonic() + timeout
        with _changed:
            try:
                while not self.done():
                    left = None if deadline is None else deadline - monotonic()
                    if left is not None and left <= 0:
                        return False
                    if left is None:
                        if self._never_ends({me}):
                            raise DeadlockError(
                                f"{self} would be waited for for ever: what could run it waits"
                            )
                        _waiting[me] = self
                    _changed.wait(left)
            finally:
                _waiting.pop(me, None)
        return True

    def _never_ends(self, stuck: set[int]) -> bool:
        """Say whether all who could go on with it are `stuck`, or wait for each other."""
        if self.done():
            return False
        if self.thread is not None:
            return _is_stuck(self.thread, stuck)
        threads = [self.pool.seats[index].thread for index in self.seats()]
        return all(thread is not None and _is_stuck(thread, stuck) for thread in threads)

    def __str__(self) -> str:
        """Name whose call it is."""
        return f"a call of {self.actor.label}" if self.actor is not None else "a call"


def _is_stuck(thread: int, stuck: set[int]) -> bool:
    if thread in stuck:
        return True
    if thread not in _waiting:
        return False
    stuck.add(thread)
    return _waiting[thread]._never_ends(stuck)


class Pool:
    """Seats, and the calls that wait for them."""

    def __init__(self, name: str, count: int, restarts: bool) -> None:
        """Make `count` seats."""
        self.name = name
        self.closed = False
        self.key = id(self)
        self.any_mailbox = 0
        self.restarts = restarts
        self.seats = [Seat(index) for index in range(count)]
        self._actor_counts = [0] * count
        self._pending: deque[Call] = deque()

    def __len__(self) -> int:
        """Return the number of seats."""
        return len(self.seats)

    def keep_setup(self, data: bytes, attachments: Sequence[Any]) -> None:
        """Seats do not end."""

    def own_mailbox(self, interpreter: int) -> int:
        """Return the mailbox of one seat."""
        return interpreter + 1

    def place(self, replicas: int) -> list[int]:
        """Choose the seats with the fewest actors; they count as having one more."""
        with _changed:
            order = sorted(range(len(self)), key=lambda index: self._actor_counts[index])
            chosen = sorted(order[:replicas])
            for index in chosen:
                self._actor_counts[index] += 1
        return chosen

    def count_actors(self, interpreter: int, change: int) -> None:
        """Count more or fewer actors on a seat."""
        with _changed:
            self._actor_counts[interpreter] += change

    def start(self) -> None:
        """Do nothing: there is nothing to start."""

    def wait_started(self, timeout: float | None = None) -> bool:
        """Do nothing: there is nothing to wait for."""
        return True

    def post(self, mailbox: int, data: bytes, attachments: Sequence[Any]) -> Call:
        """Run a request, at once if a seat is free."""
        indices = range(len(self)) if mailbox == self.any_mailbox else [mailbox - 1]
        return self.run(Call(self, (data, attachments), lambda: indices, None))

    def request_session(self, interpreter: int | None) -> Session:
        """Return a session of that seat, or of a free one."""
        if self.closed:
            raise PoolClosedError(f"the pool {self.name!r} is closed")
        if interpreter is None:
            seat = min(self.seats, key=lambda seat: (seat.thread is not None, seat.done))
            interpreter = seat.index
        return Session(self, interpreter)

    def run(self, call: Call) -> Call:
        """Run `call` on the seat that has run least, or else when one is free."""
        with _changed:
            if self.closed:
                raise PoolClosedError(f"the pool {self.name!r} is closed")
            self._pending.append(call)
            free = [self.seats[index] for index in call.seats() if self.seats[index].thread is None]
        if free:
            self._serve(min(free, key=lambda seat: seat.done))
        return call

    def _serve(self, seat: Seat) -> None:
        """Run what waits for `seat`, if nobody else does so."""
        passed_on: BaseException | None = None
        workers: list[Worker] = _here.__dict__.setdefault("workers", [])
        while (call := self._next(seat)) is not None:
            workers.append(Worker(self, seat.index, call))
            try:
                seat.run(call)
            except BaseException as error:  # it is for this thread, but others may wait for what is queued
                passed_on = error
            finally:
                workers.pop()
                with _changed:
                    seat.thread = call.thread = None
                    _changed.notify_all()
        if passed_on is not None:
            raise passed_on

    def _next(self, seat: Seat) -> Call | None:
        with _changed:
            if seat.thread is not None:
                return None
            for call in list(self._pending):
                if call.state != "pending":
                    self._pending.remove(call)
                elif seat.index in call.seats():
                    self._pending.remove(call)
                    call.start()
                    call.interpreter = seat.index
                    call.thread = seat.thread = threading.get_ident()
                    return call
        return None

    def pending_of(self, actor: Actor) -> list[Call]:
        """Return the calls of `actor` that wait."""
        with _changed:
            return [call for call in self._pending if call.actor is actor and call.state == "pending"]

    def cancel_pending(self) -> int:
        """Cancel what waits."""
        with _changed:
            return sum([call.cancel() for call in self._pending])

    def interrupt_running(self) -> None:
        """Do nothing: what runs here cannot be interrupted."""

    def close(self) -> None:
        """Take no more calls."""
        self.closed = True

    def join(self, timeout: float | None = None) -> bool:
        """Wait for calls of other threads, and let go of the actors."""
        me = threading.get_ident()
        with _changed:
            idle = _changed.wait_for(lambda: all(seat.thread in (None, me) for seat in self.seats), timeout)
        if idle:
            for seat in self.seats:
                seat.close()
        return idle

    def closing(self) -> Closing:
        """Return what waits for the end, after `close`."""
        return Closing(self)

    def statistics(self, interpreter: int) -> dict[str, float]:
        """Count the calls of one seat."""
        seat = self.seats[interpreter]
        with _changed:
            queued = sum(call.state == "pending" and interpreter in call.seats() for call in self._pending)
        return {
            "done": seat.done,
            "failed": seat.failed,
            "queued": queued,
            "busy_seconds": seat.busy_seconds,
            "restarts": 0,
            "gpu_bytes": 0,
        }

    def images(self, interpreter: int) -> list[tuple[str, str, int, int]]:
        """Return nothing: libraries are the host's."""
        return []


class Closing:
    """The seats of a closed pool."""

    def __init__(self, pool: Pool) -> None:
        """Be about `pool`."""
        self._pool = pool

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for calls of other threads, and let go of the actors; false if that takes too long."""
        return self._pool.join(timeout)

    def left(self) -> list[tuple[int, bool, str, float, str]]:
        """Return the seats that run calls of other threads."""
        me = threading.get_ident()
        with _changed:
            return [
                (seat.index, False, "", 0.0, "") for seat in self._pool.seats if seat.thread not in (None, me)
            ]

    def leave(self, error: bytes) -> None:
        """Do nothing: the threads are the user's."""


class Session:
    """The use of one seat."""

    _ids = itertools.count(-1, -1)  # those from 1 are the core's

    def __init__(self, pool: Pool, interpreter: int) -> None:
        """Begin at once."""
        self.id = next(self._ids)
        self.interpreter = interpreter
        self.granted = Call(pool, (b"", ()), lambda: [interpreter], None)
        self.granted.start()
        self.granted.succeed(*wire.encode(interpreter))
        self._pool = pool
        self._ended = False

    @property
    def ended(self) -> bool:
        """Say whether it has ended."""
        return self._ended or self._pool.closed

    def post(self, data: bytes, attachments: Sequence[Any]) -> Call:
        """Run a request."""
        return self._pool.post(self._pool.own_mailbox(self.interpreter), data, attachments)

    def end(self) -> None:
        """End it."""
        self._ended = True


class Actor:
    """An object that seats have; gone when nobody refers to it."""

    def __init__(
        self,
        *,
        pool: Pool,
        number: int,
        interpreters: list[int],
        label: str,
        name: str,
        description: bytes,
        farewell: bytes,
        limit: int,
        restarts: int = 0,
        at_once: int = 1,
    ) -> None:
        """Have replicas on the seats `interpreters`, each of which runs one call at a time in any case."""
        self.pool = pool
        self.number = number
        self.label = label
        self.name = name
        self.description = description
        self.done = 0
        self.failed = 0
        self._replicas: list[int] = []
        with _changed:
            if pool.closed:
                raise PoolClosedError(f"the pool {pool.name!r} is closed")
            if name and (name in _names or _native.Actor.find(name) is not None):
                for index in interpreters:
                    pool.count_actors(index, -1)
                raise MultipyError(f"there is an actor named {name!r} already")
            if name:
                _names[name] = self
            self._replicas = list(interpreters)

    @staticmethod
    def find(name: str) -> Actor | None:
        """Return the actor of that name."""
        return _names.get(name)

    @property
    def interpreters(self) -> list[int]:
        """The seats that have a replica."""
        return list(self._replicas)

    @property
    def closed(self) -> bool:
        """Whether it was killed or unloaded everywhere, or its pool is closed."""
        return not self._replicas or self.pool.closed

    lost = False  # seats do not end

    @property
    def queued(self) -> int:
        """How many calls wait."""
        return len(self.pool.pending_of(self))

    def make_replica(self, interpreter: int, data: bytes, attachments: Sequence[Any]) -> Call:
        """Run the request that makes the replica on one seat."""
        call = Call(self.pool, (data, attachments), lambda: [interpreter], None)
        call.makes = self.number
        return self.pool.run(call)

    def is_called(self, context: int) -> bool:
        """Say whether this thread runs a call of it."""
        worker = current_worker()
        return worker is not None and (worker.call.actor is self or worker.call.makes == self.number)

    def weak(self) -> weakref.ref[Actor]:
        """Return what refers to it and does not keep it."""
        return weakref.ref(self)

    def announce(self) -> None:
        """Do nothing: whoever looks for it by its name finds it."""

    def post(
        self,
        data: bytes,
        attachments: Sequence[Any],
        on: int | None = None,
        wait: bool = True,
        timeout: float | None = None,
        batch: str | None = None,
        limited: bool = True,
        retries: int = 0,
    ) -> Call:
        """Run a request on the replica that has run least, or that of seat `on`."""
        if not self._replicas or (on is not None and on not in self._replicas):
            raise PoolClosedError("the actor has no such replica any more")
        seats: Callable[[], list[int]] = (lambda: self._replicas) if on is None else (lambda: [on])
        return self.pool.run(Call(self.pool, (data, attachments), seats, self))

    def kill(self, error: bytes) -> None:
        """End it: calls that wait fail with `error`."""
        for index in self.interpreters:
            self.unload(index, error)

    def unload(self, interpreter: int, error: bytes) -> bool:
        """Drop one replica; with the last one, calls that wait fail with `error`."""
        with _changed:
            if interpreter not in self._replicas:
                return False
            self._replicas.remove(interpreter)
            self.pool.count_actors(interpreter, -1)
            orphans = [call for call in self.pool.pending_of(self) if not call.seats()]
            if not self._replicas and self.name:
                _names.pop(self.name, None)
        self.pool.seats[interpreter].drop(self.number)
        for call in orphans:
            call.start()
            call.fail(error, ())
        return True

    def __del__(self) -> None:
        """Drop the replicas."""
        for index in self.__dict__.get("_replicas", ()):
            self.pool.count_actors(index, -1)
            self.pool.seats[index].drop(self.number)


_names: weakref.WeakValueDictionary[str, Actor] = weakref.WeakValueDictionary()
