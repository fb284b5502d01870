"""Classes of msgspec that travel by value: their metaclass makes of the statement what cannot be set later.

Model: the statement is put together again, from what msgspec tells of the fields and options of a class. The
metaclass looks for `__post_init__` when it makes the class, which has no methods then; it is given one that
calls the one to come.

Threads: any; no state.
"""

from __future__ import annotations

from multipy_actors.modules import imported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

__all__ = ["contents_of", "is_struct", "make", "statement_of"]

_OPTIONS = (
    "array_like",
    "cache_hash",
    "dict",
    "eq",
    "forbid_unknown_fields",
    "frozen",
    "gc",
    "omit_defaults",
    "order",
    "repr_omit_defaults",
    "tag",
    "tag_field",
    "weakref",
)


def is_struct(cls: type) -> bool:
    """Say whether the metaclass of `cls` is msgspec's."""
    msgspec: Any = imported("msgspec")
    return msgspec is not None and isinstance(cls, type(msgspec.Struct))


def statement_of(cls: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Return the annotations of a struct, the fields by the arguments of `msgspec.field`, and its options."""
    import msgspec

    own = vars(cls)
    annotations = own.get("__annotations__", {})
    fields: dict[str, Any] = {}
    for field in msgspec.structs.fields(cls):
        if field.name in own.get("__slots__", ()):
            fields[field.name] = given = {"name": field.encode_name}
            for name in ("default", "default_factory"):
                if getattr(field, name) is not msgspec.NODEFAULT:
                    given[name] = getattr(field, name)
    options = {name: getattr(cls.__struct_config__, name) for name in _OPTIONS}
    options["kw_only"] = bool(fields) and not fields.keys() & set(cls.__match_args__)
    return annotations, fields, options


def contents_of(contents: dict[str, Any]) -> dict[str, Any]:
    """Return those `contents` of a struct that are not made by its statement."""
    return {name: value for name, value in contents.items() if name not in _MADE}


_MADE = frozenset(("__annotations__", "__match_args__"))


def make(
    new: Callable[..., Any],
    metaclass: Any,
    name: str,
    bases: tuple[type, ...],
    namespace: dict[str, Any],
    statement: tuple[dict[str, Any], dict[str, Any], dict[str, Any]],
    has_post_init: bool,
) -> Any:
    """Make a struct, but for its methods; `new` is called as its metaclass is, with that before the rest."""
    import msgspec

    annotations, fields, options = statement
    contents = {**namespace, "__annotations__": annotations}
    for field, given in fields.items():
        contents[field] = msgspec.field(**given)
    if has_post_init:

        def post_init(self: Any) -> None:
            vars(made)["__post_init__"](self)

        contents["__post_init__"] = post_init
    made = new(metaclass, name, bases, contents, **options)
    return made
