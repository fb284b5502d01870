"""What an interpreter logs is sent to the host, whose loggers handle it (see observability/logs).

Model: the root logger has one handler, which flattens each record to bytes (message formatted, exception as
text) and puts it into the pool's queue of messages in the core.

Threads: any; records arrive in their order. Sending never waits, and the queue has no limit.

Not sent: what a logger with `propagate = False` keeps to its own handlers.
"""

from __future__ import annotations

import logging
import marshal
from typing import TYPE_CHECKING, Any

from multipy_actors.worker import output

if TYPE_CHECKING:
    from multipy_actors import _native

__all__ = ["install"]

# What a record has that does not travel: it is formatted already, or the host's own.
_LEFT_OUT = ("args", "exc_info", "message", "asctime", "relativeCreated", "processName")


def install(messages: _native.CompletionQueue, levels: dict[str, int]) -> None:
    """Have all loggers of this interpreter, at these levels, send to `messages`."""
    logging.root.addHandler(_Sender(messages))
    for name, level in levels.items():
        logging.getLogger(name or None).setLevel(level)


class _Sender(logging.Handler):
    """Sends records to the host."""

    def __init__(self, messages: _native.CompletionQueue) -> None:
        super().__init__()
        self._messages = messages

    def emit(self, record: logging.LogRecord) -> None:
        """Send one."""
        try:
            self._messages.send(_flatten(record))
        except Exception:
            self.handleError(record)


def _flatten(record: logging.LogRecord) -> bytes:
    fields = {name: value for name, value in record.__dict__.items() if name not in _LEFT_OUT}
    fields["msg"] = record.getMessage()
    fields["levelno"] = int(record.levelno)
    if record.exc_info and not record.exc_text:
        fields["exc_text"] = logging.Formatter().formatException(record.exc_info)
    fields["interpreter"] = output.name_of_interpreter()
    fields["actor"] = output.name_of(output.actor.get())
    try:
        return marshal.dumps(fields)
    except ValueError:
        return marshal.dumps({name: _plain(value) for name, value in fields.items()})


def _plain(value: Any) -> Any:
    """Return `value` if it is plain data, else how it prints."""
    try:
        marshal.dumps(value)
    except ValueError:
        return repr(value)
    return value
