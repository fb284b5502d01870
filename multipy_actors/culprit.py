"""Finds the part of a value that cannot be serialised, to name it in the error.

Problem: pickle says «cannot pickle '_thread.lock' object» and not where the lock sits. After a failure,
this module looks for the smallest part that fails by itself: it tries the parts of the value one by one,
enters the first that fails, and goes on until no part of it fails.

Model: pure functions over the value and a `probe`, which raises if a value cannot be serialised alone. A
part has a name as one would write it in Python: `[0]`, `['key']`, `.attribute`. It costs some encodings of
the value, which only a value that has failed pays.

Guarantees: it never raises and always ends (values may be cyclic, and may fight back from their
`__dict__`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import FunctionType, MethodType
from typing import Any

from multipy_actors import attached

__all__ = ["find_culprit", "without_frames"]

_MAX_DEPTH = 50


def find_culprit(
    value: Any, path: str, error: Exception, probe: Callable[[Any], object]
) -> tuple[str, Any, Exception]:
    """Return the path, the object and the error of the innermost part of `value` that fails to serialise.

    `value`, found at `path`, has failed with `error`.
    """
    entered = {id(value)}
    for _ in range(_MAX_DEPTH):
        for name, part in _parts(value):
            if id(part) in entered:
                continue
            failure = _failure(part, probe)
            if failure is not None:
                path, value, error = path + name, part, failure
                entered.add(id(part))
                break
        else:
            break
    return path, value, error


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
        link.__traceback__ = None
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
    if attached.is_attachable(type(value)):
        return  # it travels as a whole or not at all
    if isinstance(value, dict):
        for key, item in list(value.items()):
            yield f"[{key!r}]", item
            yield f" key {key!r}", key
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield f"[{index}]", item
    elif isinstance(value, (set, frozenset)):
        for item in list(value):
            yield f" item {item!r}", item
    elif isinstance(value, FunctionType):
        yield from _function_parts(value)
    elif isinstance(value, MethodType):
        yield ".__self__", value.__self__
    if isinstance(value, type):
        for name, item in list(vars(value).items()):
            if name not in ("__dict__", "__weakref__"):
                yield f".{name}", item
    elif not isinstance(value, FunctionType):
        for name, item in list(getattr(value, "__dict__", {}).items()):
            yield f".{name}", item
        for cls in type(value).__mro__:
            slots = cls.__dict__.get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                if hasattr(value, name) and name not in ("__dict__", "__weakref__"):
                    yield f".{name}", getattr(value, name)
        for name in ("func", "args", "keywords"):  # functools.partial, exceptions
            if not hasattr(type(value), "__slots__") and hasattr(type(value), name):
                yield f".{name}", getattr(value, name)


def _function_parts(function: FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        yield f" captured variable {name!r}", cell.cell_contents
    for index, default in enumerate(function.__defaults__ or ()):
        yield f".__defaults__[{index}]", default
    for name in function.__code__.co_names:
        if name in function.__globals__:
            yield f" global {name!r}", function.__globals__[name]
