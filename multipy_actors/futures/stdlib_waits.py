"""What `concurrent.futures.wait` and `as_completed` wait for, told to the core, inside an interpreter.

Problem: these two sleep on an event of their own. A circle of waits that passes through them would not be
seen by the core, and who sleeps so would not hear an interrupt.

Model: they note a waiter in the list `_waiters` of each of their futures, which ours give them as a
`Waiters`. It has the waiter sleep on an `_Event`, which first waits in the core for the same calls, and then,
as what the waiter itself is to know is still on its way, for the event. Which futures these are, and how many
of them are wanted, is read from the frame of the function that waits; anything else that has waiters, and a
wait that is also for futures of other executors, is left alone.

Threads: any; a waiter belongs to the one that waits.
"""

from __future__ import annotations

import sys
from concurrent.futures import _base
from threading import Event
from time import monotonic
from typing import Any

from multipy_actors import _native

__all__ = ["Waiters"]

_SLEEPERS = (_base.wait.__code__, _base.as_completed.__code__)


class Waiters(list[Any]):
    """The waiters of a future."""

    def append(self, waiter: Any) -> None:
        """Note one, before it sleeps."""
        if type(getattr(waiter, "event", None)) is Event:
            waiter.event = _Event(waiter)
        super().append(waiter)


class _Event(Event):
    """What a waiter sleeps on."""

    def __init__(self, waiter: Any) -> None:
        super().__init__()
        self._all = isinstance(waiter, _base._AllCompletedWaiter)
        self._until_failure: bool = getattr(waiter, "stop_on_exception", False)

    def wait(self, timeout: float | None = None) -> bool:
        calls = None if self.is_set() else _calls_of(sys._getframe(1))
        if calls is None:
            return super().wait(timeout)
        deadline = None if timeout is None else monotonic() + timeout
        needed = len(calls) if self._all else 1
        if not _native.wait_for_some(calls, needed, timeout, self._until_failure):
            return self.is_set()
        return super().wait(None if deadline is None else max(0.0, deadline - monotonic()))


def _calls_of(frame: Any) -> list[_native.Call] | None:
    """Return the calls that are waited for by the function whose frame it is; None: that cannot be told."""
    if frame.f_code not in _SLEEPERS:
        return None
    waited = frame.f_locals.get("fs", ())
    calls = [call for future in waited if type(call := getattr(future, "_call", None)) is _native.Call]
    return calls if calls and len(calls) == len(waited) else None
