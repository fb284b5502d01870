"""Archives of torch packages in memory: read once, for all interpreters, and read from like a file.

Model: the contents are a tensor of bytes, as memory that belongs to torch can be given back from any thread
and outlives the interpreter that has read it. A `File` looks at it for the reader of torch.

Threads: any; a File belongs to its reader.
"""

from __future__ import annotations

import os
from typing import Any

from multipy_actors._native import SharedTensor

__all__ = ["File", "read"]


def read(source: Any) -> SharedTensor:
    """Return the archive that is in a file or, unpacked, in a folder, or whose bytes `source` is."""
    if not isinstance(source, str):
        return _filled(memoryview(source).cast("B"))
    return _zipped(source) if os.path.isdir(source) else _read_file(source)


def _empty(size: int) -> SharedTensor:
    import torch

    dlpack: Any = torch.utils.dlpack
    return SharedTensor(dlpack.to_dlpack(torch.empty(size, dtype=torch.uint8)))


def _read_file(path: str) -> SharedTensor:
    with open(path, "rb", buffering=0) as file:
        shared = _empty(os.fstat(file.fileno()).st_size)
        view = _bytes_of(shared)
        filled = 0
        while filled < len(view):
            count = file.readinto(view[filled:])
            if not count:
                raise EOFError(f"{path} has become shorter while it was read")
            filled += count
    return shared


def _filled(contents: memoryview) -> SharedTensor:
    shared = _empty(len(contents))
    _bytes_of(shared)[:] = contents
    return shared


def _bytes_of(shared: SharedTensor) -> memoryview:
    return memoryview(shared)  # type: ignore[arg-type]


def _zipped(folder: str) -> SharedTensor:
    """Return the archive that an unpacked package was, or would have been."""
    import io
    import zipfile

    name = os.path.basename(os.path.abspath(folder))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for parent, _, names in os.walk(folder):
            for path in (os.path.join(parent, each) for each in names):
                record = zipfile.ZipInfo(f"{name}/{os.path.relpath(path, folder)}")
                # Storages are aligned, as in archives of torch's: the contents follow header, name and this.
                start = file.tell() + 30 + len(record.filename.encode()) + 4
                padding = -start % 64
                record.extra = b"FB" + padding.to_bytes(2, "little") + b"Z" * padding
                with open(path, "rb") as contents:
                    archive.writestr(record, contents.read())
    return _filled(file.getbuffer())


class File:
    """The memory of a package, as the file that torch reads from."""

    def __init__(self, shared: SharedTensor) -> None:
        """Begin at its first byte."""
        self._view = _bytes_of(shared)
        self._place = 0

    def tell(self) -> int:
        """Return the place that is read next."""
        return self._place

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go to a place."""
        self._place = offset + (0, self._place, len(self._view))[whence]
        return self._place

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes; all, without a size."""
        end = len(self._view) if size < 0 else self._place + size
        contents = bytes(self._view[self._place : end])
        self._place += len(contents)
        return contents

    def readline(self, size: int = -1) -> bytes:
        """Refuse; torch wants the method to be there."""
        raise OSError("an archive has no lines")

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` with the next bytes, and say how many there were."""
        contents = self._view[self._place : self._place + len(buffer)]
        buffer[: len(contents)] = contents
        self._place += len(contents)
        return len(contents)
