"""The notifier: an interpreter's one thread that hears of calls that have ended.

Problem: a call ends on a thread of another interpreter, which must not need this one's GIL to say so.

Model: calls that somebody here watches are pushed to a queue of the core, from which the notifier takes them
and runs what was to be run. The same queue wakes it when tensors that this interpreter exported are to be
released, for which other threads may have no time.

Calls are known by their numbers. Two futures may stand for one call, and each is told: the queue names the
call once for each of them, the first time all that are there are told, and later there may be nobody.

Threads and locks: `watch`, `start` and `forget_after_fork` from any. The notifier is a daemon thread,
started when needed. At exit it is stopped; what ends later tells nobody. The lock guards the table; it can
be taken again by the thread that has it, as the collector may drop a handle, and so come here, at any time.

Guarantees: nothing ends the thread before that. What is raised in it, by a callback, by the logging of that,
by another thread or for want of memory, costs no other call its callbacks: whatever is in the table and has
ended is told then.
"""

from __future__ import annotations

import atexit
import threading
from concurrent.futures._base import LOGGER

from multipy_actors import _native

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from multipy_actors.inline.pool import Call

__all__ = ["forget_after_fork", "start", "watch"]


class _Notifier:
    """The thread, and what it is to run by the calls it hears of."""

    def __init__(self) -> None:
        self._queue = _native.CompletionQueue()
        self._lock = threading.RLock()
        self._watched: dict[int, tuple[_native.Call | Call, list[Callable[[], None]]]] = {}
        self._thread = threading.Thread(target=self._run, name="multipy-notifier", daemon=True)
        _native.watch_returns(self._queue)
        self._thread.start()
        atexit.register(self.stop)

    def watch(self, call: _native.Call | Call, tell: Callable[[], None]) -> None:
        with self._lock:
            self._watched.setdefault(call.key, (call, []))[1].append(tell)
        call.watch(self._queue)

    def _run(self) -> None:
        failed = False
        while True:
            try:
                if failed:
                    failed = False
                    self._tell_of_all()
                self._tell_until_closed()
                return
            except BaseException:  # what it took from the queue may be lost, but not from the table
                failed = True

    def _tell_until_closed(self) -> None:
        while True:
            call = self._queue.pop()
            _native.drain_returns()
            if call is not None:
                self._tell_of(call.key)
                del call
            elif self._queue.closed():
                return

    def _tell_of_all(self) -> None:
        """Tell of whatever has ended."""
        for key, (call, _) in list(self._watched.items()):
            if call.done():
                self._tell_of(key)

    def _tell_of(self, key: int) -> None:
        while (watched := self._watched.get(key)) is not None:
            with self._lock:
                tell = watched[1].pop(0) if watched[1] else None
                if not watched[1]:
                    self._watched.pop(key, None)
            if tell is not None:
                _tell(tell)

    def stop(self) -> None:
        _native.watch_returns(None)
        self._queue.close()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=5.0)


def _tell(tell: Callable[[], None]) -> None:
    try:
        tell()
    except BaseException:  # a callback's SystemExit, say
        LOGGER.exception("telling of the end of a call by %r", tell)


_lock = threading.RLock()  # the collector may drop a handle, and so come here again, at any time
_the_notifier: _Notifier | None = None


def watch(call: _native.Call | Call, tell: Callable[[], None]) -> None:
    """Have `tell` called, on the notifier's thread, when `call` is done."""
    _started().watch(call, tell)


def start() -> None:
    """See to it that what this interpreter exports will be released even if no call is ever watched."""
    _started()


def _started() -> _Notifier:
    global _the_notifier
    if _the_notifier is None:
        with _lock:
            if _the_notifier is None:
                _the_notifier = _Notifier()
    return _the_notifier


def forget_after_fork() -> None:
    """Start anew in a forked child, which has none of its parent's threads."""
    global _the_notifier, _lock
    _the_notifier = None
    _lock = threading.RLock()


if _native.current_worker() is not None:
    _native.hold_interrupts_in(watch.__code__)  # no thread, and nothing watched, is left half made
    _native.hold_interrupts_in(start.__code__)
