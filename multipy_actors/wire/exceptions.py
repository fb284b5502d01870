"""How exceptions are pickled: what they hold travels, and their constructor is not called again.

Problem: pickle makes an exception anew by calling its class with `args`. A class whose constructor takes
other arguments than it passes on (`def __init__(self, code, detail): super().__init__(f"{code}: {detail}")`,
keyword arguments, a default) cannot be made so, or comes out as something else.

Model: such an exception is `args`, its `__dict__`, its slots and the fields of the built-in class it derives
from (`errno` of OSError, `start` of UnicodeDecodeError, `code` of SystemExit ...). So the receiver makes it
with `__new__` and sets these, as the objects that they are: a class may forbid that attributes are set. That
holds for exceptions anywhere in a value, those in groups included. A class that says itself how its instances
are pickled, or how they are made (`__new__`), is left to pickle, and so is one with neither slots nor a
constructor of its own.

Threads: any; no state here.
"""

from __future__ import annotations

import copyreg

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

__all__ = ["has_own_way", "reduce"]

_HEAP_TYPE = 1 << 9  # Py_TPFLAGS_HEAPTYPE: not one of the interpreter's own classes
_MEMBER = type(OSError.errno)  # how a built-in class has a field
_NOT_SENT = (
    "obj",
    "exceptions",
    "message",
)  # of AttributeError, as pickle does; of groups, which `__new__` sets


def reduce(error: BaseException) -> tuple[Any, ...] | None:
    """Return how `error` is made anew, as `__reduce__` would; None: as pickle does it."""
    cls = type(error)
    base = _built_in_base(cls)
    if has_own_way(cls) or cls.__new__ is not base.__new__:
        return None
    names: list[str] = copyreg._slotnames(cls)  # type: ignore[attr-defined]  # as pickle finds them
    if cls.__init__ is base.__init__ and not names:
        return None
    fields = {name: field.__get__(error) for name, field in _fields_of(base)}
    set_ = {name: value for name, value in fields.items() if value is not None}
    slots = {name: getattr(error, name) for name in names if hasattr(error, name)}
    state = (error.__dict__, slots) if error.__dict__ or slots else None
    return _make, (cls, error.args, set_), state, None, None, _set_state


def has_own_way(cls: type[BaseException]) -> bool:
    """Say whether the class, not a built-in one, says how its instances are pickled."""
    base = _built_in_base(cls)
    return (
        cls.__reduce__ is not base.__reduce__
        or cls.__reduce_ex__ is not object.__reduce_ex__
        or cls.__setstate__ is not base.__setstate__
        or getattr(cls, "__getstate__", None) is not getattr(base, "__getstate__", None)
        or cls in copyreg.dispatch_table
    )


def _built_in_base(cls: type[BaseException]) -> type[BaseException]:
    for base in cls.__mro__:
        if not base.__flags__ & _HEAP_TYPE and issubclass(base, BaseException):
            return base
    return BaseException


def _fields_of(base: type[BaseException]) -> Iterator[tuple[str, Any]]:
    for cls in base.__mro__:
        for name, field in vars(cls).items():
            if isinstance(field, _MEMBER) and not name.startswith("__") and name not in _NOT_SENT:
                yield name, field


def _make(cls: type[BaseException], args: tuple[Any, ...], fields: dict[str, Any]) -> BaseException:
    error = cls.__new__(cls, *args)
    object.__setattr__(error, "args", args)
    for name, field in _fields_of(_built_in_base(cls)):
        if name in fields:
            field.__set__(error, fields[name])
    return error


def _set_state(error: BaseException, state: tuple[dict[str, Any], dict[str, Any]]) -> None:
    attributes, slots = state
    error.__dict__.update(attributes)
    for name, value in slots.items():
        object.__setattr__(error, name, value)
