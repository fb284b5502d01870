"""Everything that is not pure data, as a pickle: functions, classes, objects, models, cyclic values.

Model: pickle protocol 5 as cloudpickle writes it. Importable functions and classes go by reference; those
of `__main__` and local ones by value, and the receiver makes one class of all the copies it gets. Identity
and cycles within one pickle are kept. Wherever pickle meets a tensor or an array, `_reduce` puts its number
in the table of tensors instead, so that it is shared; what DLPack refuses keeps its own way of being
pickled. Memoryviews go by reference as well (see buffers).

A `Copied` is a pickle inside the pickle, written with copies of the tensors in it.

Threads: any. A pickle names only global functions, so `_take` finds its table of tensors in a thread-local
variable, which `loads` sets and restores: unpickling may run code that unpickles something else.

What functools makes of functions (`cache`, `singledispatch`, `cached_property`) is taken apart here, as
cloudpickle cannot; caches arrive empty.

Security: both ends are one process and one user, so unpickling grants nothing that the sender did not have.

Start-up: cloudpickle is imported when something is first pickled; unpickling needs pickle only.
"""

from __future__ import annotations

import sys
from _thread import _local  # threading.local, without all of threading
from _weakrefset import WeakSet
from io import BytesIO

from multipy_actors import attached, buffers, tensors
from multipy_actors.tensors import Incoming, Outgoing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Copied", "dumps", "loads"]


class Copied:
    """What `values.copied` returns."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        """Mark `value`."""
        self.value = value


def dumps(value: Any, outgoing: Outgoing) -> bytes:
    """Pickle `value`, its tensors added to `outgoing`. Raises whatever the value's own code raises."""
    global _pickler_class
    if _pickler_class is None:
        _pickler_class = _make_pickler_class()
    file = BytesIO()
    pickler = _pickler_class(file, protocol=5)
    pickler.outgoing = outgoing
    pickler.dump(value)
    return file.getvalue()


def loads(data: bytes, incoming: Incoming) -> Any:
    """Rebuild what `dumps` pickled."""
    from pickle import loads

    outer = getattr(_current, "incoming", None)
    _current.incoming = incoming
    try:
        return loads(data)
    finally:
        _current.incoming = outer


_current = _local()
_pickler_class: Any = None


def _make_pickler_class() -> Any:
    import cloudpickle  # type: ignore[import-untyped]

    # The script, as it is called in a process that multiprocessing has spawned; others cannot import it.
    script = sys.modules.get("__mp_main__")
    if script is not None:
        cloudpickle.register_pickle_by_value(script)

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        outgoing: Outgoing

        def reducer_override(self, obj: Any) -> Any:
            reduced = _reduce(obj, self.outgoing) or _reduce_made_by_functools(obj)
            if reduced is not None:
                return reduced
            reduced = super().reducer_override(obj)
            if isinstance(obj, type) and isinstance(reduced, tuple) and len(reduced) == 6:
                if obj not in _received:
                    _own.add(obj)
                return (*reduced[:5], _define)
            return reduced

    return Pickler


_own: WeakSet[type] = WeakSet()  # classes that were sent by value from here, where they are defined
_received: WeakSet[type] = WeakSet()


def _define(cls: type, state: Any) -> type:
    """Give a received class its contents, unless it is one of ours that has come back."""
    if cls in _own:
        return cls  # with what came its methods would be copies, and their globals not the module's
    from cloudpickle import cloudpickle

    _received.add(cls)
    defined: type = cloudpickle._class_setstate(cls, state)
    return defined


def _reduce(obj: Any, outgoing: Outgoing) -> tuple[Any, ...] | None:
    kind = type(obj)
    if kind is Copied:
        inner = Outgoing(True, outgoing.inline)
        inner.shared = outgoing.shared
        return _load_inner, (dumps(obj.value, inner),)
    if kind is buffers.Box:
        return _take_buffer, buffers.take_apart(obj.value, outgoing)
    if kind is memoryview:
        return _take_buffer, buffers.take_apart(obj, outgoing)
    if tensors.is_numpy_scalar(kind):
        return tensors.rebuild_scalar, (tensors.flatten_scalar(obj),)
    if attached.is_attachable(kind):
        attachment, rest = attached.take_apart(obj)
        return _take_attached, (outgoing.attach(attachment), *rest)
    if hasattr(kind, "__reduce_deploy__") or issubclass(kind, _NAMED):
        return _reduce_packaged(obj)
    if tensors.kind_of(kind) is None:
        return tensors.parts_of(obj)
    try:
        place = outgoing.add(obj)
    except tensors.Refused:
        return None
    attributes = tensors.attributes(obj)
    if attributes:
        return _take, place, attributes, None, None, _set_attributes
    return _take, place


def _reduce_made_by_functools(obj: Any) -> tuple[Any, ...] | None:
    import functools
    from types import FunctionType

    from cloudpickle.cloudpickle import _lookup_module_and_qualname  # type: ignore[import-untyped]

    kind = type(obj)
    if kind is functools.cached_property:  # it has a lock, before Python 3.12
        return _cached_property, (obj.func, obj.attrname)
    is_cached = kind is functools._lru_cache_wrapper
    is_dispatched = kind is FunctionType and hasattr(obj, "registry") and hasattr(obj, "_clear_cache")
    if not (is_cached or is_dispatched) or _lookup_module_and_qualname(obj) is not None:
        return None
    if is_cached:
        return _cached, (obj.__wrapped__, obj.cache_parameters())
    return _dispatched, (obj.__wrapped__, list(obj.registry.items()))


def _cached_property(function: Any, name: str | None) -> Any:
    from functools import cached_property

    made = cached_property(function)
    made.attrname = name
    return made


def _cached(function: Any, parameters: dict[str, Any]) -> Any:
    from functools import lru_cache

    return lru_cache(**parameters)(function)


def _dispatched(function: Any, registry: list[tuple[type, Any]]) -> Any:
    from functools import singledispatch

    made = singledispatch(function)
    for cls, implementation in registry:
        made.register(cls, implementation)
    return made


_NAMED = (type, type(Copied.__init__), type(sys))  # classes, functions, modules


def _reduce_packaged(obj: Any) -> tuple[Any, ...] | None:
    """Return how what may be of a torch package is found elsewhere."""
    if not isinstance(obj, _NAMED):
        from multipy_actors._packages import reduce_deploy

        return reduce_deploy(obj)
    home = obj.__name__ if isinstance(obj, type(sys)) else obj.__module__
    if type(home) is not str or not home.startswith("<torch_package_"):
        return None
    packages = sys.modules.get("multipy_actors._packages")
    return None if packages is None else packages.reference_to(obj, home)


def _take(index: int, description: tensors.Description) -> Any:
    incoming: Incoming = _current.incoming
    return incoming.take(index, description)


def _take_attached(index: int, *rest: Any) -> Any:
    incoming: Incoming = _current.incoming
    return attached.put_together(incoming.shared[index], *rest)


def _take_buffer(*parts: Any) -> Any:
    return buffers.put_together(_current.incoming, *parts)


def _set_attributes(obj: Any, attributes: dict[str, Any]) -> None:
    obj.__dict__.update(attributes)


def _load_inner(data: bytes) -> Any:
    return loads(data, _current.incoming)
