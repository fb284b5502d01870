"""Hands torch tensors and NumPy arrays to another interpreter without copying their memory.

Problem: a tensor object belongs to one interpreter, but its memory belongs to the process. DLPack describes
the memory (address, shape, strides, dtype, device, and how to give it back) without naming any library's
C++ types, so each side may run a torch or NumPy of its own.

Model: `share(obj, copy)` exports the memory as a `SharedTensor` (owned by the C++ core; the last holder, in
whichever interpreter, gives the memory back) and a *description*: a sequence of plain data with all that
DLPack does not say. `receive(shared, description)` builds an object of the same type around the same
memory, any number of times. `Outgoing` and `Incoming` number the tensors of one value, so that what was one
object arrives as one. `Refused` says that this very object cannot be shared so; the caller then pickles it,
which copies.

What is kept: dtype, shape, strides, device, read-only (NumPy), `requires_grad` as a flag of a detached
leaf, `nn.Parameter` as the type. Attributes that somebody set on a tensor are the caller's business: see
`attributes`. dtypes foreign to DLPack travel as bytes: float8 and the like (torch), big-endian, datetime64,
strings, structures, long double (NumPy).

What is shared stays where it is: while anybody has it, NumPy refuses to resize the array, and torch the
storage (see storages). What is sent as a copy is the receiver's own.

What is refused, hence pickled by its own rules: sparse, quantised, nested and meta tensors, subclasses of
tensors and arrays, arrays of objects, and any array under NumPy < 2.1, whose DLPack can neither send nor
receive the read-only flag. Their rules lead to parts that are shared all the same: to other tensors, to
storages, and to the array that an instance of a subclass (a memmap, say) is a view of. `parts_of` takes apart
these two.

Threads: no state but a table that only grows, so any thread may call. torch and numpy are imported only
when a value of theirs arrives: `kind_of` recognises their types by name.
"""

from __future__ import annotations

import sys
from _weakref import ref

from multipy_actors import gpu
from multipy_actors._native import Attachment, Mark, SharedTensor
from multipy_actors.modules import imported
from multipy_actors.wire.sharing import ARRAYS, NOTHING

TYPE_CHECKING = False  # importing typing would take longer than all of this
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    import numpy
    import torch

    from multipy_actors.wire.sharing import Share

    Description = Sequence[Any]

__all__ = [
    "Incoming",
    "Outgoing",
    "Refused",
    "attributes",
    "flatten_scalar",
    "is_numpy_scalar",
    "kind_of",
    "parts_of",
    "rebuild_scalar",
    "receive",
    "share",
]

# The first item of a description.
_TENSOR, _PARAMETER, _ARRAY = 0, 1, 2

_NAMES = {
    ("torch", "Tensor"): _TENSOR,
    ("torch.nn.parameter", "Parameter"): _PARAMETER,
    ("numpy", "ndarray"): _ARRAY,
}
_kinds: dict[type, int] = {}  # the types of _NAMES, as far as met


class Refused(Exception):
    """This object cannot be shared by DLPack."""


def kind_of(cls: type) -> int | None:
    """Return a number if `share` is worth trying for instances of exactly `cls`, else None."""
    kind = _kinds.get(cls)
    if kind is None:
        # A class may shadow __module__ with anything, even something unhashable.
        module = cls.__module__
        if type(module) is str and (module, cls.__name__) in _NAMES:
            home: Any = sys.modules.get(module)
            if getattr(home, cls.__name__, None) is cls:
                kind = _kinds[cls] = _NAMES[module, cls.__name__]
    return kind


def is_numpy_scalar(cls: type) -> bool:
    """Say whether `cls` is a NumPy scalar type whose instances are a dtype and fixed-size bytes."""
    if cls.__module__ != "numpy":
        return False
    numpy: Any = imported("numpy")
    if numpy is None:
        return False
    kinds = (numpy.number, numpy.bool_, numpy.datetime64, numpy.timedelta64)
    return issubclass(cls, kinds) and getattr(numpy, cls.__name__, None) is cls


def parts_of(obj: Any) -> tuple[Any, ...] | None:
    """Return a storage, or an array of a subclass, as a function and what to call it with.

    Among that is a tensor or array of the same memory, or another storage. None: it is neither.
    """
    cls = type(obj)
    if cls.__module__ == "torch.storage":
        return _parts_of_storage(obj)
    numpy: Any = imported("numpy")
    base = getattr(numpy, "ndarray", None)
    if base is None or cls is base or not issubclass(cls, base):
        return None
    if any(getattr(cls, name) is not getattr(base, name) for name in ("__reduce__", "__reduce_ex__")):
        return None  # it has rules of its own
    kept = dict(attributes(obj) or {})
    kept.pop("_mmap", None)  # of a memmap, which the array holds
    return _view_as, (cls, obj.view(base), kept)


def attributes(obj: Any) -> dict[str, Any] | None:
    """Return what was set on `obj`, a tensor, as attributes; None where there is nothing, or cannot be."""
    return getattr(obj, "__dict__", None) or None


def share(obj: Any, copy: bool) -> tuple[SharedTensor, Description]:
    """Export `obj`, of a type that `kind_of` knows; with `copy`, export a copy of it. May raise Refused."""
    kind = kind_of(type(obj))
    if kind is None:
        raise Refused(type(obj))
    return _share_array(obj, copy) if kind == _ARRAY else _share_tensor(obj, kind, copy)


def receive(shared: SharedTensor, description: Description) -> Any:
    """Build the object that `description` tells of around the memory of `shared`."""
    if description[0] == _ARRAY:
        return _receive_array(shared, *description[1:])
    return _receive_tensor(shared, *description)


class Outgoing:
    """The attachments of one encoded value: its tensors, each once, and others.

    `share` says which tensors are shared and which are copied (see sharing). What stands for something inline
    is only among the attachments with `inline`, as it cannot leave the host.
    """

    __slots__ = ("copy", "inline", "protects", "seen", "shared")

    def __init__(self, share: Share = ARRAYS, inline: bool = False) -> None:
        self.copy = share == NOTHING
        self.protects = share == ARRAYS
        self.inline = inline
        self.shared: list[Attachment] = []
        self.seen: dict[int, tuple[Any, tuple[int, Description]]] = {}

    def add(self, obj: Any) -> tuple[int, Description]:
        """Return the index and the description of a tensor. May raise Refused."""
        known = self.seen.get(id(obj))
        if known is not None:
            return known[1]
        shared, description = share(obj, self.copy)
        place = len(self.shared), description
        self.shared.append(shared)
        self.seen[id(obj)] = obj, place  # holding obj keeps its id from being used again
        return place

    def attach(self, attachment: Attachment) -> int:
        """Return the index of an attachment that is no tensor."""
        if not self.inline and not isinstance(attachment, Attachment):
            raise TypeError("it is of an inline pool, and cannot leave the host")
        self.shared.append(attachment)
        return len(self.shared) - 1


class Incoming:
    """The attachments of one value that is being decoded, and the objects made of tensors so far."""

    __slots__ = ("objects", "shared")

    def __init__(self, shared: Sequence[Attachment]) -> None:
        while shared and isinstance(mark := shared[-1], Mark):
            gpu.follow(mark)
            shared = shared[:-1]
        self.shared = shared
        self.objects: dict[int, Any] = {}

    def take(self, index: int, description: Description) -> Any:
        """Return the object for the tensor at `index`, the same one each time."""
        if index not in self.objects:
            self.objects[index] = receive(cast_tensor(self.shared[index]), description)
        return self.objects[index]


def cast_tensor(attachment: Attachment) -> SharedTensor:
    """Return `attachment`, which the encoded value says is a tensor."""
    assert isinstance(attachment, SharedTensor)
    return attachment


# torch -----------------------------------------------------------------------------------------------------


def _parts_of_storage(storage: Any) -> tuple[Any, ...] | None:
    import torch

    if type(storage) is torch.storage.TypedStorage:
        return _typed_storage, (storage._untyped_storage, storage.dtype)
    if type(storage) is not torch.storage.UntypedStorage or storage.device.type == "meta":
        return None
    tensor = torch.empty(0, dtype=torch.uint8, device=storage.device)
    return _storage_of, (tensor.set_(storage),)


def _storage_of(tensor: torch.Tensor) -> Any:
    return tensor.untyped_storage()


def _typed_storage(storage: Any, dtype: Any) -> Any:
    import torch

    make: Any = torch.storage.TypedStorage
    return make(wrap_storage=storage, dtype=dtype, _internal=True)


_guards_storages = False


def _share_tensor(tensor: torch.Tensor, kind: int, copy: bool) -> tuple[SharedTensor, Description]:
    import torch

    global _guards_storages
    if not _guards_storages:
        from multipy_actors.wire import storages

        _guards_storages = True
        storages.guard_storages(torch)
    if tensor.layout is not torch.strided or tensor.is_quantized:
        raise Refused("sparse or quantised")
    # The alias has no Python object once we return, so that giving the memory back needs no interpreter.
    alias = tensor.detach()
    if alias.is_conj():
        alias = alias.resolve_conj()
    if alias.is_neg():
        alias = alias.resolve_neg()
    if copy and alias.data_ptr() == tensor.data_ptr():
        alias = alias.clone()
    # Unlike the protocol's method it exports from any GPU, and leaves the order of streams to us.
    dlpack: Any = torch.utils.dlpack
    dtype = None
    try:
        capsule = dlpack.to_dlpack(alias)
    except Exception:
        # A dtype that DLPack does not know, or no memory to speak of (meta, fake, functional tensors).
        dtype = str(tensor.dtype).rpartition(".")[2]
        try:
            alias = alias.view(torch.uint8)
            capsule = dlpack.to_dlpack(alias)
        except Exception as error:
            raise Refused(str(error)) from error
    # Some torch versions set the strides of dimensions of length 0 and 1 to 1.
    shape = alias.shape
    strides = tuple(alias.stride()) if 1 in shape or 0 in shape else None
    stream = gpu.stream_on(alias.device.index) if alias.is_cuda else None
    shared = SharedTensor(capsule, stream, None, 0 if copy else alias._cdata, copy)
    return shared, (kind, tensor.requires_grad, dtype, strides)


def _receive_tensor(
    shared: SharedTensor, kind: int, requires_grad: bool, dtype: str | None, strides: Any
) -> torch.Tensor:
    import torch

    dlpack: Any = torch.utils.dlpack
    must_be_copied = shared.must_be_copied
    # Given `shared` itself, it would first ask much that is known here.
    index = shared.gpu
    capsule = shared.__dlpack__() if index is None else shared.__dlpack__(stream=gpu.stream_on(index))
    if shared.is_pinned:
        gpu.begin()  # before, torch would take it for memory as any other
    tensor: torch.Tensor = dlpack.from_dlpack(capsule)
    if strides is not None and tensor.stride() != tuple(strides):
        tensor = tensor.as_strided(tensor.shape, strides)
    if dtype is not None:
        tensor = tensor.view(getattr(torch, dtype))
    if must_be_copied:
        tensor = tensor.clone()
    if kind == _PARAMETER:
        return torch.nn.Parameter(tensor, requires_grad)
    return tensor.requires_grad_() if requires_grad else tensor


# NumPy -----------------------------------------------------------------------------------------------------


def _view_as(cls: type[numpy.ndarray[Any, Any]], array: numpy.ndarray[Any, Any], kept: dict[str, Any]) -> Any:
    view = array.view(cls)
    if kept:
        view.__dict__.update(kept)
    return view


def _share_array(array: numpy.ndarray[Any, Any], copy: bool) -> tuple[SharedTensor, Description]:
    dtype = array.dtype
    if dtype.hasobject or _numpy_is_old():
        raise Refused("holds objects")
    if copy:
        array = array.copy(order="K")
    # DLPack calls both C types by their size and would return the one for the other.
    told = dtype.char if dtype.char in "qQ" else None
    try:
        capsule = array.__dlpack__(max_version=(1, 0))
    except Exception:
        import pickle

        if dtype.itemsize == 0:
            raise Refused("items of no size") from None
        told = pickle.dumps(dtype, 5)
        flat = _reinterpret(array, "|u1", (*array.shape, dtype.itemsize), (*array.strides, 1))
        capsule = flat.__dlpack__(max_version=(1, 0))
    strides = array.strides if 1 in array.shape or 0 in array.shape else None
    # To what it is a view of: that has the memory.
    owner = None if copy else ref(array if array.base is None else _owner_of(array))
    return SharedTensor(capsule, None, owner, 0, copy), (_ARRAY, told, strides)


def _owner_of(array: numpy.ndarray[Any, Any]) -> numpy.ndarray[Any, Any]:
    numpy: Any = sys.modules["numpy"]
    while isinstance(array.base, numpy.ndarray):
        array = array.base
    return array


def _receive_array(shared: SharedTensor, told: str | bytes | None, strides: Any) -> Any:
    must_be_copied = shared.must_be_copied
    array = _array_of(shared, told, strides)
    return array.copy(order="K") if must_be_copied else array


def _array_of(shared: SharedTensor, told: str | bytes | None, strides: Any) -> Any:
    import numpy

    if shared.is_pinned and imported("torch") is not None:
        gpu.begin()
    array: Any = numpy.from_dlpack(shared)
    if isinstance(told, bytes):
        import pickle

        dtype = pickle.loads(told)
        shape = array.shape[:-1]
        given = tuple(strides) if strides is not None else array.strides[:-1]
        return _reinterpret(array, f"|V{dtype.itemsize}", shape, given).view(dtype)
    if strides is not None and array.strides != tuple(strides):
        array = _reinterpret(array, array.dtype.str, array.shape, tuple(strides))
    return array if told is None else array.view(told)


class _Memory:
    """Another reading of an array's memory, in NumPy's array interface; keeps the array alive."""

    def __init__(self, owner: Any, interface: dict[str, Any]) -> None:
        self.owner = owner
        self.__array_interface__ = interface


def _reinterpret(array: Any, typestr: str, shape: tuple[int, ...], strides: tuple[int, ...]) -> Any:
    import numpy

    interface = {
        "version": 3,
        "typestr": typestr,
        "shape": shape,
        "strides": strides,
        "data": (array.__array_interface__["data"][0], not array.flags.writeable),
    }
    return numpy.asarray(_Memory(array, interface))


def flatten_scalar(scalar: Any) -> bytes:
    """Return a NumPy scalar's dtype and contents, for `rebuild_scalar`."""
    dtype = scalar.dtype
    # C types of equal size differ by their char only (NumPy's own pickles mix them up); units of time are
    # told by the string only.
    name = dtype.str if dtype.kind in "mM" else dtype.char
    return name.encode() + b"\0" + scalar.tobytes()  # type: ignore[no-any-return]


def rebuild_scalar(data: bytes) -> Any:
    """Return the NumPy scalar, in its very type."""
    import numpy

    name, _, raw = data.partition(b"\0")
    return numpy.frombuffer(raw, name.decode())[0]


def _numpy_is_old() -> bool:
    numpy = sys.modules["numpy"]
    major, minor = numpy.__version__.split(".")[:2]
    return (int(major), int(minor)) < (2, 1)
