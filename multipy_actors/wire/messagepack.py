"""Data as MessagePack, with every type kept exactly.

Problem: MessagePack is fast and compact but knows nine types: with it a bytearray becomes bytes, a tuple a
list and an instance of a subclass one of its base. What arrives must equal what was sent, type included.

Model: `pack` returns a document, or None if the value must be pickled. A document is plain if the value is
made of MessagePack's types only, or tagged, `[TAG, document]`, if it also holds what `_WRITERS` knows:
tuples, sets, complex, dates, tensors, NumPy scalars, and functions and classes that their module's name leads
to. In a tagged document a container is a list whose first item is a mark, so that it is written in one pass
at any depth; the rest are extension types. A tensor is a marked list: its number in the table of attachments,
and its description; so are handles and futures.

`_native` writes and reads MessagePack, and tuples, sets and dates; all other types it leaves to `_WRITERS`,
`_READERS` and `_MAKERS`.
Before it writes a value it looks at the exact types in it. Left to pickle is whatever is not known by exact
type, is nested too deeply, contains itself, refers to its parts over and over, or has a string that is not
valid Unicode. A list met twice in a packed value arrives as two equal lists, as from any data format.

Packing copies bytes, which large ones should not be, and has no type for other buffers: these are attachments
(see buffers).

Threads: any; `_WRITERS` only grows.

Start-up: an interpreter's first call needs this module, so it imports next to nothing.

Guarantee: an empty dict aside, no document begins with the byte that pickles begin with.
"""

from __future__ import annotations

import sys

from multipy_actors import _native
from multipy_actors._native import Extension
from multipy_actors.modules import imported
from multipy_actors.wire import buffers, references, tensors
from multipy_actors.wire.tensors import Incoming, Outgoing

TYPE_CHECKING = False  # importing typing would take longer than all of this
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    _Writer = Callable[[Any, Outgoing], Any]

__all__ = ["Pickled", "pack", "pickle_with", "unpack"]

_TUPLE, _SET, _FROZENSET, _TENSOR, _ATTACHED, _BUFFER, _PICKLED = 1, 2, 3, 4, 5, 6, 7
_INT, _COMPLEX, _DATE, _TIME, _DATETIME, _DATETIME_UTC, _DELTA, _SCALAR, _REFERENCE = range(16, 25)
_TAG = 127
_MARKS = {
    code: Extension(code, b"") for code in (_TUPLE, _SET, _FROZENSET, _TENSOR, _ATTACHED, _BUFFER, _PICKLED)
}


class _Unfit(Exception):
    """The value must be pickled."""


class Pickled:
    """Stands for a part of a packed value that is pickled."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        """Have `value` be pickled, and its receiver get it."""
        self.value = value


def pickle_with(dumps: Callable[[Any, Outgoing], bytes], loads: Callable[[bytes, Incoming], Any]) -> None:
    """Have parts be pickled and rebuilt so."""
    _WRITERS[Pickled] = lambda obj, outgoing: [_MARKS[_PICKLED], dumps(obj.value, outgoing)]
    _MAKERS[_PICKLED] = lambda items, incoming: loads(items[0], incoming)


# Writing ---------------------------------------------------------------------------------------------------


def pack(value: Any, outgoing: Outgoing) -> bytes | None:
    """Return `value` as a document, its tensors added to `outgoing`, or None if it is no pure data."""
    try:
        return _native.pack(value, _WRITERS, outgoing, _TAG, buffers.SHARED_FROM)
    except Exception:
        return None  # what packing cannot do, pickle can, or tells why not


def _write_tensor(obj: Any, outgoing: Outgoing) -> Any:
    if tensors.attributes(obj):
        raise _Unfit("attributes may be anything")
    index, description = outgoing.add(obj)
    return [_MARKS[_TENSOR], index, *description]


def _write_attached(obj: Any, outgoing: Outgoing) -> Any:
    attachment, rest = references.take_apart(obj)
    return [_MARKS[_ATTACHED], outgoing.attach(attachment), *rest]


def _write_buffer(obj: Any, outgoing: Outgoing) -> Any:
    return [_MARKS[_BUFFER], *buffers.take_apart(obj, outgoing)]


def _write_int(obj: int, _: Outgoing) -> Any:
    # One of more than 64 bits, for which MessagePack has no room.
    return Extension(_INT, obj.to_bytes(obj.bit_length() // 8 + 1, "little", signed=True))


def _write_complex(obj: complex, _: Outgoing) -> Any:
    import struct

    return Extension(_COMPLEX, struct.pack("<dd", obj.real, obj.imag))


def _writer_of_date(kind: type) -> _Writer | None:
    # A class may shadow __module__ with anything.
    if type(kind.__module__) is not str or kind.__module__ != "datetime":
        return None
    home: Any = sys.modules.get("datetime")
    is_date = kind.__name__ in _DATES and getattr(home, kind.__name__, None) is kind
    return _refuse_zone if is_date else None


def _refuse_zone(obj: Any, _: Outgoing) -> Any:
    raise _Unfit("a time zone may be anything")


_DATES = frozenset(("date", "time", "datetime", "timedelta"))


# The script, which others cannot import: its name, and that in a process that multiprocessing has spawned.
_SCRIPTS = frozenset(("__main__", "__mp_main__"))


def _write_reference(obj: Any, _: Outgoing) -> Any:
    # As cloudpickle decides what travels by name, but without it: importing it takes longer than most calls.
    module = obj.__module__
    if type(module) is not str or module in _SCRIPTS or not _is_found(obj, module, obj.__qualname__):
        raise _Unfit("not what an import of its module would give")
    cloudpickle = imported("cloudpickle")
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


def _writer_from_elsewhere(kind: type) -> _Writer | None:
    if tensors.kind_of(kind) is not None:
        return _write_tensor
    if tensors.is_numpy_scalar(kind):
        return _write_scalar
    if references.is_attachable(kind):
        return _write_attached
    return _writer_of_date(kind)


class _Writers(dict[type, "_Writer"]):
    """What writes values of each type; learns those of other modules as they are met."""

    def __missing__(self, kind: type) -> _Writer:
        write = _writer_from_elsewhere(kind)
        if write is None:
            raise KeyError(kind)
        self[kind] = write
        return write


_OWN_WRITERS: dict[type, _Writer] = {
    int: _write_int,
    bytes: _write_buffer,
    bytearray: _write_buffer,
    memoryview: _write_buffer,
    complex: _write_complex,
    type(pack): _write_reference,
    type(len): _write_reference,
    type: _write_reference,
}
_WRITERS = _Writers(_OWN_WRITERS)


# Reading ---------------------------------------------------------------------------------------------------


def unpack(data: bytes, incoming: Incoming) -> Any:
    """Rebuild the value of a document."""
    return _native.unpack(data, _READERS, _MAKERS, incoming)


def _make_tensor(items: list[Any], incoming: Incoming) -> Any:
    index, *description = items
    return incoming.take(index, description)


def _make_attached(items: list[Any], incoming: Incoming) -> Any:
    index, *rest = items
    return references.put_together(incoming.shared[index], *rest)


def _read_complex(data: bytes) -> complex:
    import struct

    return complex(*struct.unpack("<dd", data))


# What stands for a value of its own, and marks, at the beginning of lists that stand for one.
_READERS: dict[int, Callable[[bytes], Any]] = {
    _INT: lambda data: int.from_bytes(data, "little", signed=True),
    _COMPLEX: _read_complex,
    _SCALAR: tensors.rebuild_scalar,
    _REFERENCE: _read_reference,
}
_MAKERS: dict[int, Callable[[list[Any], Incoming], Any]] = {
    _TENSOR: _make_tensor,
    _ATTACHED: _make_attached,
    _BUFFER: lambda items, incoming: buffers.put_together(incoming, *items),
    _TAG: lambda items, _: items[0],  # it only says that the document is tagged
}
