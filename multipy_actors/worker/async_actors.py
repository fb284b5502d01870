"""Actors with `async def` methods, inside an interpreter.

Model: all methods of such an actor run on the interpreter's event loop (see event_loop), those without
`async` and `__init__` included, so one thread touches its state. Each call is a job. At most
`max_concurrency` are under way, the others wait in their order, so calls begin in the order they were
submitted; the first job makes the object, and runs alone. A dropped actor goes when its jobs have ended.

Threads: the methods that return a `_Start`, and `drop`, belong to the worker thread, the others to that of
the loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any

from multipy_actors import _native, errors, gpu
from multipy_actors.worker import calls, generators
from multipy_actors.worker.calls import as_told, futures_among, kept_traceback, took_too_long
from multipy_actors.worker.event_loop import Job, Request, Single, event_loop

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from multipy_actors.worker.batching import Batcher

    # What the worker does with a call that is handed over. None: it is not for the worker to count.
    _Start = Callable[[_native.Call, _native.Worker], "bool | None"]

__all__ = ["AsyncActor"]


class AsyncActor:
    """An object that lives on the loop."""

    def __init__(
        self,
        number: int,
        limit: int,
        batchers: dict[str, Batcher],
        gpu: gpu.OnGpu | None = None,
        seconds: float | None = None,
    ) -> None:
        """Run `limit` jobs at once, when there is an object; all with `gpu` as the current one.

        `seconds` is the time limit of its calls.
        """
        self.number = number
        self._seconds = seconds
        self.gpu = gpu
        self._limit = limit
        self.batchers = batchers  # by methods
        self._object: Any = None
        self._error: BaseException | None = errors.ActorClosedError("the actor was never made")
        self._traceback: TracebackType | None = None
        self._room = 1  # how many more jobs may run; at first only the one that makes the object
        self._running = 0
        self._is_made = False
        self._is_dropped = False
        self._waiting: deque[Job] = deque()
        self._streams: dict[int, generators.Stream | generators.AsyncStream] = {}

    # What the worker thread asks for -----------------------------------------------------------------------

    def create(self, args: list[Any], kwargs: dict[str, Any], cls: Callable[..., Any]) -> _Start:
        """Make the object; what was submitted later waits for that."""

        async def run(call: _native.Call) -> None:
            if self._seconds is not None:
                call.expire_in(self._seconds)
            try:
                self._object = _call_once(cls, args, kwargs)
                self._error = None
            except BaseException as error:
                self._error = as_told(error)
                if self._error is not error and call.expired:
                    self._error = took_too_long(self._seconds)
                self._traceback = kept_traceback(self._error)
                raise

        return lambda call, worker: self._hand_over(partial(run, call), call, worker)

    def method(self, args: list[Any], kwargs: dict[str, Any], name: str) -> _Start:
        """Call a method."""
        if name in self.batchers and (args or kwargs):
            return partial(self._hand_over_batch, args, kwargs, name)
        return partial(self._hand_over, partial(self._call, args, kwargs, name))

    def apply(self, function: Callable[[Any], Any]) -> _Start:
        """Call `function` with the object."""

        async def run() -> Any:
            return function(self._made())

        return partial(self._hand_over, run)

    def stream(self, args: list[Any], kwargs: dict[str, Any], name: str, number: int) -> _Start:
        """Call a generator method, and send its first item."""

        share = calls.at_hand.share

        async def run(call: _native.Call) -> bool:
            self._streams[number] = generators.open_stream(await self._call(args, kwargs, name), share)
            return await self._fill(number, generators.Chunk(call, 1, self._seconds))

        return partial(self._hand_over_request, run)

    def next(self, number: int) -> _Start:
        """Send more items of a stream."""

        async def run(call: _native.Call) -> bool:
            return await self._fill(number, generators.Chunk(call, None, self._seconds))

        return partial(self._hand_over_request, run)

    def close_stream(self, number: int) -> _Start:
        """Close a generator."""

        async def run() -> None:
            if number in self._streams:
                await _close(self._streams.pop(number))

        return partial(self._hand_over, run)

    def drop(self) -> None:
        """Let the object go when nothing runs any more; its streams are closed at once."""
        event_loop().call_soon(self._drop)

    def _hand_over(
        self, run: Callable[[], Coroutine[Any, Any, Any]], call: _native.Call, worker: _native.Worker
    ) -> None:
        event_loop().start(Job(self, Single(call), run), worker)

    def _hand_over_request(
        self,
        run: Callable[[_native.Call], Coroutine[Any, Any, bool]],
        call: _native.Call,
        worker: _native.Worker,
    ) -> None:
        event_loop().start(Job(self, Request(call), partial(run, call), is_stream=True), worker)

    def _hand_over_batch(
        self, args: list[Any], kwargs: dict[str, Any], name: str, call: _native.Call, worker: _native.Worker
    ) -> None:
        batch = self.batchers[name].gather(worker, call, args, kwargs)

        async def run() -> Any:
            function = getattr(self._made(), name)
            positional, named = batch.arguments(function)
            return await _awaited(function(*positional, **named))

        event_loop().start(Job(self, batch, run), worker)

    # On the loop -------------------------------------------------------------------------------------------

    def _made(self) -> Any:
        if self._error is not None:
            raise self._error.with_traceback(self._traceback)
        return self._object

    async def _call(self, args: list[Any], kwargs: dict[str, Any], name: str) -> Any:
        for container, place in futures_among(args, kwargs):
            container[place] = await container[place]
        return await _awaited(_call_once(getattr(self._made(), name), args, kwargs))

    async def _fill(self, number: int, chunk: generators.Chunk) -> bool:
        stream = self._streams.get(number)
        if stream is None:
            raise errors.ActorClosedError("the stream was closed")
        filled = stream.fill(chunk)
        ok = filled if isinstance(filled, bool) else await filled
        if stream.over:
            self._streams.pop(number, None)
        return ok

    def admit(self, job: Job) -> None:
        """Begin `job`, or have it wait for room."""
        if self._room > 0:
            self._begin(job)
        else:
            self._waiting.append(job)
            job.wait_for_turn(self._limit)

    def _begin(self, job: Job) -> None:
        self._room -= 1
        self._running += 1
        job.begin()
        event_loop().keep(job.run(), f"multipy-actor-{self.number}", job.conclude)

    def withdraw(self, job: Job) -> None:
        """Take out a job that waits."""
        self._waiting.remove(job)
        self._let_go()

    def ended(self) -> None:
        """Begin what waits for room, now that a job has ended."""
        self._running -= 1
        self._room += 1 if self._is_made else self._limit
        self._is_made = True
        while self._waiting and self._room > 0:
            self._begin(self._waiting.popleft())
        self._let_go()

    def _drop(self) -> None:
        self._is_dropped = True
        event_loop().keep(self.close_streams(), f"multipy-actor-{self.number}")
        self._let_go()

    def _let_go(self) -> None:
        if self._is_dropped and self._running == 0 and not self._waiting:
            self._object = None
            self._error = errors.ActorClosedError("the actor was dropped")

    async def close_streams(self) -> None:
        """Close the generators that are left."""
        while self._streams:
            await _close(self._streams.popitem()[1])


def _call_once(function: Callable[..., Any], args: list[Any], kwargs: dict[str, Any]) -> Any:
    """Call `function`, which then alone has the arguments: the worker may still have the lists."""
    positional, named = tuple(args), dict(kwargs)
    args.clear()
    kwargs.clear()
    return function(*positional, **named)


async def _awaited(result: Any) -> Any:
    """Wait for what a method has returned, if that is to be waited for."""
    return await result if isinstance(result, (Coroutine, asyncio.Future)) else result


async def _close(stream: generators.Stream | generators.AsyncStream) -> None:
    closing = stream.close()
    if closing is not None:
        await closing
