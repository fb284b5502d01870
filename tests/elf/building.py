"""Compiles the tiny libraries that these tests load.

A library's file name tells its fate: the tests' pools take `libprivate_*` for private, all else that does
not use the CPython API is shared.
"""

from __future__ import annotations

import subprocess
import sysconfig
from pathlib import Path


class Workshop:
    """Makes libraries in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._sources = 0

    def library(
        self,
        name: str,
        source: str,
        *flags: str,
        needs: tuple[str, ...] = (),
        folder: str = "",
        soname: str | None = "",
        cpp: bool = False,
    ) -> str:
        """Compile `source` into `lib<name>.so`, linked with the libraries `needs`; return its path.

        `soname` is the file's name by default, absent if None. What it needs is found beside it.
        """
        return self._compile(f"lib{name}.so", source, flags, needs, folder, soname, cpp)

    def extension(
        self, name: str, source: str, *flags: str, needs: tuple[str, ...] = (), cpp: bool = False
    ) -> str:
        """Compile the extension module `name`; `source` defines the functions that `methods` lists."""
        include = f"-I{sysconfig.get_path('include')}"
        return self._compile(f"{name}.so", source, (include, *flags), needs, "", None, cpp)

    def _compile(
        self,
        file: str,
        source: str,
        flags: tuple[str, ...],
        needs: tuple[str, ...],
        folder: str,
        soname: str | None,
        cpp: bool,
    ) -> str:
        target = self.folder / folder / file
        target.parent.mkdir(parents=True, exist_ok=True)
        self._sources += 1
        text = self.folder / f"source_{self._sources}.{'cpp' if cpp else 'c'}"
        text.write_text(source)
        command = ["g++" if cpp else "gcc", "-shared", "-fPIC", "-O1", "-w", "-o", str(target), str(text)]
        if soname is not None:
            command.append(f"-Wl,-soname,{soname or file}")
        if needs and not any("-rpath" in flag for flag in flags):
            command.append("-Wl,-rpath,$ORIGIN")
        command += [*flags, "-Wl,--no-as-needed", *needs]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return str(target)


EXTENSION = """
#include <Python.h>
static PyObject *answer(PyObject *self, PyObject *args) { return PyLong_FromLong(42); }
static PyMethodDef methods[] = {{"answer", answer, METH_NOARGS, ""}, {0}};
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "NAME", "", -1, methods};
PyMODINIT_FUNC PyInit_NAME(void) { return PyModule_Create(&definition); }
"""
