"""Objects that stand for something in the core, and travel as that: handles, futures, open packages.

Problem: a handle of an actor, or a future of a call, is a Python object of one interpreter, but what it
stands for belongs to no interpreter. It should arrive in another one as a handle or future of the same
thing, at the cost of a reference, wherever it sits inside a value.

Model: a class registers how its instances are taken apart, into something of `_native` that can be attached
to a payload and a tuple of plain data, and how they are put together again. `messagepack` and `pickles` ask
here. The dependence goes from the classes to this module, which knows none of them.

Threads: any; the tables only grow.
"""

from __future__ import annotations

TYPE_CHECKING = False  # importing typing would take longer than all of this
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from multipy_actors._native import Attachment

__all__ = ["is_attachable", "put_together", "register", "take_apart"]

_take_apart: dict[type, Callable[[Any], tuple[Attachment, tuple[Any, ...]]]] = {}
_put_together: dict[str, Callable[..., Any]] = {}
# Which module registers for what is attached, as the receiver may not have imported it yet.
_homes = {
    "Actor": "multipy_actors.actors.handle",
    "Call": "multipy_actors.futures",
    "SharedTensor": "multipy_actors.worker.torch_packages",
}


def register(
    cls: type,
    kind: str,
    take_apart: Callable[[Any], tuple[Attachment, tuple[Any, ...]]],
    put_together: Callable[..., Any],
) -> None:
    """Have instances of `cls` travel as a `kind` of attachment and some plain data."""
    _take_apart[cls] = take_apart
    _put_together[kind] = put_together


def is_attachable(cls: type) -> bool:
    """Say whether instances of exactly `cls` travel so."""
    return cls in _take_apart


def take_apart(obj: Any) -> tuple[Attachment, tuple[Any, ...]]:
    """Return what `obj` stands for, and what else there is to say of it."""
    return _take_apart[type(obj)](obj)


def put_together(attachment: Attachment, *rest: Any) -> Any:
    """Return an object that stands for `attachment` here."""
    kind = type(attachment).__name__
    if kind not in _put_together:
        __import__(_homes[kind])
    return _put_together[kind](attachment, *rest)
