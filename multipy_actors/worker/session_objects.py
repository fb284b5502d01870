"""Objects of sessions, in the interpreter that a session holds.

Problem: who has a session works with objects that never leave their interpreter: modules, classes, models.
The other side, which may be another Python or a C++ program, needs names for them.

Model: a session has a table of objects by number; both numbers are the caller's to send. An operation that
gives an object puts it into the table and returns its number; what is to leave the interpreter is asked for
with `value`. The table goes with the session, and single objects when nobody refers to them any more.

Arguments of calls that are objects of the session come as `objects`, a dict of their numbers by position or
keyword, and None stands in their place. Deeper inside arguments they come pickled as `resolve(...)`.

Threads: the worker's alone. In the host this module is imported only so that pickles can name `resolve`.
"""

from __future__ import annotations

import importlib
from itertools import count

from multipy_actors.errors import SessionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["put", "resolve", "run"]

_tables: dict[int, dict[int, Any]] = {}
_numbers = count(1)  # never used again, so that a number of a past session finds nothing


def run(args: list[Any], kwargs: dict[str, Any], session: int, operation: str, rest: list[Any]) -> Any:
    """Perform what a session asks for."""
    return _OPERATIONS[operation](session, args, kwargs, *rest)


def put(session: int, obj: Any) -> int:
    """Make `obj` an object of the session; returns its number."""
    number = next(_numbers)
    _tables.setdefault(session, {})[number] = obj
    return number


def resolve(session: int, number: int) -> Any:
    """Return an object of the session."""
    try:
        return _tables[session][number]
    except KeyError:
        raise SessionError(
            f"session {session} has no object {number} in this interpreter: it belongs to another session, "
            "or to one that has ended"
        ) from None


def _global(session: int, args: list[Any], kwargs: dict[str, Any], module: str, name: str) -> int:
    """Find `name`, which may have dots, in `module`: that of the package in `args`, if it has it."""
    found: Any = _import(module, args[0] if args else None)
    for part in name.split("."):
        found = getattr(found, part)
    return put(session, found)


def _import(module: str, package: Any) -> Any:
    if package is not None:
        try:
            return package.importer.import_module(module)
        except ModuleNotFoundError as error:
            # What the package has but cannot import is an error of the package.
            if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                raise
    return importlib.import_module(module)


def _self(session: int, args: list[Any], kwargs: dict[str, Any]) -> int:
    (package,) = args
    return put(session, package.importer)


def _put(session: int, args: list[Any], kwargs: dict[str, Any]) -> int:
    (obj,) = args
    return put(session, obj)


def _call(
    session: int,
    args: list[Any],
    kwargs: dict[str, Any],
    number: int,
    objects: dict[int | str, int],
) -> int:
    for place, argument in objects.items():
        if isinstance(place, int):
            args[place] = resolve(session, argument)
        else:
            kwargs[place] = resolve(session, argument)
    return put(session, resolve(session, number)(*args, **kwargs))


def _attr(session: int, args: list[Any], kwargs: dict[str, Any], number: int, name: str) -> int:
    return put(session, getattr(resolve(session, number), name))


def _hasattr(session: int, args: list[Any], kwargs: dict[str, Any], number: int, name: str) -> bool:
    return hasattr(resolve(session, number), name)


def _value(session: int, args: list[Any], kwargs: dict[str, Any], number: int) -> Any:
    return resolve(session, number)


def _describe(session: int, args: list[Any], kwargs: dict[str, Any], number: int) -> Any:
    from multipy_actors.description import introduction_of

    return introduction_of(resolve(session, number))


def _forget(session: int, args: list[Any], kwargs: dict[str, Any], numbers: list[int]) -> None:
    table = _tables.get(session, {})
    for number in numbers:
        table.pop(number, None)


def _end(session: int, args: list[Any], kwargs: dict[str, Any]) -> None:
    _tables.pop(session, None)


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "global": _global,
    "self": _self,
    "put": _put,
    "call": _call,
    "attr": _attr,
    "hasattr": _hasattr,
    "value": _value,
    "movable": _value,
    "describe": _describe,
    "forget": _forget,
    "end": _end,
}
