"""What a handle knows of the object that it stands for.

Model: from a class, `members_of` tells what can be reached through a handle, by name and kind. Whoever makes
an actor encodes that, with which methods are batched (see batching) and how calls are posted, as the actor's
*description*, which the core keeps; every interpreter that is handed a handle decodes it, once.

Threads: any; what is found is cached.
"""

from __future__ import annotations

import functools
import inspect
import types
import weakref
from typing import TYPE_CHECKING

from multipy_actors import wire
from multipy_actors.batching import Batching, batches_of

if TYPE_CHECKING:
    from multipy_actors import _native
    from multipy_actors.wire.sharing import Share

__all__ = ["Description", "description_of", "introduction_of", "members_of"]

_GENERATORS = ("generator", "async generator")
_CALLED_BY_HANDLES = ("__call__", "__enter__", "__exit__")
_members: weakref.WeakKeyDictionary[type, dict[str, str]] = weakref.WeakKeyDictionary()


def members_of(cls: type) -> dict[str, str]:
    """Return what can be reached through a handle: method names and properties, with what each is.

    The kinds are "method", "coroutine", "generator", "async generator" and "property".
    """
    members = _members.get(cls)
    if members is None:
        names = (name for name in dir(cls) if not name.startswith("__") or name in _CALLED_BY_HANDLES)
        kinds = ((name, _kind_of_member(cls, name)) for name in names)
        members = _members[cls] = {name: kind for name, kind in kinds if kind is not None}
    return members


def introduction_of(obj: object) -> tuple[str, dict[str, str], Batching]:
    """Return what `obj` is called in messages, its members, and which of them are batched.

    Members are those of its class and those of its own: what it can call, and what can be read.
    """
    own = {name: value for name, value in getattr(obj, "__dict__", {}).items() if not name.startswith("__")}
    if isinstance(obj, types.ModuleType):
        # Modules of torch packages have the importer's name before their own.
        label = obj.__name__.rpartition(">.")[2]
        return label, {name: _kind_of(value) or "property" for name, value in own.items()}, {}
    members = {name: "method" if callable(value) else "property" for name, value in own.items()}
    batches = {name: limits for name, limits in batches_of(type(obj)).items() if name not in own}
    return type(obj).__qualname__, members | members_of(type(obj)), batches


def _kind_of_member(cls: type, name: str) -> str | None:
    found = inspect.getattr_static(cls, name, None)
    if getattr(type(found), "is_for_classes", False):
        return None  # what @multipy.remote adds
    if isinstance(found, (staticmethod, classmethod)):
        found = found.__func__
    # Slots and what ctypes or a C extension makes are read like properties, too.
    return _kind_of(found) or ("property" if hasattr(type(found), "__get__") else None)


def _kind_of(found: object) -> str | None:
    """Return what calling `found` gives; None if it cannot be called."""
    if inspect.isasyncgenfunction(found):
        return "async generator"
    if inspect.iscoroutinefunction(found):
        return "coroutine"
    if inspect.isgeneratorfunction(found):
        return "generator"
    if callable(found) or isinstance(found, (functools.partialmethod, functools.singledispatchmethod)):
        return "method"
    return None


Description = tuple[dict[str, str], bool, "float | None", Batching, "Share", int, frozenset[str]]
_descriptions: dict[bytes, Description] = {}


def description_of(actor: _native.Actor) -> Description:
    """Return the members, whether a full mailbox makes callers wait, the time limit of calls, the methods
    whose calls may run together, what calls share, how often they are tried again, and which members are
    generators.
    """
    encoded = actor.description
    description = _descriptions.get(encoded)
    if description is None:
        members, waits, timeout, batching, share, retries = wire.decode(encoded)
        generators = frozenset(name for name, kind in members.items() if kind in _GENERATORS)
        description = members, waits, timeout, batching, share, retries, generators
        _descriptions[encoded] = description
    return description
