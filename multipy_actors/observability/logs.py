"""What interpreters log, handled by the host's loggers.

Problem: each interpreter has a `logging` of its own, which knows nothing of the handlers, files and formats
that the host has set up.

Model: the root logger of an interpreter has one handler (see worker/log_sender), which flattens each record
to bytes and puts it into the pool's queue of messages in the core. A thread of the host, `Listener`, takes
them out and has the host's logger of the same name handle them, as if the record had been made here; it says
whose it is in two attributes more, `interpreter` and `actor`.

Threads: records of one interpreter arrive in their order. Sending never waits and needs no GIL of the host;
the queue has no limit. When the last interpreter of a pool has ended, the core closes the queue, and the
listener ends when it is empty, so nothing that was logged is lost. It holds no reference to the pool.

Not forwarded: what a logger with `propagate = False` keeps to its own handlers.
"""

from __future__ import annotations

import collections
import logging
import marshal
import sys
import threading
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multipy_actors import _native

__all__ = ["Listener", "levels"]


def levels(wanted: bool | int | str) -> dict[str, int]:
    """Return the level of each logger that has one, the root's as ""; `wanted` is a level or True.

    With True they are the host's as they are now.
    """
    if wanted is not True:
        level = logging.getLevelName(wanted) if isinstance(wanted, str) else wanted
        if not isinstance(level, int):
            raise ValueError(f"forward_logging must be a bool or a level of logging, not {wanted!r}")
        return {"": level}
    named = {
        name: logger.level
        for name, logger in list(logging.root.manager.loggerDict.items())
        if isinstance(logger, logging.Logger) and logger.level != logging.NOTSET
    }
    return {"": logging.root.level, **named}


class Listener:
    """The thread that has the host's loggers handle what comes."""

    def __init__(self, messages: _native.CompletionQueue, name: str) -> None:
        """Start listening."""
        self._messages = messages
        self._waiting: collections.deque[threading.Event] = collections.deque()
        self._thread = threading.Thread(
            target=_listen, args=(messages, self._waiting), name=f"{name}-logging", daemon=True
        )
        self._thread.start()

    def flush(self, timeout: float | None) -> bool:
        """Wait until what was sent before is handled; says whether it is."""
        reached = threading.Event()
        self._waiting.append(reached)
        if not self._messages.send(b""):
            return self.join(timeout)
        # The queue may close before the listener has come across the message, but not without it.
        return reached.wait(timeout)

    def join(self, timeout: float | None = None) -> bool:
        """Wait, once all interpreters have ended, until everything is handled; says whether it is."""
        if threading.current_thread() is self._thread:
            return False  # a handler closes the pool
        self._thread.join(timeout)
        return not self._thread.is_alive()


def _listen(messages: _native.CompletionQueue, waiting: collections.deque[threading.Event]) -> None:
    while True:
        message = messages.pop()
        if message is None:
            if messages.closed():
                return
            continue
        message.start()
        data, _ = message.take_request()
        if not data:
            waiting.popleft().set()
            continue
        try:
            _handle(data)
        except Exception:  # of a filter or a handler of the user; logging reports its own in this way
            if logging.raiseExceptions and sys.stderr is not None:
                traceback.print_exc()


def _handle(data: bytes) -> None:
    record = logging.makeLogRecord(marshal.loads(data))
    logger = logging.getLogger(record.name)
    if logger.isEnabledFor(record.levelno):
        logger.handle(record)
