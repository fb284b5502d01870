"""Finds who writes to memory that others have: `Pool(check_sharing=True)`, for debugging.

Problem: see native/exchange/write_log.h. What is shared on purpose gives no error when it is written to
without anybody meaning it: an actor fills a buffer anew that it has returned, two jobs train one model.

Model: an interpreter of such a pool looks at the memory that it was given and has sent, before and after each
call. What has changed meanwhile, the call has written, and a SharedWriteWarning names it, how the memory came
to be shared, and who else has written to it. What had changed before was written elsewhere: by the host, or
by what is not looked at alone, as coroutines and batches, between which others run. Where calls of several
actors run at once, one may be blamed for another.

Threads: those of workers. It warns in the interpreter, where a filter may make an error of it, which the call
raises.
"""

from __future__ import annotations

import threading
import warnings
from typing import TYPE_CHECKING, Any

from multipy_actors import _native
from multipy_actors.errors import SharedWriteWarning

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["WriteChecks"]

_ELSEWHERE = "code elsewhere, its sender or a receiver,"


class _Here(threading.local):
    """What is known of this thread."""

    who = ""  # runs now, or ran last


class WriteChecks:
    """The looks of one interpreter."""

    def __init__(self, worker: _native.Worker) -> None:
        """Look for the interpreter of `worker`."""
        self._index = worker.index
        self._where = f"{worker.pool.name}-{worker.index}"
        self._here = _Here()

    def run(
        self,
        perform: Callable[[], Any],
        target: Callable[..., Any] | None,
        name: str,
        attachments: Sequence[_native.Attachment],
    ) -> Any:
        """Return `perform()`, a call of `target`, and look before and after it."""
        who = self._here.who = f"{name} ({self._where})"
        self._join(attachments, f"given to {who}")
        self._look(_ELSEWHERE, target)
        try:
            return perform()
        finally:
            self._look(who, target)

    def sent(self, attachments: Sequence[_native.Attachment]) -> None:
        """Note what the call that ran last has returned."""
        self._join(attachments, f"returned by {self._here.who}")

    def _join(self, attachments: Sequence[_native.Attachment], how: str) -> None:
        for attachment in attachments:
            if isinstance(attachment, _native.SharedTensor) and not attachment.copied:
                _native.join_memory(attachment, self._index, how)

    def _look(self, writer: str, target: Callable[..., Any] | None) -> None:
        code = getattr(target, "__code__", None)
        where = ("multipy_actors", 1) if code is None else (code.co_filename, code.co_firstlineno)
        for how, nbytes, writers in _native.look_for_writes(self._index, writer):
            before = f", as {' and '.join(writers)} did before" if writers else ""
            text = f"{writer} has written to {nbytes} bytes that are shared, {how}{before}"
            warnings.warn_explicit(text, SharedWriteWarning, *where)
