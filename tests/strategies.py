"""Hypothesis strategies for everything that may be sent, and `same`, which tells whether it has arrived.

`values()` draws nested values of all the kinds that the public API lists, `arrays()` NumPy arrays and
`tensors()` torch tensors of every memory layout. `same(sent, received)` is equality as the library promises
it: the exact type at every level, nan equal to nan, -0.0 different from 0.0, time zones and folds compared,
tensors by dtype, shape, strides, contents and flags. The classes here are importable by name, as a user's
own modules would be.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime
import enum
import fractions
import math
import struct
from typing import Any, NamedTuple

import numpy
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

__all__ = ["arrays", "contents", "hashables", "same", "tensors", "values"]


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
    if isinstance(sent, numpy.generic):
        return sent.dtype == received.dtype and sent.tobytes() == received.tobytes()
    if isinstance(sent, numpy.ndarray):
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


def _atoms(nan: bool = True) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.integers(min_value=-(2**70), max_value=2**70),
        st.sampled_from([2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**400]),
        st.floats(allow_nan=nan),
        st.complex_numbers(allow_nan=nan),
        st.text(st.characters(exclude_categories=()), max_size=8),
        st.binary(max_size=40),
        st.dates(),
        st.times(timezones=st.none() | st.just(datetime.timezone.utc)),
        st.datetimes(timezones=st.none() | st.just(datetime.timezone.utc) | st.timezones()),
        st.timedeltas(),
        st.decimals(allow_nan=False),
        st.fractions().map(fractions.Fraction),
        st.uuids(),
        st.sampled_from([Colour.RED, Colour.GREEN, Level.LOW, Level.HIGH, Access.READ | Access.WRITE]),
        st.builds(range, st.integers(-5, 5), st.integers(-5, 5)),
        st.sampled_from([..., NotImplemented, int, Record, len, math.sin, datetime.timezone.utc]),
        st.builds(Text, st.text(max_size=3)),
        st.builds(Number, st.integers()),
    )


def _scalars() -> st.SearchStrategy[Any]:
    numbers = hnp.scalar_dtypes().filter(lambda dtype: dtype.kind != "O")
    return numbers.flatmap(lambda dtype: hnp.arrays(dtype, ())).map(lambda array: array[()])


def hashables() -> st.SearchStrategy[Any]:
    """Draw what may be a key of a dict; without nan, which is not equal to itself."""
    return st.recursive(
        _atoms(nan=False),
        lambda inner: st.one_of(
            st.tuples(inner, inner), st.frozensets(inner, max_size=3), st.builds(Pair, inner, inner)
        ),
        max_leaves=4,
    )


def values() -> st.SearchStrategy[Any]:
    """Draw a nested value of anything that may be sent, tensors aside."""
    leaves = st.one_of(
        _atoms(),
        _scalars(),
        st.binary(max_size=20).map(bytearray),
        st.binary(max_size=20).map(memoryview),
        st.binary(max_size=3).map(lambda data: memoryview(bytearray(data * 8)).cast("d")),
    )
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=4),
            st.lists(inner, max_size=4).map(tuple),
            st.dictionaries(hashables(), inner, max_size=4),
            st.sets(hashables(), max_size=4),
            st.frozensets(hashables(), max_size=4),
            st.builds(Pair, inner, inner),
            st.builds(Record, inner, inner),
            st.builds(Point, inner, inner),
            st.lists(inner, max_size=3).map(Items),
            st.lists(inner, max_size=3).map(collections.deque),
            st.dictionaries(st.text(max_size=3), inner, max_size=3).map(collections.OrderedDict),
        ),
        max_leaves=12,
    )


def _relaid(draw: st.DrawFn, array: Any, reversible: bool) -> Any:
    """Change the layout of a tensor or an array, not its memory."""
    for step in draw(
        st.lists(st.sampled_from(["transpose", "slice", "expand", "reverse", "index"]), max_size=3)
    ):
        ndim = len(array.shape)
        if step == "transpose" and ndim > 1:
            array = array.swapaxes(0, ndim - 1)
        elif step == "slice" and ndim:
            array = array[draw(st.integers(0, 2)) :: draw(st.integers(1, 3))]
        elif step == "reverse" and ndim and reversible:
            array = array[::-1]
        elif step == "index" and ndim and array.shape[0]:
            array = array[0:1, ...] if draw(st.booleans()) else array[..., 0:1]
        elif step == "expand" and ndim < 4:
            array = array[None, ...]
            if reversible:
                array = numpy.broadcast_to(array, (3, *array.shape[1:]))
            else:
                array = array.expand(3, *array.shape[1:])
    return array


@st.composite
def arrays(draw: st.DrawFn) -> Any:
    """Draw a NumPy array of any dtype but objects, in any layout, perhaps read-only."""
    dtype = draw(
        st.one_of(
            hnp.scalar_dtypes(),
            hnp.byte_string_dtypes(max_len=5),
            hnp.unicode_string_dtypes(max_len=5),
            st.sampled_from([numpy.dtype(c) for c in "qQgG"]),
            st.just(numpy.dtype([("a", "<i2"), ("b", ">f8"), ("c", "S3")])),
        ).filter(lambda dtype: dtype.kind != "O")
    )
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    size = math.prod(shape) * dtype.itemsize
    # Ones and zeros are valid items of every dtype, and of long double's padding too.
    raw = draw(st.binary(min_size=size, max_size=size)) if dtype.kind in "iufcSmM" else b"\0" * size
    array = numpy.frombuffer(bytearray(raw), dtype).reshape(shape) if size else numpy.zeros(shape, dtype)
    array = _relaid(draw, array, True)
    if draw(st.booleans()):
        array.flags.writeable = False
    return array


@st.composite
def tensors(draw: st.DrawFn) -> Any:
    """Draw a torch tensor of any dtype and layout, perhaps a Parameter or one that requires gradients."""
    import torch

    names = "bool uint8 int8 int16 int32 int64 uint16 float16 bfloat16 float32 float64 complex64 complex128"
    dtype = getattr(torch, draw(st.sampled_from([*names.split(), "float8_e4m3fn", "float8_e5m2"])))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    size = math.prod(shape) * dtype.itemsize
    raw = draw(st.lists(st.integers(0, 1 if dtype is torch.bool else 255), min_size=size, max_size=size))
    tensor = (
        torch.tensor(raw, dtype=torch.uint8).view(dtype).reshape(shape)
        if raw
        else torch.zeros(shape, dtype=dtype)
    )
    tensor = _relaid(draw, tensor, False)
    if dtype.is_complex and draw(st.booleans()):
        tensor = tensor.conj()
    if (dtype.is_floating_point and dtype.itemsize > 1) or dtype.is_complex:
        kind = draw(st.sampled_from(["plain", "leaf", "inner", "parameter", "frozen"]))
        if kind == "leaf":
            tensor = tensor.detach().requires_grad_()
        elif kind == "inner":
            tensor = tensor.detach().requires_grad_().view(tensor.shape)
        elif kind in ("parameter", "frozen"):
            tensor = torch.nn.Parameter(tensor.detach(), kind == "parameter")
    return tensor
