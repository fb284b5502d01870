"""Modules that a pool has been given as text, in one interpreter.

Model: a finder before all others knows the modules by their names. A registered `a.b` makes `a` a package:
the registered one, or the one that other finders know, or else an empty one. Tracebacks show the text.

Threads: any. Registering does not change a module that is imported already.
"""

from __future__ import annotations

import sys
from importlib.abc import ExecutionLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

__all__ = ["register"]

_sources: dict[str, str] = {}


def register(name: str, source: str) -> None:
    """Have `import name` find the module."""
    _sources[name] = source
    for place, finder in ((0, _registered), (len(sys.meta_path), _parents)):
        if finder not in sys.meta_path:
            sys.meta_path.insert(place, finder)


def _has_children(name: str) -> bool:
    return any(registered.startswith(f"{name}.") for registered in _sources)


class _Loader(ExecutionLoader):
    def get_filename(self, fullname: str) -> str:
        # linecache asks loaders about what is no path, unless it is all in brackets.
        return f"<registered>/{fullname.replace('.', '/')}.py"

    def get_source(self, fullname: str) -> str:
        return _sources.get(fullname, "")

    def is_package(self, fullname: str) -> bool:
        return _has_children(fullname)


class _Finder(MetaPathFinder):
    """Finds what is registered or, with `implied`, the packages that this implies."""

    def __init__(self, implied: bool) -> None:
        self._implied = implied

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        found = _has_children(fullname) if self._implied else fullname in _sources
        if not found:
            return None
        return ModuleSpec(fullname, _LOADER, origin="registered", is_package=_has_children(fullname))


_LOADER = _Loader()
_registered, _parents = _Finder(False), _Finder(True)
