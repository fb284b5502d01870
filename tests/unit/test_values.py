"""What arrives equals what was sent, type included, to any depth; what cannot be sent is named."""

from __future__ import annotations

import collections
import datetime
import functools
import gc
import subprocess
import sys
import textwrap
import threading
import types

import msgpack
import numpy
import pytest
from hypothesis import given, settings
from strategies import (
    Colour,
    Level,
    Number,
    Pair,
    Point,
    Record,
    Text,
    hashables,
    same,
    values,
)

from multipy_actors.errors import SerializationError
from multipy_actors.wire import decode, encode, encode_call

modest = settings(deadline=None, max_examples=150)


def travelled(value):
    return decode(*encode(value))


def is_pickled(value):
    data, _ = encode(value)
    return data[:2] == b"\x80\x05"


# Data ------------------------------------------------------------------------------------------------------


@modest
@given(values())
def test_a_value_arrives_as_what_was_sent(value):
    assert same(value, travelled(value))


@modest
@given(hashables())
def test_a_key_of_a_dict_arrives_as_what_was_sent(key):
    assert same({key: key, ("other", key): None}, travelled({key: key, ("other", key): None}))


@pytest.mark.parametrize(
    "value",
    [
        None, True, False, 0, -1, 2**64, -(2**63) - 1, 10**1000, 0.0, -0.0, float("inf"), float("nan"),
        "", "\ud800 alone", "é\0", b"", b"\x80\x05", bytearray(b"ab"), {}, [], (), set(), frozenset(),
        ((),), [()], {(): ()}, {None: 1, True: 2, 2.5: 3, b"k": 4, ("t", ("u",)): 5, frozenset({1}): 6},
        {1: "int", "1": "str"}, (1, {"a": 2}), complex(-0.0, float("nan")),
        memoryview(b""), memoryview(bytearray(b"abcd")), memoryview(b"12345678").cast("h", (2, 2)),
        memoryview(numpy.array(2.5)), memoryview(numpy.zeros((4, 4), "i4")[::2, ::3]),
        datetime.datetime(2024, 1, 1, fold=1), datetime.timezone.utc, datetime.timedelta(-1, 1, 1),
        datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=2), "two")),
        range(3), ..., NotImplemented, slice(1, None), Level.LOW, Colour.GREEN, Pair(1, [2]), Text("t"),
        Number(3),        msgpack.ExtType(1, b""), [msgpack.ExtType(4, b""), 0], msgpack.Timestamp(1, 2),
        collections.OrderedDict(a=1), collections.Counter("aab"), collections.deque([1], 3),
        Record("r", [Point(1, (2,))]), types.SimpleNamespace(a=(1,)), int, len, Record,
        numpy.float64(1.5), numpy.longlong(3), numpy.int64(3), numpy.bool_(True), numpy.longdouble(1) / 3,
        numpy.datetime64("2024-01-01", "D"), numpy.timedelta64(3, "ms"), numpy.str_("s"), numpy.dtype("f4"),
    ],
    ids=repr,
)  # fmt: skip
def test_the_type_is_kept_exactly(value):
    assert same(value, travelled(value))
    assert same([value, (value,)], travelled([value, (value,)]))
    assert same(Record(value), travelled(Record(value)))


@pytest.mark.parametrize("value", [1, "text", [1, {"k": (1, 2)}], {1, 2}, 2**80, numpy.float32(1)], ids=repr)
def test_data_is_not_pickled(value):
    assert not is_pickled(value)


def test_a_plain_document_is_ordinary_msgpack():
    assert msgpack.unpackb(encode({"a": [1, None]})[0]) == {"a": [1, None]}


@pytest.mark.parametrize("depth", [10, 149, 151, 300])
@pytest.mark.parametrize(
    "wrap", [lambda x: [x], lambda x: (x,), lambda x: {"k": x}, lambda x: frozenset([x])]
)
def test_deep_nesting_arrives(depth, wrap):
    value = ()
    for _ in range(depth):
        value = wrap(value)
    received = travelled(value)
    for _ in range(depth):
        assert type(received) is type(value)
        (received,) = received.values() if isinstance(received, dict) else received
    assert received == ()


def test_nesting_beyond_the_recursion_limit_is_a_clear_error():
    value = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(SerializationError, match=r"^value: cannot serialize list: it is nested too deeply$"):
        encode(value)


def test_a_value_that_contains_itself_arrives_so():
    value = [1]
    value.append({"self": value})
    received = travelled(value)
    assert received[0] == 1
    assert received[1]["self"] is received


def test_a_value_that_doubles_at_each_level_stays_small():
    value = []
    for _ in range(60):
        value = [value, value]
    data, _ = encode(value)
    assert len(data) < 10_000


def test_data_is_encoded_while_a_finaliser_encodes_something_else():
    class Encoding:
        def __init__(self):
            self.me = self

        def __del__(self):
            seen.append(travelled((1, (2, 3))))

        def __reduce__(self):
            Encoding()
            gc.collect()
            return (int, ("7",))

    seen = []
    assert travelled([Encoding(), 1]) == [7, 1]
    assert seen
    assert all(value == (1, (2, 3)) for value in seen)


def test_many_threads_encode_at_once():
    failures = []

    def work(number):
        value = (number, {"k": [(number,) * 3, {number}]})
        for _ in range(300):
            if travelled(value) != value:
                failures.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_bytes_of_many_megabytes_arrive():
    value = (b"x" * (3 << 20), bytearray(2 << 20))
    assert same(value, travelled(value))


# Objects ---------------------------------------------------------------------------------------------------


def test_a_local_class_a_lambda_and_a_closure_arrive_by_value():
    class Local:
        def __init__(self, number):
            self.number = number

    factor = 3
    assert travelled(lambda number: number * factor)(2) == 6
    assert travelled(Local(5)).number == 5
    assert travelled([functools.partial(pow, 2)])[0](5) == 32


def test_what_functools_makes_of_local_functions_arrives():
    @functools.lru_cache(maxsize=7)
    def fibonacci(n):
        return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

    @functools.singledispatch
    def total(value):
        return value

    @total.register(list)
    def _(value):
        return sum(total(item) for item in value)

    class Sample:
        @functools.cached_property
        def size(self):
            return 3

        @functools.cache  # noqa: B019
        def twice(self, n):
            return 2 * n

        @functools.singledispatchmethod
        def kind(self, value):
            return "object"

        @kind.register
        def _(self, value: int):
            return "int"

    fibonacci(10)
    received = travelled(fibonacci)
    assert received is not fibonacci and received.cache_info().currsize == 0
    assert received(30) == 832040 and received.cache_info()[2:] == (7, 7) and received.__name__ == "fibonacci"
    assert travelled(total)([1, [2, 3]]) == 6
    sample = travelled(Sample)()
    assert (sample.size, sample.size, sample.twice(2), sample.kind(1), sample.kind("")) == (
        3,
        3,
        4,
        "int",
        "object",
    )


def test_an_importable_function_arrives_as_itself():
    assert travelled(textwrap.dedent) is textwrap.dedent


def test_identity_within_an_object_is_kept():
    shared = [1]
    received = travelled(Record(shared, shared))
    assert received.name is received.items


# Errors ----------------------------------------------------------------------------------------------------


class Holder:
    def __init__(self, handle):
        self.handle = handle


class Slotted:
    __slots__ = ("lock",)


def a_slotted_lock():
    value = Slotted()
    value.lock = threading.Lock()
    return value


def a_closure_over(lock):
    return lambda: lock


class Leaving:
    """Leaves its lock out, and not the other thing."""

    def __init__(self, other):
        self.lock = threading.Lock()
        self.other = other

    def __getstate__(self):
        return {"other": self.other}


class Reduced:
    def __init__(self, part):
        self.lock = threading.Lock()
        self.part = part

    def __reduce__(self):
        return Reduced, (self.part,)


class Numbered(list):
    def __init__(self, items, lock):
        super().__init__(items)
        self.lock = lock


class Circular:
    def __init__(self, lock):
        self.itself = [self]
        self.lock = lock


def a_class_with(lock):
    class Local(Holder):
        def method(self):
            return super().__repr__()  # its closure holds the class

        held = lock

    return Local


def a_function_with_a_global(lock):
    namespace = {"held": lock, "handle": threading.Lock()}
    exec("def function(box):\n    return (held, box.handle)", namespace)
    return namespace["function"]


@pytest.mark.parametrize(
    ("argument", "path"),
    [
        (threading.Lock(), "argument 1"),
        (Leaving([threading.Lock()]), "argument 1.other[0]"),
        (Reduced({"a": threading.Lock()}), "argument 1.part['a']"),
        (Numbered([1, threading.Lock()], None), "argument 1[1]"),
        (Numbered([1], threading.Lock()), "argument 1.lock"),
        (Circular(threading.Lock()), "argument 1.lock"),
        (a_class_with(threading.Lock()), "argument 1.held"),
        (a_function_with_a_global(threading.Lock()), "argument 1 global 'held'"),
        (ValueError("text", threading.Lock()), "argument 1.args[1]"),
        ({"lock": [Holder(threading.Lock())]}, "argument 1['lock'][0].handle"),
        ((1, Record({"k": threading.Lock()})), "argument 1[1].name['k']"),
        ([a_slotted_lock()], "argument 1[0].lock"),
        (a_closure_over(threading.Lock()), "argument 1 captured variable 'lock'"),
        (functools.partial(print, threading.Lock()), "argument 1.args[0]"),
        (Holder(Holder(threading.Lock())), "argument 1.handle.handle"),
    ],
)
def test_an_error_names_the_path_to_what_cannot_be_sent(argument, path):
    with pytest.raises(SerializationError) as caught:
        encode_call("method", (0, argument), {})
    assert str(caught.value) == f"{path}: cannot serialize _thread.lock: cannot pickle '_thread.lock' object"
    assert isinstance(caught.value, TypeError)


def test_an_error_names_a_keyword_argument():
    with pytest.raises(SerializationError, match=r"^argument 'key'\[1\]: cannot serialize _thread.lock"):
        encode_call("method", (), {"fine": 1, "key": [0, threading.Lock()]})


def test_an_error_names_what_the_caller_calls_the_value():
    with pytest.raises(SerializationError, match=r"^the result\.handle: "):
        encode(Holder(threading.Lock()), what="the result")


def test_an_object_with_a_broken_reduce_is_named_itself():
    class Broken:
        def __reduce__(self):
            raise ValueError("not me")

    with pytest.raises(SerializationError, match=r"^value\[0\]: cannot serialize .*Broken: not me$"):
        encode([Broken()])


def test_a_memoryview_of_an_exotic_format_is_an_error():
    with pytest.raises(SerializationError, match="memoryview of format"):
        encode([memoryview(numpy.zeros(2, [("a", "i4")]))])


@pytest.mark.parametrize("mode", ["r", "rb"])
def test_an_open_file_is_refused_whatever_its_kind(mode):
    with open(__file__, mode) as file, pytest.raises(SerializationError, match=r"value\[0\]"):
        encode([file])


def test_a_value_that_cannot_be_rebuilt_here_is_an_error():
    module = types.ModuleType("a_module_of_the_sender")
    exec("class Thing: pass", module.__dict__)
    sys.modules[module.__name__] = module
    data, shared = encode(module.Thing())
    del sys.modules[module.__name__]
    with pytest.raises(SerializationError, match="No module named 'a_module_of_the_sender'"):
        decode(data, shared)


@pytest.mark.parametrize("data", [b"", b"\x92", b"\x80\x05", b"\xc1"])
def test_bytes_that_are_no_value_are_an_error(data):
    with pytest.raises(SerializationError):
        decode(data, [])


def test_importing_values_imports_nothing_heavy(tmp_path):
    code = """
        import sys
        from multipy_actors import wire
        wire.decode(*wire.encode((1, {"a": {2}})))
        print({"torch", "numpy", "cloudpickle", "pickle", "dataclasses", "inspect"} & set(sys.modules))
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == "set()\n"
