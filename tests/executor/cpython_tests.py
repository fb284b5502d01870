"""Finds CPython's own tests of executors, `test.test_concurrent_futures`, and makes them importable.

Problem: the standard library's tests are installed with it by default, but distributions leave them out or
ship them apart, and `make install` of CPython 3.11.7 and 3.12.1, say, forgot just this package. So where this
Python has none, those of another Python on the machine are borrowed, of the same version or the next older
one; they run under this Python, with its `test.support`. MULTIPY_CPYTHON_TESTS names the folder of a `test`
package to use before all others.

Layouts: one module up to 3.11, a package of several since. `classes` hides the difference.

Importing this module extends `test.__path__`. Interpreters do it as well: what they are sent names functions
of these modules, and `borrowed/`, put first on their path, has a `test` package that imports this.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import pkgutil
import re
import sys
import sysconfig
from pathlib import Path
from types import ModuleType

NAME = "test.test_concurrent_futures"
BORROWED = Path(__file__).with_name("borrowed")
OLDEST = (3, 10)
_THIS = sys.version_info[:2]
_OWN = Path(sysconfig.get_path("stdlib")) / "test"


def _version(folder):
    """Return (3, 11) of …/lib/python3.11/test; this Python's version if the path does not tell."""
    found = re.search(r"/python3\.(\d+)/", str(folder))
    return (3, int(found[1])) if found else _THIS


def _candidates():
    """Yield folders that may be a `test` package, the most fitting first."""
    if explicit := os.environ.get("MULTIPY_CPYTHON_TESTS"):
        yield Path(explicit).resolve()
    yield _OWN
    # Debian's package libpython3.x-testsuite, and whatever is installed beside this Python. Newer tests would
    # ask for more of `test.support` than this Python has.
    others = [
        *Path("/usr/lib").glob("python3.*/test"),
        *Path(sys.base_prefix).glob("../*/lib/python3.*/test"),
    ]
    known = {folder.resolve() for folder in others if OLDEST <= _version(folder) <= _THIS}
    yield from sorted(known, key=lambda folder: (_version(folder), str(folder)), reverse=True)


@functools.cache
def folder():
    """Return the `test` package that has the tests, or None."""
    parts = NAME.split(".")[1]
    for candidate in _candidates():
        if (candidate / f"{parts}.py").is_file() or (candidate / parts / "__init__.py").is_file():
            return candidate
    return None


def is_borrowed():
    """Say whether the tests are not this Python's own."""
    return folder() not in (None, _OWN)


def search_path():
    """Return the `__path__` of a `test` package with the tests: this Python's own part comes first."""
    own = [str(_OWN)] if _OWN.is_dir() else []
    return [*own, str(folder())] if is_borrowed() else own


def modules():
    """Import the tests; return their modules."""
    package = importlib.import_module(NAME)
    if not hasattr(package, "__path__"):
        return [package]
    names = sorted(each.name for each in pkgutil.iter_modules(package.__path__) if each.name != "__main__")
    return [importlib.import_module(f"{NAME}.{name}") for name in names]


def classes():
    """Return the classes that have test methods of their own, by name, with the names of these."""
    found = {}
    for module in modules():
        for name, cls in inspect.getmembers(module, inspect.isclass):
            tests = [test for test in vars(cls) if test.startswith("test_")]
            if tests and cls.__module__ == module.__name__:
                found[name] = (cls, tests)
    return found


if is_borrowed():
    try:
        _package = importlib.import_module("test")
    except ImportError:
        _package = sys.modules.setdefault("test", ModuleType("test"))
    _package.__path__ = search_path()
