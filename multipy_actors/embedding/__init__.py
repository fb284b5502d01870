"""Where a C++ program finds what it is built with: library and headers, installed with the package.

See docs/guides/embedding.md. `python -m multipy_actors cmake-dir` prints the same for build scripts.
"""

from __future__ import annotations

import argparse
import os

__all__ = ["cmake_dir"]

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def cmake_dir() -> str:
    """Return the folder for CMake's variable `multipy_actors_DIR`, with which `find_package` works."""
    return os.path.join(_PACKAGE, "cmake")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Have the command print the folder."""
    parser.set_defaults(run=_print)


def _print(options: argparse.Namespace) -> int:
    print(cmake_dir())
    return 0
