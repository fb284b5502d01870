"""bytes, bytearray and memoryview: handed over by reference where that pays, and rebuilt in their own type.

Problem: all three are blocks of memory that should not be copied on their way, but the memory of a bytes or
bytearray object is part of an object of one interpreter, so the receiver's has to be filled, once. A
memoryview can look at memory that is somewhere else.

Model: `take_apart` gives what is to be sent for a buffer: contents, in bytes or as the number of an
attachment that refers to the sender's object, and what it is. Large bytes and bytearrays, and every
contiguous memoryview, go by reference: sender and receiver of a memoryview see the same memory, and a
bytearray cannot be resized until its receiver has taken it. `put_together` is the inverse. Pickle would copy
large ones without asking, so `boxed` puts them into boxes.

Threads: any; no state.
"""

from __future__ import annotations

from multipy_actors._native import SharedTensor

TYPE_CHECKING = False  # importing typing would take longer than all of this
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from multipy_actors.wire.tensors import Incoming, Outgoing

__all__ = ["SHARED_FROM", "Box", "boxed", "put_together", "take_apart"]

SHARED_FROM = 1 << 15  # bytes; below, copying twice is cheaper than a reference

_MOST_DEPTH = 150  # of containers that are rebuilt
_CONTAINERS = frozenset((list, dict, tuple, set, frozenset))
_FORMATS = "cbB?hHiIlLqQnNfd"  # what memoryview.cast can make


class Box:
    """Stands for a bytes or bytearray object in a value that is about to be pickled."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def take_apart(value: Any, outgoing: Outgoing) -> tuple[Any, ...]:
    """Return contents (bytes, or the index of an attachment) and kind; for a memoryview, more to rebuild it.

    Raises TypeError for a memoryview that cannot be rebuilt.
    """
    if type(value) is not memoryview:
        large = len(value) >= SHARED_FROM and not outgoing.copy
        contents = outgoing.attach(SharedTensor.of_buffer(value)) if large else bytes(value)
        return contents, type(value) is bytearray
    code = value.format.lstrip("@")
    if len(code) != 1 or code not in _FORMATS or (value.ndim > 1 and value.nbytes == 0):
        text = f"a memoryview of format {value.format!r} and shape {value.shape} cannot be rebuilt"
        raise TypeError(text)
    share = value.c_contiguous and value.nbytes > 0 and not outgoing.copy
    view = outgoing.attach(SharedTensor.of_buffer(value)) if share else value.tobytes()
    return view, value.readonly, code, list(value.shape or ())


def put_together(incoming: Incoming, contents: Any, *rest: Any) -> Any:
    """Return the buffer that was taken apart."""
    memory: Any = incoming.shared[contents] if type(contents) is int else contents
    if len(rest) == 1:
        return bytearray(memory) if rest[0] else bytes(memory)
    readonly, code, shape = rest
    if type(contents) is not int and not readonly:
        memory = bytearray(memory)
    view: Any = memoryview(memory)
    # cast() takes no zeros in a shape.
    return view.cast(code) if shape == [0] else view.cast(code, shape)


class _Unfit(Exception):
    """A value that cannot be rebuilt with boxes in it."""


def boxed(value: Any) -> Any:
    """Return `value` with boxes around its large buffers."""
    try:
        return _boxed(value, _MOST_DEPTH, {})
    except _Unfit:
        return value


def _boxed(value: Any, depth: int, known: dict[int, Any]) -> Any:
    """Return `value`, those containers rebuilt that lead to a large buffer, in which there is a box.

    `known` has what became of containers met before, and None while one is being rebuilt. May raise _Unfit.
    """
    kind = type(value)
    if kind is bytes or kind is bytearray:
        return Box(value) if len(value) >= SHARED_FROM else value
    if kind not in _CONTAINERS:
        return value
    if id(value) in known:
        if known[id(value)] is None:
            raise _Unfit("it contains itself")
        return known[id(value)]
    if depth == 0:
        raise _Unfit("nested too deeply")
    known[id(value)] = None
    items = [_boxed(item, depth - 1, known) for item in value]
    same = _are_same(items, value)
    rebuilt = value
    if kind is dict:
        contents = [_boxed(item, depth - 1, known) for item in value.values()]
        if not (same and _are_same(contents, value.values())):
            rebuilt = dict(zip(items, contents, strict=True))
    elif not same:
        rebuilt = kind(items)
    known[id(value)] = rebuilt
    return rebuilt


def _are_same(items: Iterable[Any], others: Iterable[Any]) -> bool:
    return all(item is other for item, other in zip(items, others, strict=True))
