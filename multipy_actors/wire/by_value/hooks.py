"""Classes are made without what their statements had run: the script's metaclasses and `__init_subclass__`.

Problem: a class of the script is made again where it arrives, of its metaclass, bases and slots. What the
script had happen when its class statement ran has happened, is sent, and must not happen twice. But
`type.__new__` calls `__init_subclass__` of the bases, whatever it is called by.

Model: of the metaclass, the library's part makes the class: the first in its order that does not travel by
value. Python looks for `__init_subclass__` along the method resolution order, and before that it calls
`__set_name__` of what is in the namespace. So a `_Marker` in the namespace puts `_Silence` into the order,
behind the class itself; it takes itself out again when it is called in place of the others. The library's
hook that the script's one passes on to is called afterwards, without arguments, as nobody knows them.

Guarantees: layout, bases, metaclass and order are those of the statement, and nobody else sees `_Silence`.

Threads: any; a class is in the hands of the thread that makes it.

Rejected: a base in front of the others, taken away again: Python changes bases only where the memory of
instances stays as it is. Another `__init_subclass__` in the base for a while: other threads make classes too.
"""

from __future__ import annotations

from multipy_actors._native import set_mro

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    IsSent = Callable[[type], bool]  # whether a class travels by value

__all__ = ["are_sent", "make", "set_attribute"]

_HOOK = "__init_subclass__"
_MARK = "__multipy_marker__"  # enumerations take other names for members


def are_sent(metaclass: type, bases: tuple[Any, ...], is_sent: IsSent) -> bool:
    """Say whether something that runs with the statement of such a class travels by value itself."""
    if any(map(is_sent, metaclass.__mro__)):
        return True
    return any(_HOOK in vars(cls) and is_sent(cls) for base in bases for cls in getattr(base, "__mro__", ()))


def make(
    metaclass: type,
    name: str,
    bases: tuple[type, ...],
    namespace: dict[str, Any],
    is_sent: IsSent,
    **options: Any,
) -> Any:
    """Make a class as its statement does, but for what travels by value; `namespace` is used up."""
    library = _library_of(metaclass, is_sent)
    namespace[_MARK] = _Marker()
    made = library.__new__(metaclass, name, bases, namespace, **options)
    del namespace[_MARK]
    if library.__init__ is not type.__init__:
        _call(library.__init__, made, name, bases, namespace, **options)
    sent = [cls for cls in made.__mro__[1:] if _HOOK in vars(cls) and is_sent(cls)]
    if sent and _passes_on(vars(sent[-1])[_HOOK]):
        _call(super(sent[-1], made).__init_subclass__)
    return made


def set_attribute(cls: type, name: str, value: object, is_sent: IsSent) -> None:
    """Put into a class what its statement has put there, whatever its metaclass allows later."""
    _library_of(type(cls), is_sent).__setattr__(cls, name, value)


def _library_of(metaclass: type, is_sent: IsSent) -> Any:
    return next(cls for cls in metaclass.__mro__ if not is_sent(cls))


def _call(hook: Callable[..., object], *args: Any, **options: Any) -> None:
    from contextlib import suppress

    with suppress(TypeError):  # it wants arguments of the statement, perhaps, and nobody knows them any more
        hook(*args, **options)


def _passes_on(hook: Any) -> bool:
    """Say whether the hook calls that of the next class."""
    code = getattr(getattr(hook, "__func__", None), "__code__", None)
    return code is not None and _HOOK in code.co_names


class _Marker:
    """Tells when a class is about to be made known to its bases."""

    def __set_name__(self, cls: type, name: str) -> None:
        try:
            type.__delattr__(cls, name)
        except TypeError:  # a compiled metaclass has its own way
            delattr(cls, name)
        order = cls.__mro__
        behind = order.index(cls) + 1
        set_mro(cls, (*order[:behind], _Silence, *order[behind:]))


class _Silence:
    """Is asked for `__init_subclass__` in place of the classes behind it."""

    __slots__ = ()

    def __init_subclass__(cls, **options: Any) -> None:
        set_mro(cls, tuple(other for other in cls.__mro__ if other is not _Silence))
