"""The receiving end of a generator method: an iterator of what it yields, in another interpreter.

Problem: a generator's items should reach their reader as they are made, without a round trip for each, and
the generator should neither run far ahead of a slow reader nor go on when nobody reads any more.

Model: `handle.method.stream(...)` makes the generator, which then belongs to the interpreter it runs in
(see worker/generators), and a Stream here, which asks for chunks of items: the first at once, and each time
that a chunk arrives the next one. So the generator is at most two chunks (of some tens of items, or some
milliseconds) ahead. A request goes to the interpreter that has the generator; which that is, the first
answer tells.

The number of a stream is chosen here, so that it can be closed whatever has become of the first request.

Threads: one reader at a time, as for any generator. A Stream holds the actor's handle, so the actor is not
dropped while somebody reads. `__del__` closes it without waiting.

Guarantees: items come in their order; what the generator raises comes after what it yielded before. After
`close()` it has ended. A stream does not travel to another interpreter; its reader passes the items on.
"""

from __future__ import annotations

import contextlib
import sys
from collections import deque
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from multipy_actors import _native, protocol, wire
from multipy_actors.errors import ActorClosedError, Interrupted, PoolClosedError
from multipy_actors.futures import Future, until_done, value_of

if TYPE_CHECKING:
    from types import TracebackType

    from multipy_actors.actors.handle import ReplicatedObj
    from multipy_actors.wire.sharing import Share

T = TypeVar("T")

__all__ = ["Stream"]

_Item = tuple[bytes, "list[_native.Attachment]"]


class _Chunk(Future[tuple[bool, "list[_Item]"]]):
    """The answer to a request: whether these are the last items, and the items, still encoded."""

    def _decode(self) -> tuple[Any, BaseException | None]:
        if self._call.state != "succeeded":
            return super()._decode()
        data, attachments = self._call.result()
        ended, parts = wire.decode(data)
        items: list[_Item] = []
        begin = 0
        for part, count in parts:
            items.append((part, attachments[begin : begin + count]))
            begin += count
        return (ended, items), None


class Stream(Generic[T]):
    """The items that a generator method yields, to be iterated over with `for` or `async for`.

    `close()` (or `aclose()`) ends the generator; so does dropping the stream, or leaving a `with` (`async
    with`) statement that has it.
    """

    def __init__(
        self,
        handle: ReplicatedObj[Any],
        name: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        share: Share | None = None,
    ) -> None:
        """For the library alone: streams come from `handle.method.stream(...)`."""
        self._handle = handle
        self._share = share or handle._share
        self._number = _native.Actor.next_number()
        self._interpreter: int | None = None  # that has the generator
        self._items: deque[_Item] = deque()
        self._failure: BaseException | None = None  # to be raised after the items
        self._is_read = False  # somebody is in the middle of it
        operation = protocol.stream(handle._actor.number, name, self._number)
        self._ahead: _Chunk | None = self._request(operation, args, kwargs, handle._pin, True)

    def _request(
        self,
        operation: list[Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        on: int | None,
        limited: bool,
    ) -> _Chunk:
        """Post a request; `limited` is the one that counts for `max_pending`."""
        handle = self._handle
        if handle._pool._lost:
            raise handle._closed_error()
        if sys.path != handle._pool._host_paths:
            handle._pool._follow_search_paths()
        data, attachments = wire.encode_call(
            operation, args, kwargs, inline=handle._pool._inline, share=self._share
        )
        try:
            waits, timeout = handle._waits, handle._timeout
            return _Chunk(handle._actor.post(data, attachments, on, waits, timeout, limited=limited))
        except PoolClosedError:
            raise handle._closed_error() from None

    # Reading -----------------------------------------------------------------------------------------------

    def __iter__(self) -> Stream[T]:
        """Return itself."""
        return self

    def __aiter__(self) -> Stream[T]:
        """Return itself."""
        return self

    def __next__(self) -> T:
        """Return the next item; waits for it. Ctrl-C meanwhile interrupts the generator."""
        self._begin_reading()
        try:
            while not self._items and self._ahead is not None:
                self._ahead._call.wait()
                self._receive(self._ahead)
            return self._take(StopIteration)
        except KeyboardInterrupt:
            if self._ahead is not None:
                self._ahead.cancel(interrupt=True)
            raise
        finally:
            self._is_read = False

    async def __anext__(self) -> T:
        """Return the next item; awaits it. Who is cancelled meanwhile may go on reading later."""
        self._begin_reading()
        try:
            while not self._items and self._ahead is not None:
                await until_done(self._ahead)
                self._receive(self._ahead)
            return self._take(StopAsyncIteration)
        finally:
            self._is_read = False

    def _begin_reading(self) -> None:
        if self._is_read:
            raise RuntimeError("the stream is being read already")
        self._is_read = True

    def _receive(self, chunk: _Chunk) -> None:
        """Take over what has come, and ask for more."""
        self._ahead = None
        self._note_interpreter(chunk)
        try:
            ended, items = chunk.result()
            self._items.extend(items)
            if not ended:
                operation = protocol.next_chunk(self._handle._actor.number, self._number)
                self._ahead = self._request(operation, (), {}, self._interpreter, False)
        except BaseException as error:
            self._failure = error
            if isinstance(error, Interrupted) and self._handle._actor.closed:
                self._failure = self._handle._closed_error()
                self._failure.__cause__ = error
            # It has ended by itself, unless the request alone went wrong.
            _expect_nobody(self._post_close())

    def _take(self, end: type[Exception]) -> T:
        if self._items:
            item: T = wire.decode(*self._items.popleft())
            return item
        failure, self._failure = self._failure, None
        try:
            raise end if failure is None else failure
        finally:
            del failure, self  # they are in the traceback's frames: no cycles

    # Closing -----------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End the generator, and wait until it has; raises what its `finally` raises."""
        closing = self._close()
        if closing is not None:
            with contextlib.suppress(ActorClosedError):
                value_of(closing)

    async def aclose(self) -> None:
        """End the generator, and wait until it has, as `close` does."""
        closing = self._close()
        if closing is not None:
            with contextlib.suppress(ActorClosedError):
                await closing

    def _close(self) -> Future[None] | None:
        """Have the generator closed, unless it has ended or was never made; the future says when it is."""
        self._items.clear()
        self._failure = None
        ahead, self._ahead = self._ahead, None
        if ahead is None:
            return None
        cancelled = ahead._call.cancel()
        if self._interpreter is None:
            if cancelled:
                return None
            self._note_interpreter(ahead)
        return self._post_close()

    def _note_interpreter(self, chunk: _Chunk) -> None:
        """Learn from an answer who has the generator, unless the request ended before anybody took it."""
        if chunk._call.interpreter >= 0:
            self._interpreter = chunk._call.interpreter

    def _post_close(self) -> Future[None] | None:
        handle = self._handle
        if self._interpreter is None or handle._pool._lost or handle._actor.closed:
            return None
        operation = protocol.close_stream(handle._actor.number, self._number)
        data, attachments = wire.encode_call(operation, (), {})
        try:
            timeout = handle._timeout
            return Future(
                handle._actor.post(data, attachments, self._interpreter, True, timeout, limited=False)
            )
        except PoolClosedError:
            return None

    def __enter__(self) -> Stream[T]:
        """Return itself."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        """Close it."""
        self.close()

    async def __aenter__(self) -> Stream[T]:
        """Return itself."""
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        """Close it."""
        await self.aclose()

    def __del__(self) -> None:
        """End the generator, without waiting for that."""
        if self.__dict__.get("_ahead") is not None:
            with contextlib.suppress(Exception):
                _expect_nobody(self._close())

    def __reduce__(self) -> Any:
        """Refuse: it can only be read where it was made."""
        raise TypeError("a stream can only be read in the interpreter that called the method")

    def __repr__(self) -> str:
        """Name the handle and the state."""
        state = "open" if self._ahead is not None or self._items else "ended"
        return f"<multipy.Stream ({state}) of {self._handle!r}>"


def _expect_nobody(closing: Future[None] | None) -> None:
    """Have what closes a generator not be waited for at the end of its interpreter."""
    if closing is not None:
        closing._call.expect_nobody()
