"""Classes that travel by value: those of the script, and classes inside of functions.

Problem: a class that cannot be imported elsewhere is made again there, once, whoever sends it; an object
that comes back where its class is from must be of that class. It should be as the class statement made it,
but nothing of what that statement did can run again: `__init_subclass__` and metaclasses of the script have
had their effects, which travel with the class and the globals, and were given arguments that nobody knows.

Model: a class has an identity. Whoever knows it has the class; else it is made, with its slots and without
contents, becomes known, and then gets what is in its dict, among which may be the class itself. A class that
is complete is never changed by what comes later. Hooks of libraries do run, as in a process that imports the
script, as what they note is not sent. Hooks of the script are kept from running (see hooks).

Threads: any. The tables only grow, and lose what has been dropped. A class that two threads receive at the
same time is made once, and filled by both.
"""

from __future__ import annotations

import os
import sys
from itertools import count
from types import FunctionType, MemberDescriptorType
from weakref import WeakKeyDictionary, WeakValueDictionary

from multipy_actors.wire.by_value import hooks, structs
from multipy_actors.wire.by_value.scripts import names_of_scripts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "contents_of",
    "forget_unfinished",
    "globals_of",
    "identity",
    "known",
    "reduce_class",
    "reduce_enum",
]

_ME = os.urandom(8).hex()
_numbers = count()
_identities: WeakKeyDictionary[type, str] = WeakKeyDictionary()
_classes: WeakValueDictionary[str, type] = WeakValueDictionary()
_unfinished: dict[str, type] = {}


def identity(cls: type) -> str:
    """Return what is the same wherever `cls` is known."""
    found = _identities.get(cls)
    if found is None:
        found = _identities.setdefault(cls, f"{_ME}-{next(_numbers)}")
        _classes[found] = cls
    return found


def known(identity: str) -> type | None:
    """Return the class, if it is known here."""
    return _classes.get(identity) or _unfinished.get(identity)


def forget_unfinished() -> None:
    """Forget classes that were not filled, as what was to fill them has failed."""
    _unfinished.clear()


def globals_of(cls: type) -> dict[str, Any] | None:
    """Return the globals of the script that defines `cls`; None if no script does."""
    name = cls.__module__
    if type(name) is not str or name not in names_of_scripts:
        return None
    for value in list(vars(cls).values()):
        if type(value) is FunctionType and value.__globals__.get("__name__") == name:
            return value.__globals__
    module = sys.modules.get(name)
    return None if module is None else module.__dict__


def contents_of(cls: type, contents: dict[str, Any]) -> dict[str, Any]:
    """Return those `contents`, taken from the dict of `cls`, that it has not got by being made.

    They are in the order of the statement, which tells, say, in which order fields or steps are defined.
    """
    order = {name: number for number, name in enumerate(vars(cls))}
    return {
        name: value
        for name, value in sorted(contents.items(), key=lambda item: order.get(item[0], -1))
        if name not in _BY_CREATION
        and not (type(value) is MemberDescriptorType and value.__objclass__ is cls)
    }


_BY_CREATION = frozenset(("__module__", "__qualname__", "__slots__", "__slotnames__", "__weakref__"))


def reduce_class(cls: type, contents: dict[str, Any]) -> tuple[Any, ...]:
    """Return how `cls` is made elsewhere; `contents` is its dict, as it can be pickled."""
    own = vars(cls)
    bases: tuple[Any, ...] = cls.__bases__
    namespace: dict[str, Any] = {"__module__": cls.__module__, "__qualname__": cls.__qualname__}
    if structs.is_struct(cls):
        state = contents_of(cls, structs.contents_of(contents))
        statement = structs.statement_of(cls), "__post_init__" in own
        struct = identity(cls), type(cls), cls.__name__, bases, namespace, *statement
        return _make_struct, struct, state, None, None, _define
    if type(cls).__name__ == "_TypedDictMeta":
        bases = own.get("__orig_bases__", bases)  # a TypedDict is a dict, but cannot be made as one
    else:
        known_first = ("__slots__", "__orig_bases__", "_is_protocol")
        namespace |= {name: own[name] for name in known_first if name in own}
    if isinstance(own.get("__dict__"), property):
        namespace["__dict__"] = own["__dict__"]
    made_of = identity(cls), type(cls), cls.__name__, bases, namespace
    return _make_class, made_of, contents_of(cls, _overridden(cls) | contents), None, None, _define


def _overridden(cls: type) -> dict[str, Any]:
    """Return what is in the dict of `cls` and is what it would inherit too: cloudpickle leaves that out."""
    inherited = [vars(base) for base in cls.__bases__]
    return {
        name: value
        for name, value in vars(cls).items()
        if any(name in names and names[name] is value for names in inherited)
    }


def reduce_enum(cls: Any, contents: dict[str, Any]) -> tuple[Any, ...]:
    """Return how an enumeration is made elsewhere; `contents` is its dict, without the members."""
    members = {name: member.value for name, member in cls.__members__.items()}
    contents = {name: value for name, value in contents.items() if name not in members}
    attributes = {
        name: kept
        for name, member in cls.__members__.items()
        if (kept := {key: value for key, value in vars(member).items() if key not in _OF_MEMBERS})
    }
    made_of = identity(cls), type(cls), cls.__name__, cls.__bases__, cls.__qualname__, cls.__module__, members
    return _make_enum, made_of, (contents_of(cls, contents), attributes), None, None, _define_enum


_OF_MEMBERS = frozenset(("_value_", "_name_", "__objclass__", "_sort_order_"))


# Making them -----------------------------------------------------------------------------------------------


def _make_class(
    identity: str, metaclass: type, name: str, bases: tuple[Any, ...], namespace: dict[str, Any]
) -> type:
    return known(identity) or _unfinished.setdefault(identity, _new_class(metaclass, name, bases, namespace))


def _make_struct(identity: str, *statement: Any) -> type:
    return known(identity) or _unfinished.setdefault(identity, structs.make(_new_struct, *statement))


def _new_struct(
    metaclass: Any, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any
) -> Any:
    if hooks.are_sent(metaclass, bases, _is_sent):
        return hooks.make(metaclass, name, bases, namespace, _is_sent, **options)
    return metaclass(name, bases, namespace, **options)


def _make_enum(
    identity: str,
    metaclass: Any,
    name: str,
    bases: tuple[Any, ...],
    qualname: str,
    module: str,
    members: dict[str, Any],
) -> Any:
    found = known(identity)
    if found is not None:
        return found
    namespace = metaclass.__prepare__(name, bases)
    for member, value in members.items():
        namespace[member] = value
    if hooks.are_sent(metaclass, bases, _is_sent):
        made = hooks.make(metaclass, name, bases, namespace, _is_sent)
    else:
        made = metaclass.__new__(metaclass, name, bases, namespace)
    made.__module__, made.__qualname__ = module, qualname
    return _unfinished.setdefault(identity, made)


def _define(cls: type, contents: dict[str, Any]) -> type:
    """Give a class its contents, if it has not got them."""
    for key, unfinished in list(_unfinished.items()):
        if unfinished is cls:
            registered = contents.pop("_abc_impl", ())
            for name, value in contents.items():
                hooks.set_attribute(cls, name, value, _is_sent)
            for subclass in registered:
                cls.register(subclass)  # type: ignore[attr-defined]
            _identities[cls] = key
            _classes[key] = cls
            _unfinished.pop(key, None)
    return cls


def _define_enum(cls: Any, state: tuple[dict[str, Any], dict[str, dict[str, Any]]]) -> Any:
    contents, attributes = state
    if cls in _identities:
        return cls
    _define(cls, contents)
    for name, values in attributes.items():
        vars(cls.__members__[name]).update(values)
    return cls


def _new_class(metaclass: type, name: str, bases: tuple[Any, ...], namespace: dict[str, Any]) -> type:
    """Make a class as its statement does, but for what the script's own hooks would do."""
    from types import new_class

    if not hooks.are_sent(metaclass, bases, _is_sent):
        try:
            return new_class(name, bases, {"metaclass": metaclass}, lambda names: names.update(namespace))
        except TypeError:  # a hook wants arguments, perhaps, and nobody knows them any more
            pass
    made: type = hooks.make(metaclass, name, bases, dict(namespace), _is_sent)
    return made


def _is_sent(cls: type) -> bool:
    """Say whether a class travels by value, and its effects as well."""
    return cls.__module__ in names_of_scripts or cls in _identities or cls in _unfinished.values()
