"""How often an interpreter looks for garbage: less often than Python does, and least while it imports.

Problem: big packages are imported in every interpreter anew. What they make stays, yet Python looks through
it over and over: a tenth of the time that `import torch` takes, to find a few kilobytes.

Model: the youngest objects are looked at as often as always here, fourteen times less often than Python does.
The older ones are left alone ten times as long while an import goes on, which the collector itself notices:
it calls `_collected` after each look, and that sees whether importlib is at work among the callers.

Guarantees: nothing is switched off, so an import that never ends, as of a server that runs in it, loses no
memory. Code that sets thresholds of its own keeps them.

Rejected: `gc.freeze()` after an import, which makes later looks cheaper; but what is in a cycle and unused by
then would never be freed.
"""

from __future__ import annotations

import gc
import sys

_young, _middle, _old = gc.get_threshold()
_USUAL = (10_000, _middle, _old)
_IMPORTING = (10_000, 10 * _middle, _old)


def prepare() -> None:
    gc.set_threshold(*_USUAL)
    gc.callbacks.append(_collected)


def _collected(phase: str, info: dict[str, int]) -> None:
    if phase == "stop" and (now := gc.get_threshold()) in (_USUAL, _IMPORTING):
        wanted = _IMPORTING if _imports() else _USUAL
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
