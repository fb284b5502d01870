"""Classes of values that tests send, and `same`, which tells whether a value has arrived.

`same(sent, received)` is equality as the library promises it: the exact type at every level, nan equal to
nan, -0.0 different from 0.0, time zones and folds compared, tensors by dtype, shape, strides, contents and
flags. The classes are importable by name, as a user's own modules would be; workers import this module, so
it imports little.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime
import enum
import math
import struct
import sys
from typing import Any, NamedTuple

__all__ = [
    "Access",
    "Colour",
    "Items",
    "Level",
    "Number",
    "Pair",
    "Point",
    "Record",
    "Text",
    "contents",
    "same",
]


class Colour(enum.Enum):
    RED = "red"
    GREEN = ("g", 1)


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Access(enum.Flag):
    READ = 1
    WRITE = 2


class Pair(NamedTuple):
    first: Any
    second: Any


@dataclasses.dataclass
class Record:
    name: Any
    items: Any = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True)
class Point:
    x: Any
    y: Any


class Text(str):
    pass


class Number(int):
    pass


class Items(list):  # type: ignore[type-arg]
    pass


def same(sent: Any, received: Any) -> bool:
    """Say whether `received` is what `sent` promises to arrive as."""
    if type(sent) is not type(received):
        return False
    if isinstance(sent, float):
        return struct.pack("d", sent) == struct.pack("d", received) or (
            math.isnan(sent) and math.isnan(received)
        )
    if isinstance(sent, complex):
        return same(sent.real, received.real) and same(sent.imag, received.imag)
    if isinstance(sent, (list, tuple, collections.deque)):
        return len(sent) == len(received) and all(map(same, sent, received))
    if isinstance(sent, dict):
        return same(list(sent.items()), list(received.items()))
    if isinstance(sent, (set, frozenset)):
        return len(sent) == len(received) and all(any(same(a, b) for b in received) for a in sent)
    if isinstance(sent, memoryview):
        what = ("format", "shape", "readonly")
        return sent.tobytes() == received.tobytes() and all(
            getattr(sent, a) == getattr(received, a) for a in what
        )
    if isinstance(sent, (datetime.datetime, datetime.time)):
        return (
            sent.replace(tzinfo=None) == received.replace(tzinfo=None)
            and sent.fold == received.fold
            and sent.utcoffset() == received.utcoffset()
            and repr(sent.tzinfo) == repr(received.tzinfo)
        )
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None and isinstance(sent, numpy.generic):
        return bool(sent.dtype == received.dtype) and sent.tobytes() == received.tobytes()
    if numpy is not None and isinstance(sent, numpy.ndarray):
        return _same_array(sent, received)
    if type(sent).__module__.partition(".")[0] == "torch" and hasattr(sent, "requires_grad"):
        return _same_tensor(sent, received)
    if dataclasses.is_dataclass(sent) and not isinstance(sent, type):
        return all(same(getattr(sent, f.name), getattr(received, f.name)) for f in dataclasses.fields(sent))
    return bool(sent == received)


def _same_array(sent: Any, received: Any) -> bool:
    if sent.dtype != received.dtype or sent.dtype.char != received.dtype.char:
        return False
    if sent.shape != received.shape or sent.strides != received.strides:
        return False
    if sent.flags.writeable != received.flags.writeable:
        return False
    return sent.tobytes() == received.tobytes()


def _same_tensor(sent: Any, received: Any) -> bool:
    if (sent.dtype, sent.shape, sent.device) != (received.dtype, received.shape, received.device):
        return False
    if sent.stride() != received.stride() or sent.requires_grad != received.requires_grad:
        return False
    if sent.data_ptr() == received.data_ptr():
        return True
    return contents(sent) == contents(received)


def contents(tensor: Any) -> list[int]:
    """Return the bytes of the items of a tensor of any dtype and layout."""
    import torch

    flat = torch.empty(tensor.numel(), dtype=tensor.dtype)
    flat.copy_(tensor.detach().reshape(-1))
    return list(flat.view(torch.uint8).tolist())
