"""Builds the C++ programs in cpp/ against an installed multipy_actors, and runs them.

A program needs nothing of Python but its description: a file that the Python whose interpreters it shall
have has written. It links libmultipy_core from the installed package, and is compiled with this repository's
headers.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
MODULES = ("guest.py", "smoke.py")
# How a program may end without closing; `compute` needs torch.
LEAVING = ("idle", "starting", "spin", "block", "leave_a_thread", "compute")
# Printed by an interpreter in the scenario `work`.
SAID = "grüße aus Python\n"
# Run by the Python that is described, with the file to write and a folder for sys.path.
DESCRIBE = """
import os, sys
target, folder = sys.argv[1:]
sys.argv[:] = ["host"]
from multipy_actors import _native
from multipy_actors.pool import interpreter
texts = [os.fsencode(interpreter.find_libpython()), os.fsencode(_native.__file__)]
for setting in interpreter.boot_settings([path for path in [folder, *sys.path] if path]):
    texts += setting
open(target, "wb").write(b"".join(text + bytes(1) for text in texts))
"""
PACKAGE = "import multipy_actors; print(multipy_actors.__path__[0])"
TORCH = """
import json, os, torch
from torch.utils.cpp_extension import include_paths
folder = os.path.join(os.path.dirname(torch.__file__), "lib")
print(json.dumps([include_paths(), folder, int(torch._C._GLIBCXX_USE_CXX11_ABI)]))
"""


class Program(NamedTuple):
    """An executable and the file that tells it of a Python."""

    executable: str
    description: str


class BuildError(Exception):
    """The program could not be made; the text is what the compiler or the Python said."""


def compiler() -> str | None:
    """Return the path of a C++ compiler."""
    return shutil.which(os.environ.get("CXX") or "g++") or shutil.which("c++")


def build(
    python: Sequence[str],
    folder: Path,
    *,
    with_torch: bool = False,
    flags: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Program:
    """Make a program in `folder` that has interpreters of `python`, a command, and links libtorch or not."""
    # Programs are in the C locale if they do not choose another; names beyond ASCII must work in it too.
    guests = folder / "gäste des Hauses"
    guests.mkdir(parents=True, exist_ok=True)
    for module in MODULES:
        shutil.copy(FOLDER / module, guests)
    description = str(folder / "description")
    _run([*python, "-c", DESCRIBE, description, str(guests)], environment)
    package = _run([*python, "-c", PACKAGE], environment).strip()
    cxx = compiler()
    if cxx is None:
        raise BuildError("no C++ compiler")
    executable = str(folder / "host")
    sources = [
        str(FOLDER / "cpp" / name) for name in ("host.cpp", f"own_{'torch' if with_torch else 'nothing'}.cpp")
    ]
    command = [cxx, "-std=c++20", "-O1", "-Wall", "-Wextra", f"-I{ROOT / 'native'}", *flags]
    libraries = [f"{package}/libmultipy_core.so", f"-Wl,-rpath,{package}", "-pthread", "-ldl"]
    if with_torch:
        includes, library_folder, new_abi = json.loads(_run([*python, "-c", TORCH], environment))
        command += [flag for include in includes for flag in ("-isystem", include)]
        command.append(f"-D_GLIBCXX_USE_CXX11_ABI={new_abi}")
        libraries += [f"-L{library_folder}", f"-Wl,-rpath,{library_folder}"]
        libraries += ["-Wl,--no-as-needed", "-ltorch", "-ltorch_cpu", "-lc10"]
    _run([*command, *sources, "-o", executable, *libraries], environment)
    return Program(executable, description)


def _run(command: Sequence[str], environment: Mapping[str, str] | None) -> str:
    # From elsewhere: `python -c` would import the package from the folder it is in.
    done = subprocess.run(command, env=environment, cwd=FOLDER, capture_output=True, text=True)
    if done.returncode != 0:
        raise BuildError(f"{command[0]}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def run(
    program: Program, *arguments: str, timeout: float, environment: Mapping[str, str] | None = None
) -> str:
    """Run it; return "ok", or what went wrong."""
    try:
        done = subprocess.run(
            [program.executable, program.description, *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        return f"not finished after {timeout:g} s"
    said = SAID if arguments[0] == "work" else ""
    if done.returncode == 0 and done.stdout == said + "host ok\n" and not done.stderr:
        return "ok"
    return f"exit status {done.returncode}: {done.stdout}{done.stderr}".strip()


def run_all(
    program: Program,
    packages: Sequence[str],
    preloaded: str,
    *,
    timeout: float,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Run every scenario of cpp/host.cpp; return "ok" or what went wrong first."""
    leaving = [how for how in LEAVING if how != "compute" or "torch" in packages]
    scenarios = [["work", ",".join(packages), os.path.basename(preloaded)], ["fail"]]
    for scenario in [*scenarios, *(["leave", how] for how in leaving)]:
        result = run(program, *scenario, timeout=timeout, environment=environment)
        if result != "ok":
            return f"{' '.join(scenario)}: {result}"
    return "ok"
