"""Builds programs that use the installed library, as a user builds theirs.

What is built links the package that this Python imports, and its interpreters are this Python's.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import multipy_actors as multipy

FOLDER = Path(__file__).resolve().parent
PACKAGE = Path(multipy.__path__[0])
HAS_TORCH = importlib.util.find_spec("torch") is not None
SECONDS = 600


def compiler() -> str | None:
    """Return the path of a C++ compiler."""
    return shutil.which(os.environ.get("CXX") or "g++") or shutil.which("c++")


def cmake() -> str | None:
    """Return the path of CMake, which may be installed beside this Python."""
    beside = Path(sys.executable).parent / "cmake"
    return str(beside) if beside.exists() else shutil.which("cmake")


def why_not() -> str | None:
    """Return what is missing to build anything with CMake; None if nothing is."""
    if compiler() is None:
        return "no C++ compiler"
    if cmake() is None:
        return "no cmake"
    if not Path(multipy.cmake_dir(), "multipy_actors-config.cmake").exists():
        return "the package is not installed, so it has no CMake configuration"
    return None


def run(command, *, timeout=SECONDS, status=0, **environment):
    """Run a command to its end, and return it with what it wrote; its exit status must be `status`."""
    variables = os.environ | environment
    # An installation in a virtual environment is to find that by itself.
    if not PACKAGE.is_relative_to(sys.prefix):
        variables.setdefault("MULTIPY_PYTHON", sys.executable)
    done = subprocess.run(
        [str(word) for word in command],
        env=variables,
        cwd=FOLDER,  # where no source folder of the package is
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=timeout,
    )
    assert done.returncode == status, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def build(folder: Path, *options: str) -> None:
    """Configure and build the tests and examples."""
    ninja = shutil.which("ninja", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    generator = ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"] if ninja else []
    run(
        [cmake(), "-S", FOLDER, "-B", folder, *generator, f"-DCMAKE_CXX_COMPILER={compiler()}",
         f"-Dmultipy_actors_DIR={multipy.cmake_dir()}", f"-DPython_EXECUTABLE={sys.executable}",
         *options]
    )  # fmt: skip
    run([cmake(), "--build", folder, "--parallel", str(os.cpu_count() or 1)])
