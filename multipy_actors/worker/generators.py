"""The sending end of streams, inside an interpreter: generators that run a piece at a time.

Problem: a request for every item would cost more than many an item; but an item must not wait for the next
one, which may take long, or may never come before its reader has seen this one.

Model: the reader asks for chunks, one ahead of what it reads (see actors/stream). A Chunk gathers items for
one such request. It is sent when it is full, has been under way for some milliseconds, or when an item took
so long that the next one probably will, too. If the generator is at work on the next item meanwhile,
somebody else sends the chunk: the `_Sender`, a thread, for generators, and a timer of the event loop for
asynchronous ones. The item that comes then begins the next chunk.

Items are encoded as soon as they are yielded, so what the generator does to them later is not seen, nor does
one that cannot be sent spoil those before it. What the generator raises, or that it ends, is told after the
last item.

Threads and locks: a Stream runs on the worker thread, or on the event loop's if its actor lives there; an
AsyncStream on the loop, all of it in one task, so that `asyncio.timeout` and the like may span a `yield`. One
lock guards all chunks against the sender, for the time of an append.
"""

from __future__ import annotations

import threading
from collections import deque
from contextvars import ContextVar
from time import monotonic
from typing import TYPE_CHECKING, Any

from multipy_actors import errors, wire
from multipy_actors.worker.calls import fail

if TYPE_CHECKING:
    import asyncio

    from multipy_actors import _native
    from multipy_actors.wire.sharing import Share
    from multipy_actors.worker.event_loop import Job

__all__ = ["AsyncStream", "Chunk", "Stream", "current_job", "finish", "open_stream"]

_MANY = 64  # items in a chunk
_LARGE = 1 << 20  # bytes in a chunk, from which on it is sent
_WHILE = 0.002  # seconds from the first item, after which a chunk is sent
_SLOW = 0.001  # seconds for an item, from which on the next one is not waited for

current_job: ContextVar[Job | None] = ContextVar("job", default=None)  # that a task of the loop works for

_END = object()
_lock = threading.Lock()
_Encoded = tuple[bytes, "list[_native.Attachment]"]


class Chunk:
    """The items that one request is answered with."""

    def __init__(self, call: _native.Call, most: int | None = None, limit: float | None = None) -> None:
        """Gather at most `most` items for `call`; None: as many as are worth a message.

        The generator has `limit` seconds for an item that it is at when the chunk is sent.
        """
        self.call = call
        self.limit = limit
        self.due = 0.0  # when it is to be sent
        self.filled: asyncio.Future[bool] | None = None  # of an AsyncStream, whether all was well
        self.job: Job | None = None  # the same: whose request it is
        self._most = most or _MANY
        self._size = 0
        self._parts: list[tuple[bytes, int]] = []  # encoded, and how many attachments are its
        self._attachments: list[_native.Attachment] = []
        self._sent = False

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self._parts)

    def add(self, item: _Encoded) -> bool:
        """Take an item in; false if the chunk has been sent already."""
        data, attachments = item
        with _lock:
            if self._sent:
                return False
            self._parts.append((data, len(attachments)))
            self._attachments += attachments
        self._size += len(data) + sum(getattr(attachment, "nbytes", 0) for attachment in attachments)
        return True

    def is_complete(self, began: float, now: float) -> bool:
        """Say whether to send it, `now` that the item begun with at `began` is in."""
        if len(self._parts) == 1:
            self.due = now + _WHILE
        full = len(self._parts) >= self._most or self._size >= _LARGE
        return full or now - began > _SLOW or now >= self.due

    def send(self, ended: bool = False) -> bool:
        """Answer the request; false if that was done already. `ended` says that these are the last items."""
        with _lock:
            if self._sent:
                return False
            self._sent = True
        parts = [[data, count] for data, count in self._parts]
        self.call.succeed(wire.encode([ended, parts])[0], self._attachments)
        return True


class Stream:
    """A generator, and what it has to tell that no request has asked for yet."""

    def __init__(self, iterator: Any, share: Share) -> None:
        """Run `iterator` when asked for items; `share` says what of them is shared."""
        self.over = False  # the reader has been told that nothing more will come
        self._iterator = iterator
        self._share = share
        self._kept: _Encoded | None = None  # it came when its chunk had been sent
        self._ended = False
        self._error: BaseException | None = None
        self._turn = (
            threading.RLock()
        )  # an actor that runs several calls at once is told of the end meanwhile

    def fill(self, chunk: Chunk) -> bool:
        """Run the generator until `chunk` is complete, and send it; false if it has raised instead."""
        with self._turn:
            return self._fill(chunk)

    def _fill(self, chunk: Chunk) -> bool:
        if self._kept is not None:
            # It has been waiting for this request: the generator goes on with the next one.
            chunk.add(self._kept)
            self._kept = None
        else:
            try:
                self._run(chunk)
            except BaseException as error:
                self._error = error
                self._give_up()
        if self._error is not None and not chunk:
            self.over = True
            fail(chunk.call, self._error)
            self._error = None
            return False
        ended = self._ended and self._error is None
        if chunk.send(ended) and ended:
            self.over = True
        return True

    def _run(self, chunk: Chunk) -> None:
        before = monotonic()
        while not self._ended and self._error is None:
            item = next(self._iterator, _END)
            if item is _END:
                self._ended = True
                return
            encoded = wire.encode(item, "item", share=self._share)
            del item
            if not chunk.add(encoded):
                self._kept = encoded
                return
            now = monotonic()
            if chunk.is_complete(before, now):
                return
            before = now
            if len(chunk) == 1:
                _sender.watch(chunk)

    def _give_up(self) -> None:
        """Close what has not ended by itself: an item could not be sent, or an interrupt came in between."""
        try:
            self.close()
        except BaseException as error:
            object.__setattr__(error, "__context__", self._error)  # a class may forbid the other way
            self._error = error

    def close(self) -> None:
        """Close the generator; raises what its end raises."""
        with self._turn:
            self._ended = True
            iterator, self._iterator = self._iterator, iter(())
            if hasattr(iterator, "close"):
                iterator.close()


class AsyncStream:
    """An asynchronous generator, run by a task of its own as long as there is a request."""

    def __init__(self, iterator: Any, share: Share) -> None:
        """Run `iterator` when asked for items; `share` says what of them is shared."""
        self.over = False
        self._iterator = iterator
        self._share = share
        self._kept: _Encoded | None = None
        self._ended = False
        self._closing = False
        self._error: BaseException | None = None
        self._chunks: deque[Chunk] = deque()  # requests, in their order
        self.task: asyncio.Task[None] | None = None
        self._wanted: asyncio.Future[None] | None = None  # the task waits for a request

    async def fill(self, chunk: Chunk) -> bool:
        """Have items put into `chunk` and wait until it is sent; false if something was raised instead."""
        import asyncio

        loop = asyncio.get_running_loop()
        chunk.filled = loop.create_future()
        chunk.job = current_job.get()
        self._chunks.append(chunk)
        if self.task is None:
            self.task = loop.create_task(self._run(), name="multipy-stream")
            self.task.add_done_callback(self._conclude)
        elif self.task.done():
            self._conclude(self.task)
        elif self._wanted is not None and not self._wanted.done():
            self._wanted.set_result(None)
        try:
            return await chunk.filled
        except asyncio.CancelledError:
            if chunk in self._chunks:
                self._chunks.remove(chunk)  # it fails with what its job says
            await self.close()
            raise

    async def close(self) -> None:
        """Close the generator, in its task; raises what its end raises."""
        import asyncio

        self._closing = True
        self._error = None  # raised by itself, further on than it is read
        if self.task is None:
            self.task = asyncio.get_running_loop().create_task(self._end(), name="multipy-stream")
        elif not self.task.done():
            self.task.cancel()
        await asyncio.wait({self.task})
        await self._end()  # a task that was cancelled before it began has not done so
        self._conclude(self.task)
        error, self._error = self._error, None
        if error is not None and not isinstance(error, asyncio.CancelledError):
            raise error

    async def _run(self) -> None:
        try:
            while not self._closing:
                chunk = await self._next_chunk()
                if chunk is None:
                    continue
                current_job.set(chunk.job)
                before = monotonic()
                item = await self._iterator.__anext__()
                encoded = wire.encode(item, "item", share=self._share)
                del item
                self._add(encoded, before)
        except StopAsyncIteration:
            self._ended = True
        except BaseException as error:
            self._error = error
        await self._end()

    async def _end(self) -> None:
        iterator, self._iterator = self._iterator, None
        try:
            if hasattr(iterator, "aclose"):
                await iterator.aclose()
        except BaseException as error:
            self._error = error

    async def _next_chunk(self) -> Chunk | None:
        """Wait for a request that can take another item; None: look again, the last item completed it."""
        import asyncio

        while not self._chunks:
            self._wanted = asyncio.get_running_loop().create_future()
            await self._wanted
        chunk = self._chunks[0]
        if self._kept is None:
            return chunk
        chunk.add(self._kept)
        self._kept = None
        self._send(chunk)
        return None

    def _add(self, encoded: _Encoded, began: float) -> None:
        import asyncio

        if not self._chunks:
            self._kept = encoded
            return
        chunk = self._chunks[0]
        chunk.add(encoded)
        if chunk.is_complete(began, monotonic()):
            self._send(chunk)
        elif len(chunk) == 1:
            asyncio.get_running_loop().call_later(_WHILE, self._send, chunk)

    def _send(self, chunk: Chunk) -> None:
        """Send `chunk`, the oldest; nothing if that was done already."""
        if self._chunks and self._chunks[0] is chunk:
            self._chunks.popleft()
            chunk.send()
            self._tell(chunk, True)

    def _conclude(self, task: asyncio.Task[None]) -> None:
        """Answer the requests that are left when the generator has ended."""
        while self._chunks:
            chunk = self._chunks.popleft()
            ok = True
            if self._kept is not None:
                chunk.add(self._kept)
                self._kept = None
            if chunk and self._error is not None:
                chunk.send()
            elif self._ended and self._error is None:
                self.over = True
                chunk.send(ended=True)
            else:
                ok, self.over = False, True
                closed = errors.ActorClosedError("the stream was closed")
                fail(chunk.call, closed if self._closing or self._error is None else self._error)
            self._tell(chunk, ok)

    def _tell(self, chunk: Chunk, ok: bool) -> None:
        if chunk.filled is not None and not chunk.filled.done():
            chunk.filled.set_result(ok)


def open_stream(iterator: Any, share: Share) -> Stream | AsyncStream:
    """Return the stream of what a generator method has returned; `share` says what of it is shared."""
    if hasattr(iterator, "__anext__"):
        return AsyncStream(iterator, share)
    return Stream(iter(iterator), share)


class _Sender:
    """The thread that sends chunks whose generator takes its time over the next item."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._chunks: deque[Chunk] = deque()  # in the order they are due
        self._idle = False
        self._stopped = False
        self._thread: threading.Thread | None = None

    def watch(self, chunk: Chunk) -> None:
        """Send `chunk` when it is due, unless it has been sent by then."""
        with self._changed:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="multipy-streams", daemon=True)
                thread.start()  # if there can be none, the stream ends with that error
                self._thread = thread
            self._chunks.append(chunk)
            if self._idle:
                self._idle = False
                self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                chunk = self._next()
            if chunk is None:
                return
            if chunk.send() and chunk.limit is not None:
                chunk.call.interrupt_in(chunk.limit)
            del chunk

    def _next(self) -> Chunk | None:
        while not self._stopped:
            while self._chunks and self._chunks[0]._sent:
                self._chunks.popleft()
            if not self._chunks:
                self._idle = True
                self._changed.wait()
                continue
            left = self._chunks[0].due - monotonic()
            if left <= 0:
                return self._chunks.popleft()
            self._changed.wait(left)
        return None

    def stop(self) -> None:
        """End the thread."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()


_sender = _Sender()


def finish() -> None:
    """End the thread that this module may have started."""
    _sender.stop()
