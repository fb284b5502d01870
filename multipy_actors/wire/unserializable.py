"""Finds the part of a value that cannot be serialised, to name it in the error.

Problem: pickle says «cannot pickle '_thread.lock' object» and not where the lock sits. After a failure,
this module looks for the smallest part that fails by itself: it tries the parts of the value one by one,
enters those that fail, and goes on until no part of one fails.

Model: pure functions over the value and a `probe`, which raises if a value cannot be serialised alone. The
parts of an object are what pickle would take of it, as `__reduce_ex__` says: what an object leaves out of its
state is not to blame. A part that fails only because it leads back to something that is being searched (a
method whose closure holds its class) is not to blame either: the search goes on beside it. A part has a name
as one would write it in Python: `[0]`, `['key']`, `.attribute`. It costs some encodings of the value, which
only a value that has failed pays.

Guarantees: it never raises and always ends (values may be cyclic, and may fight back from their
`__dict__`).
"""

from __future__ import annotations

import copyreg
from collections.abc import Callable, Iterator
from types import FunctionType, MethodType
from typing import Any

from multipy_actors.wire import exceptions, references

__all__ = ["find_culprit", "without_frames"]

_MAX_DEPTH = 50
_Found = tuple[str, Any, Exception]


def find_culprit(value: Any, path: str, error: Exception, probe: Callable[[Any], object]) -> _Found:
    """Return the path, the object and the error of the innermost part of `value` that fails to serialise.

    `value`, found at `path`, has failed with `error`.
    """
    return _search((path, value, error), probe, {id(value): value}, 0) or (path, value, error)


def _search(
    found: _Found, probe: Callable[[Any], object], entered: dict[int, Any], depth: int
) -> _Found | None:
    """Return what is to blame for the failure of `found`; None: something in `entered` that it leads back to.

    `entered` keeps what it has, so that no other object gets its `id`.
    """
    if depth == _MAX_DEPTH:
        return found
    leads_back = False
    for name, part in _parts(found[1]):
        if id(part) in entered:
            leads_back = True
            continue
        failure = _failure(part, probe)
        if failure is not None:
            entered[id(part)] = part
            inner = _search((found[0] + name, part, failure), probe, entered, depth + 1)
            if inner is not None:
                return inner
            leads_back = True
    return None if leads_back else found


def _failure(part: Any, probe: Callable[[Any], object]) -> Exception | None:
    try:
        probe(part)
    except Exception as error:
        return without_frames(error)
    return None


def without_frames(error: Exception) -> Exception:
    """Return `error` without its tracebacks.

    Their frames hold what has been exported, and in the end `error` itself: until the collector found that
    cycle, memory would not be given back, and a bytearray could not be resized.
    """
    link: BaseException | None = error
    while link is not None and link.__traceback__ is not None:
        object.__setattr__(link, "__traceback__", None)
        link = link.__cause__ or link.__context__
    return error


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    cls = type(value)
    if "__reduce__" in cls.__dict__ and str(cls.__module__).startswith("multipy_actors."):
        return  # a pool or an object of a session, say: it refuses by itself, and tells why
    try:
        yield from _named_parts(value)
    except Exception:  # a property or a __dict__ that raises: its owner is then the culprit
        return


def _named_parts(value: Any) -> Iterator[tuple[str, Any]]:
    cls = type(value)
    if references.is_attachable(cls):
        return  # it travels as a whole or not at all
    if cls is dict:
        yield from _dict_parts(value.items())
    elif cls is list or cls is tuple:
        for index, item in enumerate(value):
            yield f"[{index}]", item
    elif cls is set or cls is frozenset:
        for item in list(value):
            yield f" item {item!r}", item
    elif cls is FunctionType:
        yield from _function_parts(value)
    elif cls is MethodType:
        yield ".__self__", value.__self__
        yield ".__func__", value.__func__
    elif isinstance(value, type):
        for name, item in list(vars(value).items()):
            if name not in ("__dict__", "__weakref__", "_abc_impl"):
                yield f".{name}", item
        yield from ((f".__bases__[{index}]", base) for index, base in enumerate(value.__bases__))
    else:
        yield from _object_parts(value)


def _dict_parts(items: Any) -> Iterator[tuple[str, Any]]:
    for key, item in list(items):
        yield f"[{key!r}]", item
        yield f" key {key!r}", key


def _function_parts(function: FunctionType) -> Iterator[tuple[str, Any]]:
    from multipy_actors.wire.by_value.functions import globals_in

    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f" captured variable {name!r}", cell.cell_contents
        except ValueError:  # it is empty
            continue
    for index, default in enumerate(function.__defaults__ or ()):
        yield f".__defaults__[{index}]", default
    for name, default in (function.__kwdefaults__ or {}).items():
        yield f".__kwdefaults__[{name!r}]", default
    for name, item in vars(function).items():
        yield f".{name}", item
    for name in globals_in(function.__code__)[0]:
        if name in function.__globals__:
            yield f" global {name!r}", function.__globals__[name]


def _object_parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what pickle takes of an object, under the names of the attributes that it is."""
    names = {id(item): name for name, item in _attributes(value)}
    if isinstance(value, BaseException):
        names |= {id(item): f"args[{index}]" for index, item in enumerate(value.args)}

    def named(item: Any, otherwise: str) -> tuple[str, Any]:
        return (f".{names[id(item)]}" if id(item) in names else otherwise), item

    reducer = copyreg.dispatch_table.get(type(value))
    reduced: Any = exceptions.reduce(value) if isinstance(value, BaseException) else None
    if reduced is None:
        reduced = value.__reduce_ex__(5) if reducer is None else reducer(value)
    if not isinstance(reduced, tuple):
        return  # the name of a global variable
    _, args, state, items, pairs = (*reduced, None, None, None)[:5]
    if isinstance(value, tuple):
        yield from ((f"[{index}]", item) for index, item in enumerate(value))
        args = ()
    for index, item in enumerate(args):
        if item is not type(value):
            yield named(item, f".__reduce_ex__(5)[1][{index}]")
    for index, item in enumerate(items or ()):
        yield f"[{index}]", item
    yield from _dict_parts(pairs or ())
    states = state if isinstance(state, tuple) else (state,)
    for index, part in enumerate(states):
        if not isinstance(part, dict):
            place = f"[{index}]" if isinstance(state, tuple) else ""
            yield named(part, f".__reduce_ex__(5)[2]{place}")
            continue
        for name, item in list(part.items()):
            if name == "__dict__" and isinstance(item, dict):
                yield from ((f".{inner}", thing) for inner, thing in list(item.items()))
            else:
                yield named(item, f".__getstate__()[{name!r}]")


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    yield from list(getattr(value, "__dict__", {}).items())
    for name in copyreg._slotnames(type(value)):  # type: ignore[attr-defined]
        if hasattr(value, name):
            yield name, getattr(value, name)
    for name in ("func", "args", "keywords"):  # functools.partial, exceptions
        if not hasattr(type(value), "__slots__") and hasattr(type(value), name):
            yield name, getattr(value, name)
