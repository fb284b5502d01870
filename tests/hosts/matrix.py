"""Runs smoke.py in every host that this machine has, and prints what came of it: `make test-hosts`.

A host is a Python: the one running this, Debian's /usr/bin/python3 with this one's packages, and any other
version found, for which the wheel is built into a virtual environment under --work. Each runs with an
allocator preloaded and without, and with NumPy and torch imported before the pool is made and not. For each
Python two C++ programs are built, if there is a compiler: one without Python, whose interpreters are that
Python's, and the same linked with that Python's libtorch. The exit status is 1 if any of them failed.

Other versions get NumPy and no torch, which is too large for a matrix.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import site
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import cpp_host

ROOT = Path(__file__).resolve().parents[2]
SMOKE = Path(__file__).with_name("smoke.py")
OTHER_VERSIONS = ("3.10", "3.11", "3.12", "3.13")
ALLOCATORS = {
    "jemalloc": ("libjemalloc.so.2",),
    "tcmalloc": ("libtcmalloc_minimal.so.4", "libtcmalloc.so.4"),
}
LIBRARY_FOLDERS = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/local/lib")
# Debian's Python is built with a shared libpython, which its executable does not use.
PROBE = """
import json, sys, sysconfig
version = ".".join(map(str, sys.version_info[:3]))
shared = "libpython" in open("/proc/self/maps").read()
free_threaded = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
print(json.dumps([version, shared, sys.implementation.name, free_threaded]))
"""


class Python(NamedTuple):
    """An executable, its version, and whether its libpython is a library of its own."""

    executable: str
    version: str
    shared: bool


class Host(NamedTuple):
    """A Python with what it finds (`path` is its PYTHONPATH), or why there is none."""

    python: Python
    name: str
    packages: tuple[str, ...] = ()
    path: str = ""
    problem: str = ""


def probe(executable: str) -> Python | None:
    """Return what the executable is; None if it is no ordinary CPython that runs."""
    try:
        done = subprocess.run([executable, "-c", PROBE], capture_output=True, timeout=60, cwd="/")
        version, shared, implementation, free_threaded = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    return Python(executable, version, shared) if implementation == "cpython" and not free_threaded else None


def other_pythons(known: str) -> Iterator[Python]:
    """Find one Python per version on PATH and in pyenv's folder; `known` is the version there is already."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    for version in OTHER_VERSIONS:
        if version == known:
            continue
        places = [shutil.which(f"python{version}"), *sorted(map(str, pyenv.glob(f"*/bin/python{version}")))]
        found = (python for place in places if place and (python := probe(place)))
        if (python := next(found, None)) is not None:
            yield python


def minor(version: str) -> str:
    """Return 3.11 of 3.11.7."""
    return ".".join(version.split(".")[:2])


def hosts(work: Path, only: list[str]) -> Iterator[Host]:
    """Yield every host; other versions are made ready as they are asked for."""
    mine = probe(sys.executable)
    assert mine is not None
    packages = tuple(name for name in ("numpy", "torch") if has(name))
    mine_path = os.environ.get("PYTHONPATH", "")
    yield Host(mine, "this Python", packages, mine_path)
    system = probe("/usr/bin/python3")
    if system and minor(system.version) == minor(mine.version):
        path = ":".join(filter(None, [mine_path, *site.getsitepackages()]))
        yield Host(system, "/usr/bin/python3", packages, path)
    elif system:
        yield prepared(system, "/usr/bin/python3", work, only)
    for python in other_pythons(minor(mine.version)):
        if not (system and minor(python.version) == minor(system.version)):
            yield prepared(python, f"python{minor(python.version)}", work, only)


def cpp_name(name: str) -> str:
    """Return how the C++ programs are called that have the interpreters of the Python `name`."""
    return f"C++ for {name}"


def has(name: str) -> bool:
    """Tell whether this Python can import the package."""
    import importlib.util

    return importlib.util.find_spec(name) is not None


def prepared(python: Python, name: str, work: Path, only: list[str]) -> Host:
    """Build and install the wheel for another Python into an environment of its own; they are kept."""
    if only and not {name, cpp_name(name)} & set(only):
        return Host(python, name)
    folder = work / f"python{python.version}"
    executable = str(folder / "bin" / "python")
    pip = [executable, "-m", "pip", "install", "--quiet"]
    print(f"building for {python.executable} ({python.version})", file=sys.stderr, flush=True)
    # Version by version a build folder of its own: a rebuild then compiles only what changed.
    build = f"--config-settings=build-dir={work}/build-{python.version}"
    for command in (
        [python.executable, "-m", "venv", str(folder)],
        [*pip, "scikit-build-core>=0.10", "nanobind>=3.1", "cmake", "ninja", "numpy"],
        [*pip, "--no-build-isolation", "--force-reinstall", "--no-deps", build, str(ROOT)],
        [*pip, "msgpack>=1.0", "cloudpickle>=3.0"],
    ):
        # With its tools in front on PATH, the build finds cmake and ninja.
        path = f"{folder}/bin:{os.environ['PATH']}"
        done = subprocess.run(
            command, env={**clean_environment(), "PATH": path}, capture_output=True, text=True
        )
        if done.returncode != 0:
            lines = (done.stderr + done.stdout).strip().splitlines()
            return Host(python, name, problem=f"{' '.join(command[1:4])}: {lines[-1] if lines else '?'}")
    return Host(Python(executable, python.version, python.shared), name, ("numpy",))


def clean_environment() -> dict[str, str]:
    """Return the environment without what would point a host to another one's packages."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "LD_"))}


def allocators(given: list[str]) -> dict[str, str]:
    """Return what can be preloaded: a name and a path each; "" stands for nothing."""
    found = {"": ""}
    for name, files in ALLOCATORS.items():
        places = [*given, *(os.path.join(folder, file) for folder in LIBRARY_FOLDERS for file in files)]
        place = next((p for p in places if os.path.basename(p) in files and os.path.exists(p)), None)
        if place is not None:
            found[name] = os.path.realpath(place)
    return found


def environment_for(host: Host, preload: str) -> dict[str, str]:
    """Return a clean environment in which the host finds its packages and has `preload` in it."""
    environment = clean_environment()
    if preload:
        environment["LD_PRELOAD"] = preload
    if host.path:
        environment["PYTHONPATH"] = host.path
    return environment


def try_host(host: Host, preload: str, first: bool, timeout: float) -> str:
    """Run the smoke test; return "ok" or the last line of what it said."""
    packages = ",".join(host.packages)
    arguments = [str(SMOKE), packages, packages if first else "", os.path.basename(preload)]
    try:
        done = subprocess.run(
            [host.python.executable, "-X", "faulthandler", *arguments],
            env=environment_for(host, preload),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        return f"not finished after {timeout:g} s"
    if done.returncode == 0 and done.stdout.endswith("smoke ok\n"):
        return "ok"
    lines = done.stderr.strip().splitlines() or ["?"]
    fatal = [line for line in lines if line.startswith("Fatal Python error")]
    return f"exit status {done.returncode}: {(fatal or lines[-1:])[0][:150]}"


def try_python(host: Host, preloads: dict[str, str], timeout: float) -> Iterator[tuple[str, str, str]]:
    """Yield what was preloaded, what was imported first and what came of it."""
    for preload, path in preloads.items():
        for first in (False, True):
            yield preload, ", ".join(host.packages) if first else "", try_host(host, path, first, timeout)


def try_cpp(
    host: Host, preloads: dict[str, str], folder: Path, timeout: float
) -> Iterator[tuple[str, str, str]]:
    """As `try_python`, for the C++ programs that have this Python's interpreters."""
    environment = environment_for(host, "")
    for library in ("", "libtorch") if "torch" in host.packages else ("",):
        linked = f"{library}, linked" if library else ""
        try:
            program = cpp_host.build(
                [host.python.executable],
                folder / (library or "alone"),
                with_torch=bool(library),
                environment=environment,
            )
        except cpp_host.BuildError as error:
            yield "", linked, f"not built: {str(error).splitlines()[-1][:150]}"
            continue
        for preload, path in preloads.items():
            result = cpp_host.run_all(
                program, host.packages, path, timeout=timeout, environment=environment_for(host, path)
            )
            yield preload, linked, result.splitlines()[-1][:150]


def main() -> int:
    """Run the matrix; 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--work", type=Path, default=ROOT / "build" / "hosts", help="where environments are kept"
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="HOST", help="names as in the first column")
    parser.add_argument("--allocator", nargs="+", default=[], metavar="PATH", help="libraries in odd places")
    parser.add_argument("--timeout", type=float, default=180.0, help="seconds for one run")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    preloads = allocators(options.allocator)
    for name in ALLOCATORS.keys() - preloads.keys():
        print(f"{name} is not installed: not tried", file=sys.stderr)
    if cpp_host.compiler() is None:
        print("no C++ compiler: no C++ programs tried", file=sys.stderr)
    layout = "{:<25} {:<8} {:<11} {:<9} {:<16} {}".format
    print(layout("host", "version", "libpython", "preloaded", "imported first", "result"))
    failed = 0
    for host in hosts(options.work, options.only):
        libpython = "library" if host.python.shared else "executable"
        trials = {host.name: try_python(host, preloads, options.timeout)}
        if cpp_host.compiler() is not None:
            folder = options.work / f"cpp-{host.name.rpartition('/')[2].replace(' ', '-')}"
            trials[cpp_name(host.name)] = try_cpp(host, preloads, folder, options.timeout)
        for name, results in trials.items():
            if options.only and name not in options.only:
                continue
            for preload, first, result in (
                [("", "", f"not tried: {host.problem}")] if host.problem else results
            ):
                failed += result != "ok"
                version = host.python.version
                print(layout(name, version, libpython, preload or "-", first or "-", result), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
