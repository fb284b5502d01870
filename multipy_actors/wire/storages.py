"""Keeping torch's storages from being resized while others use their memory.

Problem: `tensor.resize_`, `storage.resize_(0)` (as FSDP does it) and an `out=` that is too small free memory
behind the back of those it was exported to, who then read what is somebody else's. torch itself refuses that
for a storage that is not `resizable()`, which each one of memory that came by DLPack is; but no function of
Python's says so of an existing one.

Model: the flag is a byte of the C++ object behind the storage. `find_flag` compares a storage that can be
resized with one that cannot; each byte that is 1 in the one and 0 in the other may be it. It is cleared in a
storage made for that, and is the one if `resizable()` then says False. The core clears it while a tensor is
shared (native/bindings/export_guard.h).

Guarantees: nothing that anybody uses is written to. Where no byte is found, nothing is guarded, as with any
DLPack consumer.

Threads: under the GIL, once per interpreter, with the first tensor that is shared.

Rejected: replacing `torch.Tensor.resize_`, which `out=` and C++ code do not call; giving the tensor another
storage, which parts it from its views.
"""

from __future__ import annotations

from multipy_actors import _native

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["find_flag", "guard_storages"]

_POINTER = 8
_TENSOR_BYTES = 64  # of a tensor in which its storage is looked for
_FIRST, _LAST = 24, 88  # of a storage: after its reference counts, and before the end of the object


def guard_storages(torch: Any) -> None:
    """Let the core know where the flag of a storage lies."""
    found = find_flag(torch)
    if found is not None:
        _native.set_torch_layout(*found)


def find_flag(torch: Any) -> tuple[int, int] | None:
    """Return where a tensor refers to its storage, and where that has its flag; None if it cannot be told."""
    import ctypes

    free, scratch = torch.empty(16), torch.empty(16)
    fixed = torch.utils.dlpack.from_dlpack(torch.utils.dlpack.to_dlpack(torch.empty(16)))
    storages = [tensor.untyped_storage() for tensor in (free, fixed, scratch)]
    if [storage.resizable() for storage in storages] != [True, False, True]:
        return None
    in_tensor = [
        offset
        for offset in range(0, _TENSOR_BYTES, _POINTER)
        if all(
            ctypes.c_void_p.from_address(tensor._cdata + offset).value == storage._cdata
            for tensor, storage in zip((free, fixed, scratch), storages, strict=True)
        )
    ]
    if len(in_tensor) != 1:
        return None
    on, off = (ctypes.string_at(storage._cdata, _LAST) for storage in storages[:2])
    for offset in range(_FIRST, _LAST):
        flag = ctypes.c_ubyte.from_address(storages[2]._cdata + offset)
        if (on[offset], off[offset], flag.value) != (1, 0, 1):
            continue
        flag.value = 0
        is_it = not storages[2].resizable()
        flag.value = 1
        if is_it:
            return in_tensor[0], offset
    return None
