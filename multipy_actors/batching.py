"""Which methods of an actor are called with batches: the mark `@multipy.batch`, and the actor's options.

Problem: a method that takes a batch takes lists, and one that does not takes single values. So it is each
method that has to say so, and not the actor.

Model: the mark is an entry of the function's own `__dict__`. So the function stays what it is, the mark
travels with its class, and a method that overrides it without a mark of its own is not batched. Whoever makes
an actor asks `batches_for` which methods are batched, and how; that is part of the actor's description, by
which handles post the calls, and of what its interpreters are told (see worker/batching). The options
`max_batch_size` and `batch_wait` of an actor change the marked methods of it; with none marked, they are for
the only method that it has.

Threads: any; what is found is cached.
"""

from __future__ import annotations

import functools
import inspect
import sys
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, overload

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["Batching", "batch", "batches_for", "batches_of", "is_batch_size", "is_batch_wait"]

Batching = dict[str, tuple[int, float]]  # by the names of methods: max_batch_size and batch_wait
_Method = TypeVar("_Method", bound=Callable[..., Any])

_MARK = "__multipy_batch__"
_SIZE = 32
_GENERATORS = (inspect.isgeneratorfunction, inspect.isasyncgenfunction)
_marked: weakref.WeakKeyDictionary[type, Batching] = weakref.WeakKeyDictionary()


@overload
def batch(method: _Method, /) -> _Method: ...
@overload
def batch(*, max_batch_size: int = _SIZE, batch_wait: float = 0.0) -> Callable[[_Method], _Method]: ...
def batch(method: Any = None, /, *, max_batch_size: int = _SIZE, batch_wait: float = 0.0) -> Any:
    """Mark a method of a class as one that takes a batch: calls through a handle that wait run as one.

    The method takes a list for each argument, or stacked tensors where the parameter is annotated as a
    tensor or an array, and returns a sequence of results, one per call; a result that is an exception is
    raised by its call alone. Callers pass and get single values. `max_batch_size` is how many calls run as
    one, at most, and `batch_wait` for how many seconds the first of them waits for more; with 0, a batch has
    what is queued already. The options of the same names override both when an actor is made.

    The method stays as it is: called on the object itself, without a handle, it takes the lists.
    A decorator above the mark has to keep it, as those do that use `functools.wraps`. A method that
    overrides a marked one needs a mark of its own.

    Raises ValueError if a value makes no sense, and TypeError for what cannot take a batch: generators,
    properties, static and class methods, methods without a parameter, functions outside of classes.
    """
    if not is_batch_size(max_batch_size):
        raise ValueError(f"max_batch_size must be a positive int, not {max_batch_size!r}")
    if not is_batch_wait(batch_wait):
        raise ValueError(f"batch_wait must be a number of seconds, or 0, not {batch_wait!r}")
    if method is not None:
        return _mark(method, sys._getframe(1), max_batch_size, batch_wait)
    return lambda method: _mark(method, sys._getframe(1), max_batch_size, batch_wait)


def is_batch_size(value: object) -> bool:
    """Say whether `value` can be a max_batch_size."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def is_batch_wait(value: object) -> bool:
    """Say whether `value` can be a batch_wait."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value >= 0


def batches_of(cls: type) -> Batching:
    """Return the marked methods of a class. Raises TypeError if a mark is where it cannot be."""
    found = _marked.get(cls)
    if found is None:
        members = ((name, inspect.getattr_static(cls, name, None)) for name in dir(cls))
        found = _marked[cls] = {
            name: mark for name, member in members if (mark := _mark_of(cls, name, member))
        }
    return found


def batches_for(cls: type, max_batch_size: int | None, batch_wait: float | None) -> Batching:
    """Return the methods of `cls` that are batched in an actor with these options; None: not given.

    Raises ValueError if they are for none of its methods, or it cannot be told for which.
    """
    marked = batches_of(cls)
    if marked:
        return {
            name: (max_batch_size or size, wait if batch_wait is None else batch_wait)
            for name, (size, wait) in marked.items()
        }
    if max_batch_size is None:
        if batch_wait:
            raise ValueError(
                f"option 'batch_wait' does nothing without 'max_batch_size', as no method of "
                f"{cls.__qualname__} is marked with @multipy.batch"
            )
        return {}
    methods = _public_methods(cls)
    if len(methods) != 1:
        raise ValueError(
            f"option 'max_batch_size' is for a class with one public method, and {cls.__qualname__} has "
            f"{', '.join(methods) or 'none'}: mark those that take lists with "
            f"@multipy.batch(max_batch_size={max_batch_size})"
        )
    return {methods[0]: (max_batch_size, batch_wait or 0.0)}


def _public_methods(cls: type) -> list[str]:
    """Return the methods for everybody, but for generators, which are streamed."""
    names = [name for name in dir(cls) if not name.startswith("_") or name == "__call__"]
    return [name for name in names if _is_method(inspect.getattr_static(cls, name, None))]


def _is_method(member: object) -> bool:
    if isinstance(member, (staticmethod, classmethod)):
        member = member.__func__
    if isinstance(member, type) or getattr(type(member), "is_for_classes", False):
        return False
    if isinstance(member, (functools.partialmethod, functools.singledispatchmethod)):
        return True
    return callable(member) and not any(is_generator(member) for is_generator in _GENERATORS)


def _mark(method: Any, place: FrameType, size: int, wait: float) -> Any:
    """Mark `method`, which is decorated in `place`."""
    if not inspect.isfunction(method):
        hint = "" if not isinstance(method, int) else f"; write @multipy.batch(max_batch_size={method!r})"
        raise TypeError(f"@multipy.batch is for methods, not for {_kind_of(method)}{hint}")
    name = method.__qualname__
    outer = name.rpartition(".")[0]
    if (not outer or outer.endswith("<locals>")) and not _is_body_of_class(place):
        raise TypeError(f"@multipy.batch is for methods, and {name} is a function outside of a class")
    if any(is_generator(method) for is_generator in _GENERATORS):
        raise TypeError(f"{name} is a generator: it is streamed, and cannot take a batch (@multipy.batch)")
    if method.__name__.startswith("__") and method.__name__ != "__call__":
        raise TypeError(f"no handle calls {name}, so it cannot take a batch (@multipy.batch)")
    if next(iter(inspect.signature(method).parameters), "self") == "self":  # else it may be a static method
        _check_parameters(method)
    method.__dict__[_MARK] = size, wait
    return method


def _check_parameters(method: Any) -> None:
    takes_any = method.__code__.co_flags & inspect.CO_VARARGS
    if len(inspect.signature(method).parameters) < 2 and not takes_any:
        raise TypeError(f"{method.__qualname__} has no parameter to take a batch with (@multipy.batch)")


def _kind_of(thing: object) -> str:
    kinds = {property: "a property", staticmethod: "a static method", classmethod: "a class method"}
    if isinstance(thing, type):
        return f"the class {thing.__qualname__}"
    return kinds.get(type(thing), f"what is of the type {type(thing).__name__}")


def _is_body_of_class(place: FrameType) -> bool:
    return place.f_locals is not place.f_globals and {"__module__", "__qualname__"} <= place.f_locals.keys()


def _mark_of(cls: type, name: str, member: object) -> tuple[int, float] | None:
    if inspect.isfunction(member):
        mark: tuple[int, float] | None = member.__dict__.get(_MARK)
        if mark is not None:
            _check_parameters(member)
        return mark
    for part in ("__func__", "fget", "fset", "fdel", "func"):
        if _MARK in getattr(getattr(member, part, None), "__dict__", ()):
            kind = _kind_of(member)
            raise TypeError(f"@multipy.batch is for methods, and {cls.__qualname__}.{name} is {kind}")
    return None
