"""How pools end: who is waited for, for how long, and how that is told of those who are left behind.

Problem: to wait for calls is what `shutdown` is for, and what `concurrent.futures` does. But code that has
been told to end, or that nobody waits for, must not hold up the end of a pool or of the process for ever.

Model: the core (native/pool/closing.h) waits for calls that somebody may wait for, and gives all else some
seconds: five to calls that have ended for their callers (a time limit, a kill), and 15 to the end of an
interpreter (streams, `__del__`, atexit handlers, threads and tasks of the user's; to these it gives five).
`end` waits so; a `timeout` bounds all of it. `end_at_once` is for those who do not wait for user code: it
closes any number of pools together and gives them two seconds.

Who does not end in time is left behind: what runs is interrupted once more, its callers get PoolClosedError,
and a LeftBehindWarning, at the line that made the pool, says where it is. Its threads go on until the process
ends.

Threads: any. Nothing is held.

Guarantees: a pool that fails to close, or a warning that is an error, keeps no other pool from its end.
"""

from __future__ import annotations

import sys
import warnings
from time import monotonic
from typing import TYPE_CHECKING, Any

from multipy_actors import wire
from multipy_actors.errors import LeftBehindWarning, PoolClosedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from multipy_actors import _native
    from multipy_actors.pool.pool import Pool

__all__ = [
    "drain",
    "end",
    "end_at_once",
    "line_that_makes",
    "prepare_to_warn",
    "tell_to_end",
    "warn_forgotten",
]

_GRACE_SECONDS = 2.0  # for code that has been told to end


def prepare_to_warn() -> None:
    """Have what shows a warning imported before the end of the process.

    Its import evaluates source. At exit that has Python forget that Ctrl-C ends it: its status would be 1.
    """
    import linecache  # noqa: F401


def tell_to_end(pool: Pool) -> None:
    """Cancel what is queued and interrupt what runs, without waiting."""
    pool._native.cancel_pending()
    pool._native.close()
    pool._native.interrupt_running()


def end(pool: Pool, timeout: float | None, was_told: bool) -> None:
    """Wait for a closed pool to end, `timeout` seconds at most; what runs `was_told` to end before."""
    closing = pool._native.closing()
    if timeout is not None or not was_told:
        closing.wait(timeout)
    elif not closing.wait(_GRACE_SECONDS):
        closing.leave(_error_for(pool))
        closing.wait()  # what comes back now may still end as it should
    _conclude(pool, closing)


def end_at_once(pools: Iterable[Pool]) -> None:
    """End pools together, without waiting for user code."""
    attempts = _Attempts()
    closings: list[tuple[Pool, _native.Closing]] = []
    for pool in pools:
        attempts.make(tell_to_end, pool)
        closings.append((pool, pool._native.closing()))
    deadline = monotonic() + _GRACE_SECONDS
    for _, closing in closings:
        attempts.make(closing.wait, max(0.0, deadline - monotonic()))
    for pool, closing in closings:
        attempts.make(_conclude, pool, closing)
    attempts.tell()


def drain(pools: Iterable[Pool]) -> None:
    """Wait for pools that were closed before; the times that are given run for all at once."""
    attempts = _Attempts()
    closings = [(pool, pool._native.closing()) for pool in pools]
    for _, closing in closings:
        attempts.make(closing.wait, 0.0)
    for pool, closing in closings:
        attempts.make(closing.wait)
        attempts.make(_conclude, pool, closing)
    attempts.tell()


class _Attempts:
    """Things to be done, each whatever becomes of the others."""

    def __init__(self) -> None:
        self._errors: list[BaseException] = []

    def make(self, function: Callable[..., object], *args: Any) -> None:
        try:
            function(*args)
        except BaseException as error:
            self._errors.append(error)

    def tell(self) -> None:
        """Raise the first error; the others are printed."""
        for error in self._errors[1:]:
            sys.excepthook(type(error), error, error.__traceback__)
        if self._errors:
            raise self._errors[0]


def _conclude(pool: Pool, closing: _native.Closing) -> None:
    """Have done with a pool: all of it has ended, or it is left behind."""
    pool._is_done_with()
    left = closing.left()
    listener = pool._listener
    if not left:
        if listener is not None:
            listener.join()
        return
    closing.leave(_error_for(pool))
    if listener is not None:
        listener.flush(_GRACE_SECONDS)
    lines = [f"{pool!r}: code in it goes on and is left behind"]
    for index, is_ending, label, seconds, threads in left:
        what = "its end" if is_ending else f"a call of {label}" if label else "a call"
        lines.append(f"  {pool._name}-{index}, at {what} for {seconds:.1f} s{':' * bool(threads)}")
        lines += [f"    {line}" for line in threads.splitlines()]
    warnings.warn_explicit("\n".join(lines), LeftBehindWarning, *pool._made_at)


def _error_for(pool: Pool) -> bytes:
    error = PoolClosedError(f"{pool!r}: the call had not ended when its pool did, and is left behind")
    return wire.encode_own_error(error)


def warn_forgotten(*pools: Pool) -> None:
    """Warn of pools that nobody has shut down, at the lines that made them."""
    attempts = _Attempts()
    for pool in pools:
        file, line = pool._made_at
        text = f"{pool!r} was never shut down; it was made at {file}:{line}"
        attempts.make(warnings.warn_explicit, text, ResourceWarning, file, line)
    attempts.tell()


def line_that_makes() -> tuple[str, int]:
    """Return the line of the user's code that has called this library."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("multipy_actors"):
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno
