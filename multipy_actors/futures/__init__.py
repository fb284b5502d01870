"""Futures of calls in other interpreters.

Problem: users have `concurrent.futures` and `asyncio` code, so our future must be a true
`concurrent.futures.Future`; but the thread that completes a call has another GIL and must not need the
host's to do so.

Model: a Future is a view of a `_native.Call` in common memory. Its state is read from the call, its value is
decoded when first asked for, on the asking thread. `result()` waits on the call itself. Only if somebody
*watches* (a callback, `concurrent.futures.wait`, `await`) is the call asked to report to the one notifier
thread of this interpreter (see notifier), which then runs callbacks and wakes waiters. The fields of the
base class that `concurrent.futures` itself looks into (`_state`, `_condition`, `_waiters`) are properties,
made on demand.
That module relies on a state that does not change while it holds the condition: it counts what is pending
and then adds its waiters. A call does not wait for it, so whoever holds the condition sees a frozen state.

Threads and locks: any thread may use a future; its `_condition` guards callbacks, waiters and the decoded
value. The notifier holds no lock while it runs callbacks.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from concurrent.futures import FIRST_COMPLETED, CancelledError, InvalidStateError
from concurrent.futures import Future as BaseFuture
from concurrent.futures import TimeoutError as FutureTimeoutError
from concurrent.futures import wait as wait_for_any
from concurrent.futures._base import CANCELLED_AND_NOTIFIED, FINISHED, LOGGER, PENDING, RUNNING
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from multipy_actors import _native, wire
from multipy_actors.errors import DeadlockError, Interrupted, PoolClosedError
from multipy_actors.futures import notifier
from multipy_actors.modules import imported
from multipy_actors.wire import references

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from types import FrameType

T = TypeVar("T")

__all__ = ["Future", "get", "wait"]

_STATES = {
    "pending": PENDING,
    "running": RUNNING,
    "succeeded": FINISHED,
    "failed": FINISHED,
    "cancelled": CANCELLED_AND_NOTIFIED,
}


class _StateLock:
    """The reentrant lock under a future's condition; `frozen` is the state when its holder took it."""

    def __init__(self, call: _native.Call) -> None:
        self._call = call
        self._lock = threading.RLock()
        self._depth = 0
        self.frozen: str | None = None

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if not self._lock.acquire(blocking, timeout):
            return False
        if self._depth == 0:
            self.frozen = self._call.state
        self._depth += 1
        return True

    def release(self) -> None:
        self._depth -= 1
        if self._depth == 0:
            self.frozen = None
        self._lock.release()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def _is_owned(self) -> bool:
        return self._lock._is_owned()  # type: ignore[attr-defined, no-any-return]


_forks = 0  # how many forks lie between the first process and this one


class _Condition(threading.Condition):
    """A future's condition, for `concurrent.futures` to hold and nobody to wait on."""

    def __init__(self, call: _native.Call) -> None:
        self.lock = _StateLock(call)
        self.forks = _forks
        super().__init__(self.lock)  # type: ignore[arg-type]


class Future(BaseFuture[T]):
    """What a call will return: a `concurrent.futures.Future` that can also be awaited.

    `result()` raises what the call raised, in its own type, with the remote traceback as its `__cause__`.
    Tensors in the value are received when it is first asked for.
    """

    def __init__(self, call: _native.Call) -> None:
        """For the library alone: futures come from `submit`."""
        # The base class's fields are made on demand: most futures are only ever asked for their result.
        self._call = call

    # What concurrent.futures and asyncio look into ---------------------------------------------------------

    if not TYPE_CHECKING:  # to checkers they are the base class's, which `as_completed` asks for

        @property
        def _state(self) -> str:
            condition = self.__dict__.get("condition")
            frozen = None if condition is None else condition.lock.frozen
            return _STATES[self._call.state if frozen is None else frozen]

        @property
        def _condition(self) -> _Condition:
            fields = self.__dict__
            condition = fields.get("condition")
            if condition is None or condition.forks != _forks:  # a thread of the parent may have held it
                fields.pop("condition", None)
                condition = fields.setdefault("condition", _Condition(self._call))
            return condition

        @property
        def _waiters(self) -> list[Any]:
            # Whoever looks holds the condition and is about to add itself.
            waiters: list[Any] = self.__dict__.setdefault("waiters", _new_waiters())
            if self._state in (FINISHED, CANCELLED_AND_NOTIFIED):
                # It has not counted this future as pending, so only those who came before may be told.
                self.__dict__.setdefault("told", list(waiters))
            else:
                self._watch()
            return waiters

    def _watch(self) -> None:
        """Have the notifier told when the call is done, once."""
        with self._condition:
            first = not self.__dict__.get("watched", False)
            self.__dict__["watched"] = True
        if first:
            notifier.watch(self._call, self._announce)

    def _announce(self) -> None:
        """Tell whoever watches that the call is done; on the notifier's thread."""
        with self._condition:
            waiters = self.__dict__.get("told", self.__dict__.get("waiters", ()))
            callbacks = self.__dict__.pop("callbacks", ())
            self.__dict__["announced"] = True
            self._condition.notify_all()
            state = self._call.state
            for waiter in waiters:
                if state == "cancelled":
                    waiter.add_cancelled(self)
                elif state == "failed":
                    waiter.add_exception(self)
                else:
                    waiter.add_result(self)
        for callback in callbacks:
            try:
                self._run_callback(callback)
            except BaseException:  # a callback's SystemExit, say, must not keep others from theirs
                LOGGER.exception("exception calling callback for %r", self)

    def _run_callback(self, callback: Callable[[Future[T]], object]) -> None:
        try:
            callback(self)
        except Exception:
            LOGGER.exception("exception calling callback for %r", self)

    # The public interface ----------------------------------------------------------------------------------

    def cancel(self, interrupt: bool = False) -> bool:
        """Take the call back if it has not started; says whether it is cancelled.

        With `interrupt`, a call that runs has `Interrupted` raised in it at its next bytecode (in a
        coroutine, CancelledError at its next `await`), and the answer says whether it was asked to end. What
        comes of that is the future's result as ever. Of calls that run as one, as a batch, one that is
        interrupted ends at once, and the others go on.

        A wait in `asyncio` that is cancelled interrupts the call, also where it waits by
        `asyncio.wrap_future` or `run_in_executor`, unless other waits of that kind go on; `asyncio.shield`
        keeps it from that.
        """
        if _is_of_asyncio(sys._getframe(1)):
            self.__dict__["unchained"] = self.__dict__.get("unchained", 0) + 1
            if self._is_awaited():
                return False
            interrupt = True
        cancelled = self._call.cancel() or self._call.state == "cancelled"
        if cancelled:
            with self._condition:
                self._condition.notify_all()
        elif interrupt and not self._call.done():
            self._call.interrupt()
            return True
        return cancelled

    def _is_awaited(self) -> bool:
        """Say whether something in asyncio waits for it that has not been cancelled."""
        fields = self.__dict__
        chains = sum(map(_is_chain, fields.get("callbacks", ())))
        return bool(fields.get("awaiting")) or chains > fields.get("unchained", 0)

    def cancelled(self) -> bool:
        """Say whether the call was cancelled."""
        return self._call.state == "cancelled"

    def running(self) -> bool:
        """Say whether the call is running now."""
        return self._call.state == "running"

    def done(self) -> bool:
        """Say whether the call has returned, raised or been cancelled."""
        return self._call.done()

    def result(self, timeout: float | None = None) -> T:
        """Return the call's value, or raise what it raised.

        Waits `timeout` seconds at most (TimeoutError); CancelledError if it was cancelled. Ctrl-C interrupts
        the wait at once.
        """
        value: T
        value, error = self._settle(timeout)
        if error is None:
            return value
        try:
            raise error
        finally:
            del self, error  # they are in the traceback's frames: no cycles

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return what the call raised, or None; waits like `result`."""
        return self._settle(timeout)[1]

    def add_done_callback(self, fn: Callable[[Future[T]], object]) -> None:
        """Call `fn(self)` when the call is done, on this interpreter's notifier thread; at once if it is."""
        with self._condition:
            if not self._call.done() and not self.__dict__.get("announced", False):
                self.__dict__.setdefault("callbacks", []).append(fn)
                pending = True
            else:
                pending = False
        if pending:
            self._watch()
        else:
            self._run_callback(fn)

    def __await__(self) -> Generator[Any, None, T]:
        """Wait in whatever event loop runs, as often as you like.

        Who is cancelled meanwhile, and is the last one that waits for it so, has the call cancelled, and
        interrupted if it runs.
        """
        from asyncio import CancelledError as TaskCancelled

        awaiting: list[object] = self.__dict__.setdefault("awaiting", [])
        awaiting.append(None)
        try:
            try:
                yield from until_done(self).__await__()
            finally:
                awaiting.pop()
        except (TaskCancelled, KeyboardInterrupt):
            if not self._is_awaited():
                self.cancel(interrupt=True)
            raise
        if self.cancelled():
            raise TaskCancelled()
        return self.result()

    def set_result(self, result: T) -> None:
        """Refuse: the call sets it."""
        raise InvalidStateError("the result of a call is set by its interpreter alone")

    def set_exception(self, exception: BaseException | None) -> None:
        """Refuse: the call sets it."""
        raise InvalidStateError("the exception of a call is set by its interpreter alone")

    def __reduce__(self) -> Any:
        """Refuse: only a call of this library takes a future along."""
        raise TypeError("a future can only be sent to an interpreter of this process")

    def __repr__(self) -> str:
        """Name the state."""
        return f"<multipy.Future at {id(self):#x} state={self._state.lower()}>"

    def _settle(self, timeout: float | None) -> tuple[Any, BaseException | None]:
        """Wait, and decode the outcome once."""
        outcome: tuple[Any, BaseException | None] | None = self.__dict__.get("outcome")
        if outcome is None:
            if not self._call.wait(timeout):
                raise FutureTimeoutError()
            if self._call.state == "cancelled":
                _native.drain_returns()  # what it was to be given
                raise CancelledError()
            # Threads may decode at once, but what one of them stored first is everybody's.
            outcome = self.__dict__.setdefault("outcome", self._decode())
        return outcome

    def _decode(self) -> tuple[Any, BaseException | None]:
        data, tensors = self._call.result()
        if self._call.state == "succeeded":
            try:
                return wire.decode(data, tensors), None
            except Exception as error:
                return None, error
        if not data and tensors:
            return None, cast("BaseException", tensors[0])  # of an inline call, which ran here
        if not data and self._call.expired:
            return None, FutureTimeoutError("the call has outlived its timeout")
        if not data and self._call.interrupted:
            return None, Interrupted("the call was interrupted")
        if not data:
            return None, PoolClosedError("the interpreter ended before the call was done")
        return None, wire.decode_exception(data, tensors)


def _is_chain(callback: Callable[..., object]) -> bool:
    """Say whether it is that of `asyncio.wrap_future`."""
    return getattr(callback, "__qualname__", None) == "_chain_future.<locals>._call_set_state"


def _is_of_asyncio(caller: FrameType) -> bool:
    """Say whether a future is cancelled because the wait of `asyncio.wrap_future` for it was."""
    chains = imported("asyncio.futures")
    return (
        chains is not None
        and caller.f_globals is chains.__dict__
        and caller.f_code.co_name == "_call_check_cancel"
    )


def value_of(future: Future[T]) -> T:
    """Wait for a call that only this caller knows of: nobody else could end it if the wait is given up."""
    try:
        return future.result()
    except DeadlockError:
        # If it ran later it would begin the same circle again.
        future.cancel(interrupt=future._call.runs_aside)
        raise
    except BaseException:
        future.cancel(interrupt=True)  # nothing if it is the call's own error
        raise


def give_up(futures: Iterable[Future[Any]], reason: BaseException) -> None:
    """Cancel calls that only this caller knows of; those that run go on unless it was made to end itself."""
    for future in futures:
        future.cancel(interrupt=isinstance(reason, KeyboardInterrupt))


references.register(Future, "Call", lambda future: (future._call, ()), Future)


@overload
def get(futures: BaseFuture[T], timeout: float | None = None) -> T: ...
@overload
def get(futures: Iterable[BaseFuture[T]], timeout: float | None = None) -> list[T]: ...
def get(futures: Any, timeout: float | None = None) -> Any:
    """Return the value of one future, or the list of values of several.

    `timeout` bounds the whole wait, in seconds (TimeoutError). The first failure in the order given is
    raised.
    """
    if isinstance(futures, BaseFuture):
        return futures.result(timeout)
    if timeout is None:
        return [future.result() for future in futures]
    deadline = _now() + timeout
    return [future.result(max(0.0, deadline - _now())) for future in futures]


def wait(
    futures: Iterable[BaseFuture[T]], num_returns: int = 1, timeout: float | None = None
) -> tuple[list[BaseFuture[T]], list[BaseFuture[T]]]:
    """Wait until `num_returns` of `futures` are done; return those that are, and the rest.

    Both keep the order given, and at most `num_returns` are in the first. After `timeout` seconds there may
    be fewer.
    """
    waited = list(futures)
    if not 0 <= num_returns <= len(waited):
        raise ValueError(f"num_returns must be from 0 to {len(waited)}, not {num_returns}")
    deadline = None if timeout is None else _now() + timeout
    pending = [future for future in waited if not future.done()]
    while (missing := num_returns - len(waited) + len(pending)) > 0:
        left = None if deadline is None else max(0.0, deadline - _now())
        if not _some_end(pending, missing, left):
            break
        pending = [future for future in pending if not future.done()]
    done: list[BaseFuture[T]] = []
    rest: list[BaseFuture[T]] = []
    for future in waited:
        (done if len(done) < num_returns and future.done() else rest).append(future)
    return done, rest


def _some_end(pending: list[BaseFuture[Any]], wanted: int, timeout: float | None) -> bool:
    """Wait until `wanted` of `pending` are done, or at least one; false: `timeout` seconds have passed."""
    calls = [getattr(future, "_call", None) for future in dict.fromkeys(pending)]
    if all(type(call) is _native.Call for call in calls):
        return _native.wait_for_some(
            cast("list[_native.Call]", calls), wanted if len(calls) == len(pending) else 1, timeout
        )
    return bool(wait_for_any(pending, timeout, FIRST_COMPLETED).done)


async def until_done(future: Future[Any]) -> None:
    """Wait in the event loop that runs until `future` is done; being cancelled does not cancel it."""
    if future.done():
        return
    import asyncio

    loop = asyncio.get_running_loop()
    woken: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not woken.done():
            woken.set_result(None)

    def tell(_: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(wake)

    future.add_done_callback(tell)
    coroutines = imported("multipy_actors.worker.event_loop")
    job = None if coroutines is None else coroutines.current_job.get()
    if job is None:
        await woken
        return
    task = job.begin_to_await(future._call, woken)
    try:
        await woken
    finally:
        job.end_to_await(future._call, task)


def _new_waiters() -> list[Any]:
    if _native.current_worker() is None:
        return []
    from multipy_actors.futures.stdlib_waits import Waiters

    return Waiters()


def _now() -> float:
    import time

    return time.monotonic()


def forget_after_fork() -> None:
    """Start anew in a forked child, which has none of its parent's threads."""
    global _forks
    _forks += 1
    notifier.forget_after_fork()


if _native.current_worker() is not None:
    for held in (
        _StateLock.acquire,
        _StateLock.release,
        _StateLock.__enter__,
        _StateLock.__exit__,
        threading.Condition.__enter__,
        threading.Condition.__exit__,
        Future._watch,
        Future._condition.fget,  # type: ignore[attr-defined]
        Future._waiters.fget,  # type: ignore[attr-defined]
    ):
        _native.hold_interrupts_in(held.__code__)
