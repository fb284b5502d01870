"""Documents are MessagePack: what `_native` writes, another implementation reads, and the other way round."""

import contextlib

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multipy_actors import _native

NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.sampled_from(
    [
        sign * (2**power + more)
        for power in (0, 5, 7, 8, 15, 16, 31, 32)
        for sign in (1, -1)
        for more in (-1, 0, 1)
    ]
)
LENGTHS = (0, 15, 16, 31, 32, 255, 256, 65535, 65536)
PLAIN = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | NUMBERS, inner),
)


def refuse(value, context):
    raise TypeError(type(value).__name__)


def extension(code, data):
    return msgpack.ExtType(code, data)


def unpack(data):
    return _native.unpack(data, extension, None)


@given(PLAIN)
def test_plain_values_are_written_and_read_as_another_implementation_does(value):
    data = _native.pack(value, refuse, None)
    assert data == msgpack.packb(value)
    assert unpack(data) == value


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(
    "of_length", [lambda n: "x" * n, bytes, lambda n: [None] * n, lambda n: dict.fromkeys(range(n))]
)
def test_every_length_has_its_head(of_length, length):
    value = of_length(length)
    data = _native.pack(value, refuse, None)
    assert data == msgpack.packb(value)
    assert unpack(data) == value


@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 8, 15, 16, 17, 255, 256, 65536])
def test_extensions_of_every_length_arrive(length):
    data = _native.pack(_native.Extension(5, bytes(length)), refuse, None)
    assert data == msgpack.packb(msgpack.ExtType(5, bytes(length)))
    assert unpack(data) == msgpack.ExtType(5, bytes(length))


def test_numbers_of_half_the_precision_are_read():
    assert unpack(msgpack.packb(0.5, use_single_float=True)) == 0.5


def test_what_is_not_plain_is_converted_with_its_context():
    class Number(int):
        pass

    asked = []

    def convert(value, context):
        asked.append((value, context))
        return [_native.Extension(1, b""), str(value)]

    data = _native.pack([Number(3), 2**64, (4,)], convert, "context")
    assert asked == [(3, "context"), (2**64, "context"), ((4,), "context")]
    assert unpack(data)[2] == [msgpack.ExtType(1, b""), "(4,)"]


def test_what_a_value_is_converted_to_must_be_plain():
    with pytest.raises(TypeError, match="not plain"):
        _native.pack((), lambda value, context: value, None)


@pytest.mark.parametrize("grow", [list.clear, lambda items: items.append(1)])
def test_a_list_that_changes_while_it_is_written_is_an_error(grow):
    items = [(), 1, 2]
    with pytest.raises(RuntimeError, match="changed"):
        _native.pack(items, lambda value, context: grow(items), None)


@pytest.mark.parametrize("change", [dict.clear, lambda items: items.update({9: 9})])
def test_a_dict_that_changes_while_it_is_written_is_an_error(change):
    items = {1: (), 2: 2}
    with pytest.raises(RuntimeError, match="changed"):
        _native.pack(items, lambda value, context: change(items), None)


def test_a_text_that_is_no_unicode_is_an_error():
    with pytest.raises(UnicodeEncodeError):
        _native.pack(["\ud800"], refuse, None)


def test_a_value_that_contains_itself_ends_in_an_error():
    items = []
    items.append(items)
    with pytest.raises(RecursionError):
        _native.pack(items, refuse, None)
    with pytest.raises(RecursionError):
        unpack(b"\x91" * 1_000_000 + b"\xc0")


def test_lists_are_what_is_returned_for_them():
    assert _native.unpack(msgpack.packb([1, [2, [3]]]), extension, tuple) == (1, (2, (3,)))


@given(PLAIN, st.data())
def test_a_document_that_is_cut_off_or_goes_on_is_refused(value, data):
    document = msgpack.packb(value)
    kept = data.draw(st.integers(0, len(document) - 1))
    for damaged in (document[:kept], document + b"\xc0"):
        with pytest.raises(ValueError, match="not a document"):
            unpack(damaged)


@given(st.binary())
def test_any_bytes_are_read_or_refused(data):
    with contextlib.suppress(ValueError, TypeError):  # a key that cannot be one is a TypeError
        unpack(data)
