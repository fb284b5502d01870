"""Everything that is not pure data, as a pickle: functions, classes, objects, models, cyclic values.

Model: pickle protocol 5 as cloudpickle writes it. Importable functions and classes go by reference, and so do
those that a global of the script leads to, which then comes with the pickle (see scripts). Others go by value
(see functions and classes). Identity and cycles within one pickle are kept. Wherever pickle meets a tensor or
an array, `_reduce` puts its number in the table of tensors instead, so that it is shared; what DLPack refuses
keeps its own way of being pickled. Memoryviews go by reference as well (see buffers).

A `Copied` is a pickle inside the pickle, written with copies of the tensors in it, and so is an instance of a
class that promises value semantics (see sharing), unless such are shared as well.

Threads: any. A pickle names only global functions, so `_take` finds its table of tensors in a thread-local
variable, which `loads` sets and restores: unpickling may run code that unpickles something else.

Exceptions are made anew without their constructors (see exceptions). What functools makes of functions
(`cache`, `singledispatch`, `cached_property`) is taken apart here, as cloudpickle cannot; caches arrive
empty.

Security: both ends are one process and one user, so unpickling grants nothing that the sender did not have.

Start-up: cloudpickle is imported when something is first pickled; unpickling needs pickle only.
"""

from __future__ import annotations

import sys
from _thread import _local  # threading.local, without all of threading
from io import BytesIO
from io import TextIOWrapper as _TextFile

from multipy_actors.modules import imported
from multipy_actors.wire import buffers, references, tensors
from multipy_actors.wire.sharing import NOTHING, protected_bases
from multipy_actors.wire.tensors import Incoming, Outgoing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from multipy_actors.wire.by_value.scripts import Namespace, Part

    Buffer = bytes | memoryview

__all__ = ["Copied", "dumps", "loads"]


_Function = type(references.register)
_Module = type(sys)


class Copied:
    """What `values.copied` returns."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        """Mark `value`."""
        self.value = value


def dumps(value: Any, outgoing: Outgoing) -> bytes:
    """Pickle `value`, its tensors added to `outgoing`. Raises whatever the value's own code raises."""
    file = BytesIO()
    if type(value) is _Function and _write_named(file, value, outgoing):
        return file.getvalue()
    pickler = _new_pickler(file, outgoing)
    pickler.dump(value)
    if pickler.tokens:
        _write_table(file, pickler.tokens, pickler.needs, outgoing)
    return file.getvalue()


def loads(data: Buffer, incoming: Incoming) -> Any:
    """Rebuild what `dumps` pickled."""
    if data[-1] == _TABLE:
        _receive_table(data, incoming)
    return _load(data, incoming)


def _write_named(file: BytesIO, function: Any, outgoing: Outgoing) -> bool:
    """Write a function of the script as the name that leads to it, without a pickler, if one does."""
    scripts: Any = imported("multipy_actors.wire.by_value.scripts")
    if scripts is None or function.__module__ not in scripts.names_of_scripts:
        return False
    where = scripts.namespace_of(function.__globals__)
    path = None if where is None else scripts.place_of(function, where)
    if path is None:
        return False
    from pickle import dumps

    file.write(dumps(_Named(where.token, path), 5))
    _write_table(file, {where.token: None}, {(where.token, path[0]): None}, outgoing)
    return True


class _Named:
    """Arrives as the function to which a global leads."""

    def __init__(self, token: str, path: list[str]) -> None:
        self.place = token, path, ""

    def __reduce__(self) -> tuple[Any, ...]:
        return _find, self.place


_current = _local()
_pickler_classes: tuple[Any, ...] = ()


def _new_pickler(file: BytesIO, outgoing: Outgoing, of_globals: bool = False) -> Any:
    global _pickler_classes
    if not _pickler_classes:
        _pickler_classes = _make_pickler_classes()
    return _pickler_classes[of_globals](file, outgoing)


def _load(data: Buffer, incoming: Incoming, of_globals: bool = False) -> Any:
    from pickle import loads

    outer = getattr(_current, "incoming", None)
    _current.incoming = incoming
    try:
        return _unpickle_globals(data) if of_globals else loads(data)
    except BaseException:
        classes = imported("multipy_actors.wire.by_value.classes")
        if classes is not None:
            classes.forget_unfinished()
        raise
    finally:
        _current.incoming = outer


# The script's globals that a pickle refers to come after it, as a pickle, its length and this byte. Pickles
# end with another, and whoever reads them takes no notice of what follows.
_TABLE = ord("T")
_LENGTH = 8


def _write_table(
    file: BytesIO, tokens: dict[str, None], needs: dict[tuple[str, str], None], outgoing: Outgoing
) -> None:
    from multipy_actors.wire.by_value import scripts

    table = scripts.table(tokens, needs, outgoing, _pickle_globals(outgoing.inline))
    file.write(table)
    file.write(len(table).to_bytes(_LENGTH, "little"))
    file.write(bytes((_TABLE,)))


def _receive_table(data: Buffer, incoming: Incoming) -> None:
    from multipy_actors.wire.by_value import scripts

    end = len(data) - 1 - _LENGTH
    begin = end - int.from_bytes(data[end:-1], "little")
    scripts.receive(bytes(memoryview(data)[begin:end]), incoming, _load_globals)


def _pickle_globals(inline: bool) -> Callable[[Namespace, dict[str, Any]], Part]:
    """Return what pickles some globals of a script, for a table of what may be sent `inline`."""
    from multipy_actors.wire.by_value.scripts import Part

    def pickle(where: Namespace, values: dict[str, Any]) -> Part:
        outgoing = Outgoing(inline=inline)
        file = BytesIO()
        pickler = _new_pickler(file, outgoing, True)
        pickler.send_globals(where, values)
        part = Part()
        part.contents, part.attachments = file.getvalue(), outgoing.shared
        part.needs, part.others, part.instances = pickler.needs, pickler.others, pickler.instances
        return part

    return pickle


def _make_pickler_classes() -> tuple[Any, ...]:
    from contextlib import suppress
    from copyreg import __newobj__  # type: ignore[attr-defined]
    from enum import Enum
    from functools import _lru_cache_wrapper as lru_cache_wrapper
    from types import BuiltinFunctionType, CellType, CodeType, FunctionType, ModuleType
    from weakref import ref

    import cloudpickle  # type: ignore[import-untyped]
    from cloudpickle import cloudpickle as by_value

    from multipy_actors.wire.by_value import classes, functions, scripts

    # The script, as it is called in a process that multiprocessing has spawned; others cannot import it.
    alike = type, FunctionType, BuiltinFunctionType, ModuleType, CodeType, Enum
    script = sys.modules.get("__mp_main__")
    if script is not None:
        cloudpickle.register_pickle_by_value(script)

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        def __init__(self, file: BytesIO, outgoing: Outgoing) -> None:
            super().__init__(file, protocol=5)
            self.outgoing = outgoing
            self.protected = protected_bases() if outgoing.protects else ()
            self.tokens: dict[str, None] = {}  # of the scripts that it refers to
            self.needs: dict[tuple[str, str], None] = {}  # the globals of these
            self.cells: dict[int, CellType] = {}  # of functions, which fill them
            self.sources: dict[str, str | None] = {}

        def reducer_override(self, obj: Any) -> Any:
            if self.protected and issubclass(type(obj), self.protected):
                return _reduce_as_copy(obj, self.outgoing)
            reduced = _reduce(obj, self.outgoing)
            kind = type(obj)
            if reduced is None:
                reduced = self._reduce_named(obj, kind)
            reduced = reduced or _reduce_made_by_functools(obj)
            if reduced is None:
                if kind is FunctionType:
                    return self._reduce_function(obj)
                if issubclass(kind, type):
                    return self._reduce_class(obj)
                if kind is CodeType:
                    return functions.reduce_code(obj, self.sources) or NotImplemented
                if kind is CellType and id(obj) in self.cells:
                    return CellType, ()
                return super().reducer_override(obj)
            return reduced

        def _reduce_named(self, obj: Any, kind: Any) -> Any:
            """Return how a global of the script is found that pickle takes by its name.

            These are what decorators of other modules have made of functions, and instances that reduce
            themselves to a name. None: it is nothing like that.
            """
            if kind is FunctionType or kind is lru_cache_wrapper:
                home = _home_of_wrapped(obj)
                place = None if home is None else self._place_of(obj, home)
                return None if home is None or place is None else self._reference_to(home, place, "")
            if kind.__module__ not in scripts.names_of_scripts or kind in self.dispatch_table:
                return None
            if isinstance(obj, alike) or not _reduces_itself(kind):
                return None
            reduced = obj.__reduce_ex__(5)
            if type(reduced) is not str:
                return reduced
            names, path = classes.globals_of(kind), reduced.split(".")
            where = None if names is None else scripts.namespace_of(names)
            if where is None or scripts.led_to(where, path) is not obj:
                return None
            if self._is_sent(where, path[0]):
                return __newobj__, (kind,), getattr(obj, "__dict__", None) or None
            return self._reference_to(where, path, "")

        def _reduce_function(self, function: FunctionType) -> Any:
            where = scripts.namespace_of(function.__globals__)
            if by_value._should_pickle_by_reference(function):
                return super().reducer_override(function)
            if where is None:
                module = functions.module_of(function)
                if module is None or not by_value._should_pickle_by_reference(module):
                    return super().reducer_override(function)
                self.cells.update((id(cell), cell) for cell in function.__closure__ or ())
                return functions.reduce_function_of_module(function)
            path = self._place_of(function, where)
            if path is not None:
                return self._reference_to(where, path, "")
            self.tokens[where.token] = None  # it is made anew there, whether or not it needs a global
            names = function.__globals__
            in_code, assigned = functions.globals_in(function.__code__)
            where.assigned |= assigned
            for name in (*in_code, *functions.names_in_annotations(function.__annotations__, names)):
                self._need(where, name)
            cells = function.__closure__ or ()
            self.cells.update((id(cell), cell) for cell in cells)
            values = [names[name] for name in in_code if name in names]
            values += [content for cell in cells for content in functions.contents_of(cell)]
            submodules = by_value._find_imported_submodules(function.__code__, values)
            modules = [module.__name__ for module in submodules]
            return functions.reduce_function(function, where, self._global_of(function), modules)

        def _reduce_class(self, cls: Any) -> Any:
            if by_value._should_pickle_by_reference(cls):
                return super().reducer_override(cls)
            names = classes.globals_of(cls)
            where = None if names is None else scripts.namespace_of(names)
            if where is not None:
                path = self._place_of(cls, where)
                if path is not None:
                    return self._reference_to(where, path, classes.identity(cls))
                annotations = vars(cls).get("__annotations__")
                for name in functions.names_in_annotations(annotations, where.globals):
                    self._need(where, name)
            reduced = super().reducer_override(cls)
            if reduced[0] is by_value._make_skeleton_enum:
                return classes.reduce_enum(cls, reduced[2][0])
            if reduced[0] is by_value._make_skeleton_class:
                return classes.reduce_class(cls, reduced[2][0])
            return reduced

        def _place_of(self, obj: Any, where: Namespace) -> list[str] | None:
            return scripts.place_of(obj, where)

        def _is_sent(self, where: Namespace, name: str) -> bool:
            """Say whether that global is what is being sent."""
            return False

        def _global_of(self, obj: Any) -> str:
            """Return the name of the global that is bound to `obj` and being sent."""
            return ""

        def _reference_to(self, where: Namespace, path: list[str], identity: str) -> tuple[Any, ...]:
            """Return how the receiver finds a function or class to which a global leads."""
            self._need(where, path[0])
            return _find, (where.token, path, identity)

        def _need(self, where: Namespace, name: str) -> None:
            self.tokens[where.token] = None
            self.needs[where.token, name] = None

    class PicklerOfGlobals(Pickler):
        """Pickles the values of some globals, with names in place of other globals."""

        def send_globals(self, where: Namespace, values: dict[str, Any]) -> None:
            self.where, self.values = where, values
            self.known = where.parts_of_others(values)
            self.others: dict[str, None] = {}
            self.instances: dict[int, Any] = {}
            self.dump(values)

        def persistent_id(self, obj: Any) -> tuple[str, str] | None:
            name = self.known.get(id(obj))
            if name is None or (type(obj) is FunctionType and scripts.place_of(obj, self.where) is not None):
                return None
            self.others[name] = None
            self._need(self.where, name)
            return self.where.token, name

        def reducer_override(self, obj: Any) -> Any:
            if not isinstance(obj, alike) and type(obj).__module__ not in _ALIKE:
                with suppress(TypeError):
                    self.instances[id(obj)] = ref(obj)
            return super().reducer_override(obj)

        def _place_of(self, obj: Any, where: Namespace) -> list[str] | None:
            path = scripts.place_of(obj, where)
            return None if path is None or self._is_sent(where, path[0]) else path

        def _is_sent(self, where: Namespace, name: str) -> bool:
            return where is self.where and name in self.values

        def _global_of(self, obj: Any) -> str:
            return next((name for name, value in self.values.items() if value is obj), "")

    return Pickler, PicklerOfGlobals


_MOST_WRAPPERS = 50  # one may lead back to itself


def _home_of_wrapped(function: Any) -> Namespace | None:
    """Return the namespace of the script that has the function which is wrapped in this one."""
    from multipy_actors.wire.by_value import scripts

    if function.__module__ not in scripts.names_of_scripts:
        return None
    inner = function
    for _ in range(_MOST_WRAPPERS):
        inner = getattr(inner, "__wrapped__", None)
        where = scripts.namespace_of(inner.__globals__) if type(inner) is _Function else None
        if inner is None or where is not None:
            return where
    return None


def _reduces_itself(kind: Any) -> bool:
    """Say whether the class, or one it is derived from, defines how its instances are pickled."""
    return any(name in vars(cls) for cls in kind.__mro__[:-1] for name in ("__reduce__", "__reduce_ex__"))


# Of these modules are instances that arrive as the one there is, or never change.
_ALIKE = frozenset(("datetime", "decimal", "logging", "numpy.dtypes", "pathlib", "re", "typing"))


def _load_globals(data: Buffer, incoming: Incoming) -> Any:
    return _load(data, incoming, of_globals=True)


def _unpickle_globals(data: Buffer) -> Any:
    from pickle import Unpickler

    from multipy_actors.wire.by_value import scripts

    class UnpicklerOfGlobals(Unpickler):
        def persistent_load(self, place: tuple[str, str]) -> Any:
            token, name = place
            return scripts.find(token, [name])

    return UnpicklerOfGlobals(BytesIO(data)).load()


def _find(token: str, path: list[str], identity: str) -> Any:
    """Return a function or class of the script."""
    from multipy_actors.wire.by_value import scripts

    if identity:
        from multipy_actors.wire.by_value import classes

        found = classes.known(identity)
        if found is not None:
            return found
    return scripts.find(token, path)


def _reduce(obj: Any, outgoing: Outgoing) -> tuple[Any, ...] | None:
    kind = type(obj)
    if kind is Copied:
        return _reduce_as_copy(obj.value, outgoing)
    if kind is buffers.Box:
        return _take_buffer, buffers.take_apart(obj.value, outgoing)
    if kind is memoryview:
        return _take_buffer, buffers.take_apart(obj, outgoing)
    if tensors.is_numpy_scalar(kind):
        return tensors.rebuild_scalar, (tensors.flatten_scalar(obj),)
    if references.is_attachable(kind):
        attachment, rest = references.take_apart(obj)
        return _take_attached, (outgoing.attach(attachment), *rest)
    if kind is _TextFile and obj not in (sys.stdin, sys.stdout, sys.stderr):
        # cloudpickle would send what is left in it, as another kind of file.
        raise TypeError("an open file cannot be sent: send its path, or what is in it")
    if isinstance(obj, BaseException):
        from multipy_actors.wire import exceptions

        return exceptions.reduce(obj)
    if isinstance(obj, _Module) and kind is not _Module and sys.modules.get(obj.__name__) is obj:
        return _module_named, (obj.__name__,)  # cloudpickle knows modules that are of exactly this kind
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


def _module_named(name: str) -> Any:
    __import__(name)
    return sys.modules[name]


def _reduce_as_copy(value: Any, outgoing: Outgoing) -> tuple[Any, ...]:
    inner = Outgoing(NOTHING, outgoing.inline)
    inner.shared = outgoing.shared
    return _load_inner, (dumps(value, inner),)


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


_NAMED = (type, _Function, type(sys))  # classes, functions, modules


def _reduce_packaged(obj: Any) -> tuple[Any, ...] | None:
    """Return how what may be of a torch package is found elsewhere."""
    if not isinstance(obj, _NAMED):
        from multipy_actors.worker.torch_packages import reduce_deploy

        return reduce_deploy(obj)
    home = obj.__name__ if isinstance(obj, type(sys)) else obj.__module__
    if type(home) is not str or not home.startswith("<torch_package_"):
        return None
    packages = imported("multipy_actors.worker.torch_packages")
    return None if packages is None else packages.reference_to(obj, home)


def _take(index: int, description: tensors.Description) -> Any:
    incoming: Incoming = _current.incoming
    return incoming.take(index, description)


def _take_attached(index: int, *rest: Any) -> Any:
    incoming: Incoming = _current.incoming
    return references.put_together(incoming.shared[index], *rest)


def _take_buffer(*parts: Any) -> Any:
    return buffers.put_together(_current.incoming, *parts)


def _set_attributes(obj: Any, attributes: dict[str, Any]) -> None:
    obj.__dict__.update(attributes)


def _load_inner(data: bytes) -> Any:
    return loads(data, _current.incoming)
