"""Documents are MessagePack: what `_native` writes, another implementation reads, and the other way round."""

import contextlib
import datetime
import functools
import pickle

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


READERS = {code: functools.partial(msgpack.ExtType, code) for code in range(128)}


TAG = 9
LARGE = 1 << 20


def pack(value, writers=(), context=None, large=LARGE):
    return _native.pack(value, dict(writers), context, TAG, large)


def unpack(data):
    return _native.unpack(data, READERS, {}, None)


@given(PLAIN)
def test_plain_values_are_written_and_read_as_another_implementation_does(value):
    data = pack(value)
    assert data == msgpack.packb(value)
    assert unpack(data) == value


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(
    "of_length", [lambda n: "x" * n, bytes, lambda n: [None] * n, lambda n: dict.fromkeys(range(n))]
)
def test_every_length_has_its_head(of_length, length):
    value = of_length(length)
    data = pack(value)
    assert data == msgpack.packb(value)
    assert unpack(data) == value


@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 8, 15, 16, 17, 255, 256, 65536])
def test_extensions_of_every_length_arrive(length):
    data = pack(1j, {complex: lambda value, context: _native.Extension(5, bytes(length))})
    expected = [msgpack.ExtType(TAG, b""), msgpack.ExtType(5, bytes(length))]
    assert data == msgpack.packb(expected)
    assert unpack(data) == expected


def test_numbers_of_half_the_precision_are_read():
    assert unpack(msgpack.packb(0.5, use_single_float=True)) == 0.5


def test_what_is_not_plain_is_converted_with_its_context():
    class Number(int):
        pass

    asked = []

    def convert(value, context):
        asked.append((value, context))
        return [_native.Extension(11, b""), str(value)]

    data = pack([Number(3), 2**64, 4j], dict.fromkeys((Number, int, complex), convert), "context")
    assert asked == [(3, "context"), (2**64, "context"), (4j, "context")]
    tag, value = unpack(data)
    assert tag == msgpack.ExtType(TAG, b"")
    assert value[2] == [msgpack.ExtType(11, b""), "4j"]


def test_long_bytes_are_converted():
    data = pack([b"four", b"fives"], {bytes: lambda value, context: len(value)}, large=5)
    assert unpack(data) == [msgpack.ExtType(TAG, b""), [b"four", 5]]


def test_what_a_value_is_converted_to_must_be_plain():
    with pytest.raises(TypeError, match="not plain"):
        pack(1j, {complex: lambda value, context: value})


@pytest.mark.parametrize(
    "wrap", [lambda v: [v], lambda v: (v,), lambda v: {"key": v}, lambda v: {v: 1}, lambda v: frozenset({v})]
)
def test_what_there_is_no_writer_for_is_not_packed_nor_is_any_of_the_rest(wrap):
    writers = dict.fromkeys((tuple, frozenset, complex), lambda value, context: pytest.fail("written"))
    assert pack([1j, wrap(type)], writers) is None


def test_a_writer_is_looked_for_when_its_type_is_met():
    class Learning(dict):
        def __missing__(self, kind):
            if kind is not complex:
                raise KeyError(kind)
            return lambda value, context: value.imag

    def pack(value):
        return _native.pack(value, Learning(), None, TAG, LARGE)

    assert unpack(pack([2j])) == [msgpack.ExtType(TAG, b""), [2.0]]
    assert pack([...]) is None


def test_what_nothing_finds_a_writer_for_without_an_error_is_one():
    class Broken(dict):
        def __missing__(self, kind):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        _native.pack(1j, Broken(), None, TAG, LARGE)


def test_a_value_of_many_containers_is_packed_and_one_that_repeats_them_over_and_over_is_not():
    many = [[number] for number in range(10_000)]
    assert unpack(pack(many)) == many
    repeated = [[1]] * 50
    assert unpack(pack(repeated)) == repeated
    power = []
    for _ in range(60):
        power = [power, power]
    assert pack(power) is None


def test_what_is_nested_too_deeply_is_not_packed():
    def nested(depth):
        value = 1
        for _ in range(depth):
            value = [value]
        return value

    assert unpack(pack(nested(150))) == nested(150)
    assert pack(nested(151)) is None


@pytest.mark.parametrize("grow", [list.clear, lambda items: items.append(1)])
def test_a_list_that_changes_while_it_is_written_is_an_error(grow):
    items = [1j, 1, 2]
    with pytest.raises(RuntimeError, match="changed"):
        pack(items, {complex: lambda value, context: grow(items)})


@pytest.mark.parametrize("change", [dict.clear, lambda items: items.update({9: 9})])
def test_a_dict_that_changes_while_it_is_written_is_an_error(change):
    items = {1: 1j, 2: 2}
    with pytest.raises(RuntimeError, match="changed"):
        pack(items, {complex: lambda value, context: change(items)})


def test_a_text_that_is_no_unicode_is_an_error():
    with pytest.raises(UnicodeEncodeError):
        pack(["\ud800"])


def test_a_value_without_end_is_not_packed_and_one_nested_too_deeply_not_read():
    items = []
    items.append(items)
    assert pack(items) is None
    with pytest.raises(RecursionError):
        unpack(b"\x91" * 1_000_000 + b"\xc0")


def test_a_list_that_begins_with_a_mark_is_what_is_made_of_the_rest():
    mark, other = msgpack.ExtType(11, b""), msgpack.ExtType(12, b"two")
    data = msgpack.packb([1, [mark, 2, [mark]], [other, mark]])
    makers = {11: lambda items, context: (context, *items)}
    assert _native.unpack(data, READERS, makers, "of") == [1, ("of", 2, ("of",)), [other, mark]]


DATES = (
    st.dates()
    | st.times(timezones=st.none())
    | st.timedeltas()
    | st.datetimes(timezones=st.none() | st.just(datetime.timezone.utc), allow_imaginary=False)
)


@given(st.recursive(DATES | NUMBERS, lambda inner: st.tuples(inner) | st.frozensets(inner), max_leaves=20))
def test_tuples_sets_and_dates_need_no_functions_to_arrive(value):
    # The types of dates must be known to be packed at all; of those with a time zone the function is asked.
    writers = dict.fromkeys((datetime.date, datetime.time, datetime.datetime, datetime.timedelta))
    arrived = _native.unpack(pack([value, {7, (8,)}], writers), {}, {TAG: lambda items, _: items[0]}, None)
    assert arrived == [value, {7, (8,)}] and type(arrived[0]) is type(value)


@pytest.mark.parametrize("fold", [0, 1])
def test_dates_are_what_pickle_makes_of_them(fold):
    moment = datetime.datetime(2024, 10, 27, 2, 30, 1, 65_537, fold=fold)
    for value in (moment, moment.replace(tzinfo=datetime.timezone.utc), moment.time(), moment.date()):
        tag, extension = unpack(pack(value, {type(value): None}))
        assert tag.code == TAG and extension == value and getattr(extension, "fold", fold) == fold
        assert pickle.dumps(extension) == pickle.dumps(value)


def test_a_date_with_another_time_zone_is_converted():
    zone = datetime.timezone(datetime.timedelta(hours=1))
    for value in (datetime.datetime(2024, 1, 1, tzinfo=zone), datetime.time(1, tzinfo=zone)):
        assert unpack(pack(value, {type(value): lambda value, context: "zoned"}))[1] == "zoned"


@pytest.mark.parametrize("code", range(18, 23))
def test_a_date_of_the_wrong_length_or_out_of_range_is_refused(code):
    for contents in (b"", b"\0" * 5, b"\xff" * 4, b"\xff" * 6, b"\xff" * 10, b"\x7f" * 12):
        with pytest.raises((ValueError, OverflowError)):
            unpack(msgpack.packb(msgpack.ExtType(code, contents)))


def test_a_set_of_what_cannot_be_in_one_is_refused():
    with pytest.raises(TypeError, match="unhashable"):
        unpack(msgpack.packb([msgpack.ExtType(2, b""), []]))


def test_an_extension_that_nothing_is_known_of_is_refused():
    for data in (msgpack.packb(msgpack.ExtType(11, b"")), msgpack.packb([msgpack.ExtType(11, b"")])):
        with pytest.raises(ValueError, match="not a document"):
            _native.unpack(data, {}, {}, None)


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
