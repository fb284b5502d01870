"""Tells a C++ program what interpreters like this Python need.

Run as a file, `python describe.py PROGRAM`, by native/embed/description.cpp, with the file descriptor 3 to
write to: texts that each end with a zero byte. First come a heading, libpython and the extension module, then
the names and values of the fields of PyConfig (see interpreter.boot_settings). Problems are told on stderr,
and the exit status is 1.

The package is the one that this file is part of, whichever others this Python would import.
"""

import os
import sys

HEADING = b"multipy_actors description 1"


def main() -> None:
    """Write the description."""
    folder = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    del sys.path[0]  # this file's folder
    program = sys.argv[1]
    sys.argv[:] = [program]
    sys.orig_argv[:] = [program]
    home = os.path.dirname(folder)
    if not any(_is_same(path, home) for path in sys.path):
        sys.path.append(home)
    paths = [path for path in sys.path if path]

    # Another installation must not stand in for this one, whose libraries the program has.
    sys.path.insert(0, home)
    try:
        from multipy_actors import _native
    except ImportError as error:
        there = [name for name in os.listdir(folder) if name.startswith("_native.") and name.endswith(".so")]
        version = f"{sys.implementation.name} {sys.version_info.major}.{sys.version_info.minor}"
        sys.exit(f"{sys.executable} is {version} and cannot use {', '.join(there) or 'a _native'}: {error}")
    from multipy_actors.errors import InterpreterStartError
    from multipy_actors.pool import interpreter

    try:
        __import__("cloudpickle")
    except ImportError as error:
        sys.exit(f"{sys.executable} lacks a package that multipy_actors needs: {error}")
    if not _is_same(sys.modules["multipy_actors"].__path__[0], folder):
        sys.exit(f"{folder} is not what is imported as multipy_actors")
    if not _comes_first(home, paths):
        paths.insert(0, home)
    try:
        texts = [HEADING, os.fsencode(interpreter.find_libpython()), os.fsencode(_native.__file__)]
    except InterpreterStartError as error:
        sys.exit(str(error))
    for setting in interpreter.boot_settings(paths):
        texts += setting
    with open(3, "wb") as file:
        file.write(b"".join(text + bytes(1) for text in texts))


def _is_same(path: str, other: str) -> bool:
    try:
        return os.path.samefile(path or ".", other)
    except OSError:
        return False


def _comes_first(home: str, paths: list[str]) -> bool:
    """Say whether `home` is where an import through `paths` finds this package."""
    for path in paths:
        if os.path.isdir(os.path.join(path, "multipy_actors")):
            return _is_same(path, home)
    return False


if __name__ == "__main__":
    main()
