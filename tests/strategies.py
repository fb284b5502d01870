"""Hypothesis strategies for everything that may be sent; sent_values compares it with what arrives.

`values()` draws nested values of all the kinds that the public API lists, `arrays()` NumPy arrays and
`tensors()` torch tensors of every memory layout.
"""

from __future__ import annotations

import collections
import datetime
import fractions
import math
from typing import Any

import numpy
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sent_values import Access, Colour, Items, Level, Number, Pair, Point, Record, Text, contents, same

__all__ = ["arrays", "contents", "hashables", "same", "tensors", "values"]


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
