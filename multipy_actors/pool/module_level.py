"""Actors that a module makes when it is imported: one for the process, however many interpreters import it.

Problem: `app.py` makes its actors at the top level, as web servers want it. An interpreter that is to make
one of them imports `app` to find the class, and that makes them again, there; each of these would make more.

Model: an actor that is made while a module is imported belongs to a place in that import: the module, the
line of it and how many were made by that line before. Where an interpreter comes to that place, it gets a
handle of the actor that the process has already, as `get_actor` gives one. The place is a hidden name of the
actor in the core's table, unless the actor has a name: then that is it. What imports first makes the actor,
and in nearly all programs that is the host.

The script itself (`__main__`) is no such module: interpreters do not import it.

Threads: any; the thread that imports a module counts for it.
"""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["importing_module", "is_hidden", "place"]

_HIDDEN = "\0"  # how names begin that nobody has chosen


def importing_module() -> str | None:
    """Return the name of the module whose import has come to where this is called; None if none has."""
    frame = _frame_of_import()
    return None if frame is None else str(frame.f_globals["__name__"])


def place() -> str | None:
    """Return a name for where in the import of a module this is called, and count it; None if in none."""
    frame = _frame_of_import()
    if frame is None:
        return None
    spec, line = frame.f_globals["__spec__"], frame.f_lineno
    # Each import of a module, as by importlib.reload, has a spec of its own.
    counts: Counter[int] = spec.__dict__.setdefault("_multipy_places", Counter())
    counts[line] += 1
    return f"{_HIDDEN}{spec.name}:{line}:{counts[line]}"


def is_hidden(name: str) -> bool:
    """Say whether `name` is that of a place."""
    return name.startswith(_HIDDEN)


def _frame_of_import() -> FrameType | None:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "<module>":
            spec = frame.f_globals.get("__spec__")
            if spec is not None and getattr(spec, "_initializing", False):
                return frame
        frame = frame.f_back
    return None
