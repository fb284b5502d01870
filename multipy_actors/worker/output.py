"""What code in an interpreter prints, line by line and with whose it is; and that nobody types to it.

Problem: many interpreters print to the host's stdout and stderr. Lines must come out whole, and a reader
should know who wrote them: `(Embedder 'minilm' pool-1-0) ready`.

Model: `prepare` puts text streams of Python's own kind over a `_Lines` each. It gathers what a thread writes
until its line ends, it is flushed or, as a progress bar, begins with a carriage return, and gives it to
`_native.write_output`, which keeps lines of all interpreters apart (see native/base/output.h). The prefix is
made when an actor is (`introduce`); which actor's code prints is in the context variable `actor`, so that
coroutines and what they start have theirs. Threads that user code starts have the interpreter's alone.

`sys.stdin` belongs to the host: who reads it, `breakpoint()` included, would wait for somebody who does not
know of it. Here it raises, and says what to do instead.

Threads: any, under the interpreter's GIL. What a thread has gathered is its own entry of a dict.

What C code prints by itself goes its own way, without a prefix.
"""

from __future__ import annotations

import sys
from _thread import get_ident
from io import BufferedIOBase, FileIO, TextIOWrapper, UnsupportedOperation

from multipy_actors import _native

TYPE_CHECKING = False
if TYPE_CHECKING:
    from contextvars import ContextVar
    from typing import Any

__all__ = ["actor", "forget", "introduce", "name_of", "name_of_interpreter", "prepare", "set_prefixes"]

_MANY = 1 << 16  # bytes that are gathered of one line
_NO_INPUT = (
    "standard input belongs to the host: code in a private interpreter cannot read it. Pass the input as an "
    "argument; to debug, run the same code in the host with multipy.init(inline=True) or Pool(inline=True)"
)

# The number of the one whose code runs; 0: of none. Where contextvars is a library of its own, an interpreter
# would have to load it for this alone.
actor: ContextVar[int] = _native.context_variable("actor", 0)
_names: dict[int, str] = {}
_prefixes: dict[int, bytes] = {}
_with_prefixes = False


class _Lines(BufferedIOBase):
    """The bytes under `sys.stdout` or `sys.stderr`."""

    def __init__(self, name: str, fd: int) -> None:
        self.name = name
        self.mode = "wb"
        self.raw = FileIO(
            fd, "wb", closefd=False
        )  # for those who look for it; Python's own ends with its stream
        self._fd = fd
        # By thread, what it has written of a line, and the prefix of that.
        self._gathered: dict[int, tuple[bytes, bytearray]] = {}

    def write(self, data: Any) -> int:
        """Take `data`; it is written when the line ends."""
        data = bytes(data)
        thread = get_ident()
        prefix = _prefixes.get(actor.get()) or _prefixes.get(0, b"")
        gathered = self._gathered.pop(thread, None)
        if gathered is not None and gathered[0] != prefix:
            self._put(thread, *gathered)
            gathered = None
        # What draws over its line is shown at once, as Python's own line buffering does.
        end = len(data) if b"\r" in data else data.rfind(b"\n") + 1
        if gathered is None:
            if end:
                self._put(thread, prefix, data[:end])
            if end < len(data):
                self._gathered[thread] = prefix, bytearray(data[end:])
            return len(data)
        line = gathered[1]
        line += data[:end] if end else data
        if end or len(line) > _MANY:
            self._put(thread, prefix, line)
            line = bytearray(data[end:] if end else b"")
        if line:
            self._gathered[thread] = prefix, line
        return len(data)

    def _put(self, thread: int, prefix: bytes, text: bytes | bytearray) -> None:
        _native.write_output(self._fd, thread, prefix, bytes(text))

    def flush(self) -> None:
        """Write what this thread has written of a line."""
        gathered = self._gathered.pop(get_ident(), None)
        if gathered is not None:
            self._put(get_ident(), *gathered)

    def close(self) -> None:
        """Write what any thread has written of a line."""
        try:
            while self._gathered:
                thread, gathered = self._gathered.popitem()
                self._put(thread, *gathered)
        finally:
            super().close()

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._fd

    def isatty(self) -> bool:
        """Say whether it is a terminal."""
        return self.raw.isatty()

    def writable(self) -> bool:
        """Say yes."""
        return True


class _NoInput(BufferedIOBase):
    """The bytes under `sys.stdin`, which nobody gets."""

    name = "<stdin>"
    mode = "rb"

    def readable(self) -> bool:
        """Say yes: who asks for text that is not there shall be told why."""
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        """Refuse."""
        raise UnsupportedOperation(_NO_INPUT)

    read1 = readinto = readinto1 = read  # type: ignore[assignment]

    # `input()` would read from a terminal by itself if there were a descriptor; the base class has none.


def prepare() -> None:
    """Replace the standard streams, and what `breakpoint()` calls."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None:
            lines = _Lines(f"<{name}>", stream.fileno())
            replaced: Any = TextIOWrapper(lines, stream.encoding, stream.errors, "\n", write_through=True)
            replaced.mode = "w"
            _put(name, replaced)
    if sys.stdin is not None:
        _put("stdin", TextIOWrapper(_NoInput(), sys.stdin.encoding, sys.stdin.errors))
    sys.breakpointhook = _break


def _put(name: str, stream: Any) -> None:
    setattr(sys, name, stream)
    setattr(sys, f"__{name}__", stream)


def _break(*args: Any, **kwargs: Any) -> Any:
    """Do what PYTHONBREAKPOINT says if it says anything; pdb would read the host's standard input."""
    import os

    hook = os.environ.get("PYTHONBREAKPOINT", "")
    if hook == "0":
        return None
    if hook in ("", "pdb.set_trace"):
        raise RuntimeError(f"breakpoint(): {_NO_INPUT}")
    module, _, name = hook.rpartition(".")
    import importlib

    return getattr(importlib.import_module(module or "builtins"), name)(*args, **kwargs)


# Whose it is -----------------------------------------------------------------------------------------------


def set_prefixes(wanted: bool) -> None:
    """Begin lines, from now on, with the names of actor and interpreter, or with nothing."""
    global _with_prefixes
    _with_prefixes = wanted
    _prefixes.clear()
    if wanted:
        _prefixes[0] = _encoded(name_of_interpreter())


def introduce(number: int, cls: str, name: str | None) -> None:
    """Have lines of actor `number` begin with the name of its class and, if it has one, its own."""
    _names[number] = f"{cls} {name!r}" if name else cls
    if _with_prefixes:
        _prefixes[number] = _encoded(f"{_names[number]} {name_of_interpreter()}")


def forget(number: int) -> None:
    """Forget an actor that is no more."""
    _names.pop(number, None)
    _prefixes.pop(number, None)


def name_of(number: int) -> str | None:
    """Return how actor `number` is called in the prefix of its lines."""
    return _names.get(number)


def name_of_interpreter() -> str:
    """Return the name of the pool and the number of the interpreter in it."""
    worker = _native.current_worker()
    assert worker is not None
    return f"{worker.pool.name}-{worker.index}"


def _encoded(name: str) -> bytes:
    encoding = "utf-8" if sys.stdout is None else sys.stdout.encoding
    return f"({name}) ".encode(encoding, "backslashreplace")
