"""While an interpreter imports, it looks for garbage less often and runs longer at a stretch.

Problem: big packages are imported in every interpreter anew. What they make stays, yet Python looks through
it over and over: a tenth of the time that `import torch` takes, to find a few kilobytes. And where more
interpreters import than there are CPUs, each pushes what the others use out of the caches every few
milliseconds, which takes a fifth of that time.

Model: the collector calls `_collected` after each look, and that sees whether importlib is at work among the
callers. The youngest objects are looked at as often as always here, fourteen times less often than Python
does. While an import goes on, the older ones are left alone ten times as long, and the thread of a worker
has long time slices; `Worker.take` ends these at the latest. Other threads, an event loop's among them, have
none.

Guarantees: nothing is switched off, so an import that never ends, as of a server that runs in it, loses no
memory. Code that sets thresholds of its own keeps them.

Rejected: `gc.freeze()` after an import, which makes later looks cheaper; but what is in a cycle and unused
by then would never be freed. As many imports at a time as there are CPUs, the others waiting: one could wait
for another that waits for its result.
"""

from __future__ import annotations

import gc
import sys
from _thread import get_ident

from multipy_actors import _native

_young, _middle, _old = gc.get_threshold()
_USUAL = (10_000, _middle, _old)
_IMPORTING = (10_000, 10 * _middle, _old)
_worker_threads: set[int] = set()


def prepare() -> None:
    """Begin."""
    gc.set_threshold(*_USUAL)
    gc.callbacks.append(_collected)


def note_thread() -> None:
    """Have this thread, which takes calls, have long time slices while it imports."""
    _worker_threads.add(get_ident())


def forget_thread() -> None:
    """It takes no more."""
    _worker_threads.discard(get_ident())


def _collected(phase: str, info: dict[str, int]) -> None:
    if phase == "stop" and (now := gc.get_threshold()) in (_USUAL, _IMPORTING):
        imports = _imports()
        if get_ident() in _worker_threads:
            _native.want_long_slices(imports)
        wanted = _IMPORTING if imports else _USUAL
        if wanted != now:
            gc.set_threshold(*wanted)


def _imports() -> bool:
    """Whether this thread is importing."""
    frame = sys._getframe()
    while (caller := frame.f_back) is not None:
        if caller.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = caller
    return False
