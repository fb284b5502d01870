"""Interrupts inside an interpreter, as far as they are Python's: see native/bindings/interrupts.h.

Problem: Python cannot pass on what is raised in a finaliser, in a callback of a weak reference or of the
garbage collector: it prints it and goes on. An interrupt that falls there would be lost.

Model: the hook that Python calls then has the interrupt raised again, in what comes after.

Threads: the hook runs on the thread on which the exception was dropped.
"""

from __future__ import annotations

import sys

from multipy_actors import _native
from multipy_actors.modules import imported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["is_interruption", "prepare"]


def prepare() -> None:
    """Begin, on the worker thread."""
    sys.unraisablehook = _dropped


def is_interruption(error: BaseException | None) -> bool:
    """Say whether `error` is an interrupt of a call of this interpreter."""
    errors: Any = imported("multipy_actors.errors")
    return errors is not None and isinstance(error, errors.Interruption)


def _dropped(unraisable: sys.UnraisableHookArgs, report: Any = sys.unraisablehook) -> None:
    if not is_interruption(unraisable.exc_value):
        report(unraisable)
        return
    loop: Any = imported("multipy_actors.worker.event_loop")
    if loop is None or not loop.raise_again():
        _native.raise_again()
