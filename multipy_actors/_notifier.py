"""The notifier: an interpreter's one thread that hears of calls that have ended.

Problem: a call ends on a thread of another interpreter, which must not need this one's GIL to say so.

Model: calls that somebody here watches are pushed to a queue of the core, from which the notifier takes them
and runs what was to be run. The same queue wakes it when tensors that this interpreter exported are to be
released, for which other threads may have no time.

Threads: `watch`, `start` and `forget_after_fork` from any. The notifier is a daemon thread, started when
needed. At exit it is stopped; what ends later tells nobody.
"""

from __future__ import annotations

import atexit
import threading
from concurrent.futures._base import LOGGER

from multipy_actors import _native

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from multipy_actors import inline

__all__ = ["forget_after_fork", "start", "watch"]


class _Notifier:
    """The thread, and what it is to run by the calls it hears of."""

    def __init__(self) -> None:
        self._queue = _native.CompletionQueue()
        self._watched: dict[int, Callable[[], None]] = {}
        self._thread = threading.Thread(target=self._run, name="multipy-notifier", daemon=True)
        _native.watch_returns(self._queue)
        self._thread.start()
        atexit.register(self.stop)

    def watch(self, call: _native.Call | inline.Call, tell: Callable[[], None]) -> None:
        self._watched[call.key] = tell
        call.watch(self._queue)

    def _run(self) -> None:
        while True:
            call = self._queue.pop()
            _native.drain_returns()
            if call is not None:
                tell = self._watched.pop(call.key)
                try:
                    tell()
                except BaseException:  # a callback's SystemExit, say, must not end this thread
                    LOGGER.exception("telling of the end of a call by %r", tell)
                del call, tell
            elif self._queue.closed():
                return

    def stop(self) -> None:
        _native.watch_returns(None)
        self._queue.close()
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=5.0)


_lock = threading.RLock()  # the collector may drop a handle, and so come here again, at any time
_the_notifier: _Notifier | None = None


def watch(call: _native.Call | inline.Call, tell: Callable[[], None]) -> None:
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
