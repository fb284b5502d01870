"""Where the fields of an ELF file lie, for tests that damage one on purpose."""

from __future__ import annotations

import struct
from typing import NamedTuple

PT_LOAD, PT_DYNAMIC = 1, 2
DT_NEEDED, DT_HASH, DT_STRTAB, DT_SYMTAB, DT_RELA, DT_RELASZ, DT_STRSZ = 1, 4, 5, 6, 7, 8, 10
DT_JMPREL, DT_PLTRELSZ, DT_GNU_HASH, DT_VERSYM, DT_VERNEED = 23, 2, 0x6FFFFEF5, 0x6FFFFFF0, 0x6FFFFFFE

_HEADER = [
    ("ident", 16),
    ("type", 2),
    ("machine", 2),
    ("version", 4),
    ("entry", 8),
    ("phoff", 8),
    ("shoff", 8),
]
_HEADER += [
    ("flags", 4),
    ("ehsize", 2),
    ("phentsize", 2),
    ("phnum", 2),
    ("shentsize", 2),
    ("shnum", 2),
    ("shstrndx", 2),
]
_PROGRAM_HEADER = [
    ("type", 4),
    ("flags", 4),
    ("offset", 8),
    ("vaddr", 8),
    ("paddr", 8),
    ("filesz", 8),
    ("memsz", 8),
]
_PROGRAM_HEADER += [("align", 8)]
_SYMBOL = [("name", 4), ("info", 1), ("other", 1), ("shndx", 2), ("value", 8), ("size", 8)]
_RELOCATION = [("offset", 8), ("info", 8), ("addend", 8)]


class Field(NamedTuple):
    """`size` bytes at `offset`."""

    name: str
    offset: int
    size: int


class Layout:
    """The fields of the 64-bit little-endian library `content`."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.header = self._fields("header", _HEADER, 0)
        (phoff,) = struct.unpack_from("<Q", content, 32)
        (phnum,) = struct.unpack_from("<H", content, 56)
        self.program_headers_end = phoff + 56 * phnum
        self.program_headers = []
        self.segments = []  # (address, offset, size) of what is loaded
        for index in range(phnum):
            at = phoff + 56 * index
            self.program_headers += self._fields(f"program header {index}", _PROGRAM_HEADER, at)
            kind, _, offset, address, _, size = struct.unpack_from("<IIQQQQ", content, at)
            if kind == PT_LOAD:
                self.segments.append((address, offset, size))
            elif kind == PT_DYNAMIC:
                self.dynamic_offset, self.dynamic_size = offset, size
        self.dynamic = []
        self.tags: dict[int, int] = {}
        for at in range(self.dynamic_offset, self.dynamic_offset + self.dynamic_size, 16):
            tag, value = struct.unpack_from("<QQ", content, at)
            self.dynamic += [Field(f"tag {tag:#x}", at, 8), Field(f"value of {tag:#x}", at + 8, 8)]
            if tag == 0:
                break
            self.tags.setdefault(tag, value)

    def _fields(self, name: str, shape: list[tuple[str, int]], at: int) -> list[Field]:
        fields = []
        for part, size in shape:
            fields.append(Field(f"{name}: {part}", at, size))
            at += size
        return fields

    def offset(self, address: int) -> int:
        """Where the virtual `address` lies in the file."""
        for start, offset, size in self.segments:
            if start <= address < start + size:
                return offset + address - start
        raise ValueError(f"{address:#x} is not in the file")

    def field(self, name: str) -> Field:
        """The field of the headers or the dynamic section called `name`."""
        return next(f for f in (*self.header, *self.program_headers, *self.dynamic) if f.name == name)

    def symbols(self) -> list[Field]:
        """The fields of the symbol table, which linkers put right before the string table."""
        table, end = self.offset(self.tags[DT_SYMTAB]), self.offset(self.tags[DT_STRTAB])
        return [
            f
            for n, at in enumerate(range(table, end - 23, 24))
            for f in self._fields(f"symbol {n}", _SYMBOL, at)
        ]

    def relocations(self) -> list[Field]:
        """The fields of all relocations."""
        fields = []
        for table, size in ((DT_RELA, DT_RELASZ), (DT_JMPREL, DT_PLTRELSZ)):
            if table in self.tags:
                start = self.offset(self.tags[table])
                for at in range(start, start + self.tags[size], 24):
                    fields += self._fields(f"relocation {at:#x}", _RELOCATION, at)
        return fields

    def words(self) -> list[Field]:
        """The words of the hash tables and the version tables, as far as 128 bytes from their start."""
        fields = []
        for tag in (DT_HASH, DT_GNU_HASH, DT_VERSYM, DT_VERNEED):
            if tag in self.tags:
                start = self.offset(self.tags[tag])
                end = min(start + 128, len(self.content) - 4)
                fields += [Field(f"word of {tag:#x}", at, 4) for at in range(start, end, 4)]
        return fields

    def strings(self) -> list[Field]:
        """The bytes of the string table."""
        start = self.offset(self.tags[DT_STRTAB])
        return [Field("string", at, 1) for at in range(start, start + self.tags[DT_STRSZ])]
