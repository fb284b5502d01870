"""Data as MessagePack, with every type kept exactly.

Problem: MessagePack is fast and compact but knows nine types: with it a bytearray becomes bytes, a tuple a
list and an instance of a subclass one of its base. What arrives must equal what was sent, type included.

Model: `pack` returns a document, or None if the value must be pickled. A document is plain if the
value is made of `_PLAIN` types only, or tagged, `[TAGGED, document]`, if it also holds what `_WRITERS` knows:
tuples, sets, complex, dates, tensors, NumPy scalars, and functions and classes that their module's name leads
to. In a tagged document a container is a list whose first item is a mark, so that it is written in one pass
at any depth; the rest are extension types. A tensor is a marked list: its number in the table of attachments,
and its description; so are handles and futures.

`_native` writes and reads MessagePack, and leaves all but plain types to `_convert` and `_read_extension`.
Before packing, `_scan` looks at the exact types in the value, level by level with `gc.get_referents`,
which runs at C speed (a tenth of a recursive function in Python). Left to pickle is whatever is not known by
exact type, is nested too deeply, contains itself, or has a string that is not valid Unicode.
A list met twice in a packed value arrives as two equal lists, as from any data format.

Packing copies bytes, which large ones should not be, and has no type for other buffers. Where the scan finds
any of them, `_boxed` rebuilds the value with a `Box` around each (see buffers).

Threads: any; `_WRITERS` only grows.

Start-up: an interpreter's first call needs this module, so it imports next to nothing. What it knows of dates
it learns when it meets the first.

Guarantee: an empty dict aside, no document begins with the byte that pickles begin with.
"""

from __future__ import annotations

import sys
from gc import get_referents

from multipy_actors import _native, attached, buffers, tensors
from multipy_actors._native import Extension
from multipy_actors.tensors import Incoming, Outgoing

TYPE_CHECKING = False  # importing typing would take longer than all of this
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import timedelta
    from typing import Any

__all__ = ["boxed", "pack", "unpack"]

_TUPLE, _SET, _FROZENSET, _TENSOR, _ATTACHED, _BUFFER = 1, 2, 3, 4, 5, 6
_INT, _COMPLEX, _DATE, _TIME, _DATETIME, _DATETIME_UTC, _DELTA, _SCALAR, _REFERENCE = range(16, 25)
_TAG = 127
_MARKS = {
    code: Extension(code, b"") for code in (_TUPLE, _SET, _FROZENSET, _TENSOR, _ATTACHED, _BUFFER, _TAG)
}
_TAGGED = b"\x92\xc7\x00\x7f"  # the beginning of [_MARKS[_TAG], document]

_ATOMS = frozenset((type(None), bool, int, float, str, bytes))
_PLAIN = _ATOMS | {list, dict}
_CONTAINERS = frozenset((list, dict, tuple, set, frozenset))
_UNPACKED = frozenset((bytearray, memoryview))
_BUFFERS = _UNPACKED | {bytes}
_STRUCTURE = _ATOMS | _CONTAINERS
_MAX_DEPTH = 150  # of containers
_MANY = 64  # containers on one level, from which on it is worth looking for repeated ones


class _Unfit(Exception):
    """The value must be pickled."""


class _Unboxed(Exception):
    """There are buffers in the value that should go into boxes."""


# Writing ---------------------------------------------------------------------------------------------------


def pack(value: Any, outgoing: Outgoing) -> bytes | None:
    """Return `value` as a document, its tensors added to `outgoing`, or None if it is no pure data."""
    if type(value) in _ATOMS and type(value) is not bytes:
        tagged: bool | None = False
    else:
        try:
            tagged = _scan(value)
        except _Unboxed:
            try:
                value = _boxed(value, _MAX_DEPTH, True, {})
            except _Unfit:
                return None
            tagged = _scan(value)
    if tagged is None:
        return None
    try:
        return _native.pack([_MARKS[_TAG], value] if tagged else value, _convert, outgoing)
    except Exception:
        return None  # what packing cannot do, pickle can, or tells why not


def _scan(value: Any) -> bool | None:
    """Say whether `value` needs a tagged document, or None if something in it is for pickle."""
    kind = type(value)
    tagged = kind is tuple
    level = value if tagged or kind is list else [value]  # the first level of a call's arguments for free
    for _ in range(_MAX_DEPTH):
        found = set(map(type, level))
        if not found.isdisjoint(_BUFFERS) and (found & _UNPACKED or _has_large(level)):
            raise _Unboxed
        if not found <= _PLAIN:
            for kind in found:
                if kind not in _WRITERS and not _is_known(kind):
                    return None
            tagged = True
        if found.isdisjoint(_CONTAINERS):
            return tagged
        # Atoms refer to nothing and may stay on the level, but a tensor refers to what is not data.
        if len(level) > _MANY or not found <= _STRUCTURE:
            level = [item for item in level if type(item) in _CONTAINERS]
            # A value that refers to its parts more than once could have exponentially many.
            if len(level) > _MANY and len(set(map(id, level))) < len(level):
                return None
        level = get_referents(*level)
    return None


def _has_large(level: Any) -> bool:
    return max(map(len, [item for item in level if type(item) is bytes])) >= buffers.SHARED_FROM


def boxed(value: Any) -> Any:
    """Return `value` with boxes around its large buffers, for pickle, which would copy them."""
    try:
        return _boxed(value, _MAX_DEPTH, False, {})
    except _Unfit:
        return value


def _boxed(value: Any, depth: int, small: bool, known: dict[int, Any]) -> Any:
    """Return `value`, those containers rebuilt that lead to a buffer, in which there is a box.

    With `small`, buffers other than bytes are boxed however small. `known` has what became
    of containers met before, and None while one is being rebuilt. May raise _Unfit.
    """
    kind = type(value)
    if kind in _BUFFERS:
        large = kind is not memoryview and len(value) >= buffers.SHARED_FROM
        return buffers.Box(value) if large or (small and kind is not bytes) else value
    if kind not in _CONTAINERS:
        return value
    if id(value) in known:
        if known[id(value)] is None:
            raise _Unfit("it contains itself")
        return known[id(value)]
    if depth == 0:
        raise _Unfit("nested too deeply")
    known[id(value)] = None
    items = [_boxed(item, depth - 1, small, known) for item in value]
    same = _are_same(items, value)
    rebuilt = value
    if kind is dict:
        contents = [_boxed(item, depth - 1, small, known) for item in value.values()]
        if not (same and _are_same(contents, value.values())):
            rebuilt = dict(zip(items, contents, strict=True))
    elif not same:
        rebuilt = kind(items)
    known[id(value)] = rebuilt
    return rebuilt


def _are_same(items: Iterable[Any], others: Iterable[Any]) -> bool:
    return all(item is other for item, other in zip(items, others, strict=True))


def _is_known(kind: type) -> bool:
    if kind in _WRITERS:
        return True
    if (write := _writer_of_date(kind)) is not None:
        _WRITERS[kind] = write
        return True
    if tensors.kind_of(kind) is not None:
        _WRITERS[kind] = _write_tensor
    elif tensors.is_numpy_scalar(kind):
        _WRITERS[kind] = _write_scalar
    elif attached.is_attachable(kind):
        _WRITERS[kind] = _write_attached
    else:
        return False
    return True


def _convert(obj: Any, outgoing: Outgoing) -> Any:
    write = _WRITERS.get(type(obj))
    if write is None:
        raise _Unfit(type(obj))  # another thread has just put it there
    return write(obj, outgoing)


def _container(code: int) -> Callable[[Any, Outgoing], Any]:
    mark = _MARKS[code]
    return lambda obj, _: [mark, *obj]


def _write_tensor(obj: Any, outgoing: Outgoing) -> Any:
    if tensors.attributes(obj):
        raise _Unfit("attributes may be anything")
    index, description = outgoing.add(obj)
    return [_MARKS[_TENSOR], index, *description]


def _write_attached(obj: Any, outgoing: Outgoing) -> Any:
    attachment, rest = attached.take_apart(obj)
    return [_MARKS[_ATTACHED], outgoing.attach(attachment), *rest]


def _write_box(obj: buffers.Box, outgoing: Outgoing) -> Any:
    return [_MARKS[_BUFFER], *buffers.take_apart(obj.value, outgoing)]


def _write_int(obj: int, _: Outgoing) -> Any:
    # One of more than 64 bits, for which MessagePack has no room.
    return Extension(_INT, obj.to_bytes(obj.bit_length() // 8 + 1, "little", signed=True))


def _write_complex(obj: complex, _: Outgoing) -> Any:
    import struct

    return Extension(_COMPLEX, struct.pack("<dd", obj.real, obj.imag))


def _writer_of_date(kind: type) -> Callable[[Any, Outgoing], Any] | None:
    # A class may shadow __module__ with anything.
    if type(kind.__module__) is not str or kind.__module__ != "datetime":
        return None
    home: Any = sys.modules.get("datetime")
    writers = {
        "date": _dated(_DATE),
        "time": _dated(_TIME),
        "datetime": _dated(_DATETIME),
        "timedelta": _write_delta,
    }
    return writers.get(kind.__name__) if getattr(home, kind.__name__, None) is kind else None


def _dated(code: int) -> Callable[[Any, Outgoing], Any]:
    def write(obj: Any, _: Outgoing) -> Any:
        state = obj.__reduce_ex__(4)[1]
        if len(state) == 1:
            return Extension(code, state[0])
        if code == _DATETIME and state[1] is sys.modules["datetime"].timezone.utc:
            return Extension(_DATETIME_UTC, state[0])
        raise _Unfit("a time zone may be anything")

    return write


def _write_delta(obj: timedelta, _: Outgoing) -> Any:
    import struct

    return Extension(_DELTA, struct.pack("<iii", obj.days, obj.seconds, obj.microseconds))


# The script, which others cannot import: its name, and that in a process that multiprocessing has spawned.
_SCRIPTS = frozenset(("__main__", "__mp_main__"))


def _write_reference(obj: Any, _: Outgoing) -> Any:
    # As cloudpickle decides what travels by name, but without it: importing it takes longer than most calls.
    module = obj.__module__
    if type(module) is not str or module in _SCRIPTS or not _is_found(obj, module, obj.__qualname__):
        raise _Unfit("not what an import of its module would give")
    cloudpickle = sys.modules.get("cloudpickle")
    if cloudpickle is not None and cloudpickle.list_registry_pickle_by_value() - _SCRIPTS:
        raise _Unfit("it may have been registered to travel by value")
    return Extension(_REFERENCE, f"{module}\n{obj.__qualname__}".encode())


def _is_found(obj: Any, module: str, qualname: str) -> bool:
    found: Any = sys.modules.get(module)
    for name in qualname.split("."):
        found = getattr(found, name, None)
    return found is obj


def _read_reference(data: bytes) -> Any:
    module, qualname = data.decode().split("\n")
    __import__(module)
    found: Any = sys.modules[module]
    for name in qualname.split("."):
        found = getattr(found, name)
    return found


def _write_scalar(obj: Any, _: Outgoing) -> Any:
    return Extension(_SCALAR, tensors.flatten_scalar(obj))


_WRITERS: dict[type, Callable[[Any, Outgoing], Any]] = dict.fromkeys(_PLAIN, lambda obj, _: obj)
_WRITERS |= {
    int: _write_int,
    tuple: _container(_TUPLE),
    set: _container(_SET),
    frozenset: _container(_FROZENSET),
    buffers.Box: _write_box,
    complex: _write_complex,
    type(_is_known): _write_reference,
    type(len): _write_reference,
    type: _write_reference,
}


# Reading ---------------------------------------------------------------------------------------------------


def unpack(data: bytes, incoming: Incoming) -> Any:
    """Rebuild the value of a document."""
    if data[:4] != _TAGGED:
        return _native.unpack(data, _read_extension, None)

    def read_list(items: list[Any]) -> Any:
        if not items or type(items[0]) is not _Mark:
            return items
        make = items[0].make
        if make is None:
            return incoming.take(items[1], tuple(items[2:]))
        if make is buffers.put_together:
            return make(incoming, *items[1:])
        if make is attached.put_together:
            return make(incoming.shared[items[1]], *items[2:])
        del items[0]
        return make(items)

    return _native.unpack(data, _read_extension, read_list)[1]


class _Mark:
    """The first item of a list that stands for something else, made by `make`; by None if a tensor."""

    __slots__ = ("make",)

    def __init__(self, make: Callable[..., Any] | None) -> None:
        self.make = make


def _read_extension(code: int, data: bytes) -> Any:
    mark = _READ_MARK.get(code)
    return mark if mark is not None else _READ[code](data)


def _read_complex(data: bytes) -> complex:
    import struct

    return complex(*struct.unpack("<dd", data))


def _read_date(code: int) -> Callable[[bytes], Any]:
    def read(data: bytes) -> Any:
        import datetime

        # The types rebuild themselves from their pickled state, which typeshed does not tell.
        kinds: dict[int, Any] = {_DATE: datetime.date, _TIME: datetime.time, _DATETIME: datetime.datetime}
        if code == _DATETIME_UTC:
            return kinds[_DATETIME](data, datetime.timezone.utc)
        return kinds[code](data)

    return read


def _read_delta(data: bytes) -> timedelta:
    import datetime
    import struct

    return datetime.timedelta(*struct.unpack("<iii", data))


_READ_MARK = {
    _TUPLE: _Mark(tuple),
    _SET: _Mark(set),
    _FROZENSET: _Mark(frozenset),
    _TENSOR: _Mark(None),
    _ATTACHED: _Mark(attached.put_together),
    _BUFFER: _Mark(buffers.put_together),
}
_READ: dict[int, Callable[[bytes], Any]] = {
    _INT: lambda data: int.from_bytes(data, "little", signed=True),
    _COMPLEX: _read_complex,
    _DATE: _read_date(_DATE),
    _TIME: _read_date(_TIME),
    _DATETIME: _read_date(_DATETIME),
    _DATETIME_UTC: _read_date(_DATETIME_UTC),
    _DELTA: _read_delta,
    _SCALAR: tensors.rebuild_scalar,
    _REFERENCE: _read_reference,
    _TAG: lambda _: None,  # only says that the document is tagged
}
