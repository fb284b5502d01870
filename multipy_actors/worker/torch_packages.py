"""torch packages, as an interpreter sees them: one importer for each, weights that all interpreters share.

Problem: a package holds code, which each interpreter must have for itself, and weights, which should be in
memory once. Objects of its classes travel between interpreters, but the modules of a package have names that
mean something to one importer alone.

Model: whoever opens a package first reads the file into memory that belongs to no interpreter, a tensor of
bytes. That tensor, a number and a name are an `Opened`; it travels by these, as an attachment, and is one
object per interpreter and package, with an importer that reads from that memory. Storages of its pickles are
views of it, so all interpreters have the same, at the same address, and nothing is read twice. What a
`map_location` moves elsewhere is moved by the interpreter that loads first, which sends what it has got to
the others (`Loaded`).

`reference_to` says of a class, function or module of a package how it is found elsewhere: in the importer of
the same `Opened`. Objects with `__reduce_deploy__(importer)` say by themselves how they are rebuilt with the
importer of the other side: by the function and arguments it returns, called with that importer first.

Threads: any; `_lock` guards the tables, and is held while a package is opened. An `Opened` lives as long as
its importer: while the package is open here, or something of it is in use.

torch is imported when the first package is opened.
"""

from __future__ import annotations

import gc
import sys
import threading
import warnings
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakValueDictionary

from multipy_actors.wire import references
from multipy_actors.worker import archives

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from multipy_actors._native import SharedTensor

__all__ = [
    "Opened",
    "load",
    "maker_of",
    "open_package",
    "rebuild",
    "reduce_deploy",
    "reference_to",
    "release",
    "run",
]

_LARGE = 1 << 22  # bytes; looking for garbage takes a tenth of a second, which less memory can wait for

_lock = threading.RLock()
_known: WeakValueDictionary[int, Opened] = WeakValueDictionary()
_by_prefix: WeakValueDictionary[str, Opened] = WeakValueDictionary()  # of the names of its modules
_kept: dict[int, Opened] = {}  # until they are closed
_users: dict[int, int] = {}  # of which packages actors are, by number
_stays = 0  # bytes of closed packages that could not be freed the last time


class Opened:
    """A package that is open in this interpreter."""

    def __init__(self, number: int, name: str, shared: SharedTensor) -> None:
        """Make its importer, over the archive that `shared` holds."""
        import torch

        dlpack: Any = torch.utils.dlpack
        self.number = number
        self.name = name
        self.shared = shared
        self.memory: torch.Tensor = dlpack.from_dlpack(shared)
        self.importer = _open_importer(self)

    def load_pickle(self, package: str, resource: str, map_location: Any, loaded: Loaded) -> Any:
        """Unpickle a resource. `loaded` has the storages that are not where the package has them."""
        return self.importer.load_placed(package, resource, map_location, loaded)


class Loaded(dict[int, Any]):
    """The storages of a pickle that were moved, as tensors of bytes, by their places in the package."""

    def __reduce__(self) -> Any:
        """Arrive as what it is."""
        return Loaded, (dict(self),)


def open_package(number: int, name: str, source: Any) -> Opened:
    """Open a package from a path, or the bytes of an archive. RuntimeError if it is none."""
    return receive(archives.read(source), number, name)


def receive(shared: SharedTensor, number: int, name: str) -> Opened:
    """Return the package of that number here; it is opened if this is the first that is heard of it."""
    with _lock:
        opened = _known.get(number)
        if opened is None:
            opened = _known[number] = Opened(number, name, shared)
            _by_prefix[opened.importer.id()] = opened
        return opened


references.register(
    Opened, "SharedTensor", lambda opened: (opened.shared, (opened.number, opened.name)), receive
)


# Operations of the worker ----------------------------------------------------------------------------------


def run(args: list[Any], kwargs: dict[str, Any], operation: str, rest: list[Any]) -> Any:
    """Perform what is asked for of a package. All but "open" and "close" have it as their first argument."""
    if operation == "close":
        if _kept.pop(rest[0], None) is not None:
            _collect()
        return None
    if operation == "open":
        number, name = rest
        opened = _kept[number] = open_package(number, name, args[0])
        return opened
    opened, *args = args
    _kept[opened.number] = opened
    return getattr(opened.importer, rest[0])(*args, **kwargs)


def load(args: list[Any], operation: str, actor: int) -> tuple[Any, Any]:
    """Load a pickle or a module for an actor: the object, and what other interpreters should know of it."""
    opened: Opened = args[0]
    _kept[opened.number] = opened
    _users[actor] = opened.number
    if operation == "import":
        return opened.importer.import_module(args[1]), None
    _, package, resource, map_location = args
    loaded = Loaded()
    return opened.load_pickle(package, resource, map_location, loaded), loaded


def maker_of(source: list[Any], actor: int) -> Callable[[], Any]:
    """Return what makes an actor's object later, from a pickle or a module of a package."""
    kind, package, *rest = source

    def make() -> Any:
        opened: Opened = package.result()
        _users[actor] = opened.number
        if kind == "module":
            return opened.importer.import_module(*rest)
        load, package_name, resource, map_location = rest
        return opened.load_pickle(package_name, resource, map_location, load.result())

    return make


def release(actor: int) -> None:
    """Take note that an actor is gone."""
    if _users.pop(actor, None) is not None:
        _collect()


def _collect() -> None:
    """Free closed packages that no actor uses: their modules and importers refer to each other."""
    global _stays
    if _left_over() >= _stays + _LARGE:
        gc.collect()
        _stays = _left_over()  # something of them is in use, or pinned: torch.fx.wrap does that to modules


def _left_over() -> int:
    in_use = {*_kept, *_users.values()}
    return sum(opened.shared.nbytes for number, opened in _known.items() if number not in in_use)


# Importers -------------------------------------------------------------------------------------------------

_classes: tuple[type, type] | None = None


def _open_importer(opened: Opened) -> Any:
    global _classes
    if _classes is None:
        _classes = _make_classes()
    reader_class, importer_class = _classes
    try:
        reader = reader_class(archives.File(opened.shared))
        reader.memory = opened.memory
        return importer_class(reader, opened)
    except RuntimeError as error:
        raise RuntimeError(f"{opened.name} is not an archive of torch.package: {error}") from error


def _make_classes() -> tuple[type, type]:
    import torch
    from torch import package as packages

    importer_class: Any = packages.PackageImporter  # type: ignore[attr-defined]
    reader_class: Any = torch._C.PyTorchFileReader
    serialization: Any = torch.serialization
    # The importer uses what torch itself has deprecated; once in every interpreter is a lot of noise.
    warnings.filterwarnings("ignore", "TypedStorage is deprecated", UserWarning, r"torch\.package\b")

    class Reader(reader_class):  # type: ignore[misc]
        """A reader whose storages are where the archive is."""

        memory: torch.Tensor

        def get_storage_from_record(self, name: str, count: int, dtype: torch.dtype) -> torch.Tensor:
            """Return a tensor with a storage of its own over the record."""
            dlpack: Any = torch.utils.dlpack
            start = self.get_record_offset(name)
            contents = self.memory[start : start + count * dtype.itemsize]
            if contents.data_ptr() % dtype.itemsize:
                contents = contents.clone()
            storage: torch.Tensor = dlpack.from_dlpack(dlpack.to_dlpack(contents))
            return storage.view(dtype)

    class SharingImporter(importer_class):  # type: ignore[misc]
        """An importer whose storages are shared with other interpreters."""

        _stated_locations: ClassVar[threading.local] = threading.local()

        def __init__(self, reader: Any, opened: Opened) -> None:
            super().__init__(reader)
            self.filename = opened.name
            self.opened = opened

        def __reduce__(self) -> Any:
            """Travel as the importer of the package there."""
            return _importer_of, (self.opened,)

        @property
        def last_map_location(self) -> Any:
            """What the caller of `load_pickle` said; TorchScript takes no function for it."""
            return getattr(self._stated_locations, "value", None)

        @last_map_location.setter
        def last_map_location(self, value: Any) -> None:
            """Leave it: what torch sets is the function of `load_placed`."""

        def load_pickle(self, package: str, resource: str, map_location: Any = None) -> Any:
            return self.load_placed(package, resource, map_location, {})

        def load_placed(self, package: str, resource: str, map_location: Any, moved: dict[int, Any]) -> Any:
            """Unpickle a resource; storages that are in `moved` are these, and what is moved goes there."""
            memory = self.opened.memory
            restore = serialization._get_restore_location(map_location)

            def place(storage: Any, location: str) -> Any:
                offset = storage._untyped_storage.data_ptr() - memory.data_ptr()
                if offset in moved:
                    storage_class: Any = torch.storage.TypedStorage
                    wrapped = moved[offset].untyped_storage()
                    return storage_class(wrap_storage=wrapped, dtype=storage.dtype, _internal=True)
                placed = restore(storage, location)
                untyped = placed._untyped_storage
                if untyped is not storage._untyped_storage and 0 <= offset < len(memory):
                    moved[offset] = torch.empty(0, dtype=torch.uint8, device=untyped.device).set_(untyped)
                return placed

            outer = self.last_map_location
            self._stated_locations.value = map_location
            try:
                return super().load_pickle(package, resource, place)
            finally:
                self._stated_locations.value = outer

    return Reader, SharingImporter


# What of packages travels ----------------------------------------------------------------------------------


def reference_to(obj: Any, home: str) -> tuple[Any, ...] | None:
    """Return how `obj`, of module `home` of a package, is found elsewhere; None if it cannot be by name."""
    prefix, _, module = home.partition(".")
    opened = _by_prefix.get(prefix)
    if opened is None:
        return None
    if isinstance(obj, type(sys)):
        return _module_of, (opened, module)
    name = getattr(obj, "__qualname__", "")
    found: Any = opened.importer.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return (_member_of, (opened, module, name)) if found is obj else None


def _importer_of(opened: Opened) -> Any:
    return opened.importer


def _module_of(opened: Opened, module: str) -> Any:
    return opened.importer.import_module(module)


def _member_of(opened: Opened, module: str, name: str) -> Any:
    found = _module_of(opened, module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def reduce_deploy(obj: Any) -> tuple[Any, ...]:
    """Return how `obj`, which has `__reduce_deploy__`, is rebuilt elsewhere."""
    import torch

    packages: Any = torch.package
    opened = _by_prefix.get(type(obj).__module__.partition(".")[0])
    importer = packages.sys_importer
    if opened is not None:
        importer = packages.OrderedImporter(opened.importer, importer)
    function, args = obj.__reduce_deploy__(importer)
    return rebuild, (opened, function, args)


def rebuild(opened: Opened | None, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """Make the object that `reduce_deploy` took apart."""
    import torch

    packages: Any = torch.package
    return function(packages.sys_importer if opened is None else opened.importer, *args)
