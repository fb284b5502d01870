"""Says what a private interpreter finds on this machine, and which installed packages work in one.

Problem: whether a package's extension modules load as private images is known only by trying, and a bad one
may take the process down with it.

Model: a `Candidate` is an installed distribution that brings native code, with the packages to import for it.
Each is imported in a process of its own, where `try_imports` runs and reports through a pipe, and comes back
as an `Outcome`: one row of the table. A crash or a hang is a row too.

One import is not enough: a library that interpreters share may keep what one of them registered in it, and
that hurts who comes next. So each is imported in two interpreters, in two more after these have ended, and
then in the host.

The doctor itself never imports a candidate, and imports the pool only in child processes: a doctor that does
not come up itself is of no use.
"""

from __future__ import annotations

import contextlib
import importlib.machinery
import importlib.metadata
import json
import mmap
import os
import platform
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import PurePosixPath
from typing import IO, TYPE_CHECKING, NamedTuple

from multipy_actors.errors import InterpreterStartError
from multipy_actors.pool.interpreter import find_libpython

if TYPE_CHECKING:
    import argparse

    from multipy_actors.pool.interpreter import Interpreter

__all__ = ["Candidate", "Outcome", "candidates", "diagnose"]

DESCRIPTION = (
    "Imports every installed package that has native code in two private interpreters, in two more when "
    "these have ended, and in the host after them, each package in a process of its own, and prints what "
    "came of it. The exit status is 1 if one of them failed."
)
_TIMEOUT_SECONDS = 180.0
_LONGEST_ERROR = 160
_AT_THE_END = "at the end of the process"

# The child imports from where the parent does.
_CHILD = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from multipy_actors.cli import doctor; "
    "doctor.try_imports(*json.loads(sys.argv[2]), int(sys.argv[3]))"
)
_PLAIN_CHILD = (
    "import importlib, json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "modules, extension, _ = json.loads(sys.argv[2]); "
    "[importlib.import_module(name) for name in [*modules, *([extension] if extension else [])]]"
)


class Candidate(NamedTuple):
    """An installed distribution, what to import for it, and its first extension module, "" if there is none.

    That one is imported too if `modules` load nothing from `place`, the path its native files start with:
    some packages load native code only when first used.
    """

    name: str
    version: str
    modules: tuple[str, ...]
    extension: str = ""
    place: str = ""


class Outcome(NamedTuple):
    """What came of one candidate; `images` counts private images, None if it never got to tell."""

    works: bool
    text: str
    images: int | None


# What to try -----------------------------------------------------------------------------------------------


def candidates(only: Iterable[str] = ()) -> list[Candidate]:
    """Return the installed distributions with native code, by name; with `only`, those named, native or not.

    A name is that of a distribution or of a module that one brings. Raises LookupError for a name that
    nothing installed has.
    """
    wanted = {_normalised(name): name for name in only}
    found: dict[str, Candidate] = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        if not name or _normalised(name) in found:  # what comes first on sys.path is what is imported
            continue
        modules, extension, place = _native_modules(distribution)
        if wanted:
            names = {_normalised(name), *(_normalised(module.split(".")[0]) for module in modules)}
            if names.isdisjoint(wanted):
                continue
            modules = modules or _top_level(distribution)
            for known in names:
                wanted[known] = ""
        if modules:
            found[_normalised(name)] = Candidate(name, distribution.version, modules, extension, place)
    missing = [name for name in wanted.values() if name] if wanted else []
    if missing:
        raise LookupError(f"not installed: {', '.join(sorted(missing))}")
    return [found[key] for key in sorted(found)]


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _native_modules(distribution: importlib.metadata.Distribution) -> tuple[tuple[str, ...], str, str]:
    """Return the last three fields of the distribution's Candidate.

    To import are the outermost packages that hold native files, and extension modules outside of any package.
    """
    names: dict[str, None] = {}
    first = place = ""
    for file in distribution.files or ():
        if file.suffix != ".so" or ".." in file.parts:
            continue
        name = _package_of(distribution, file)
        if (not first or name is None) and _is_extension_module(distribution, file):
            module = ".".join([*file.parts[:-1], file.name.partition(".")[0]])
            if not first and _is_importable(module):
                first, place = module, os.path.realpath(str(distribution.locate_file(file.parts[0])))
            name = name or module
        if name is not None and _is_importable(name):
            names.setdefault(name)
    return tuple(names), first, place


def _is_importable(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))


def _package_of(distribution: importlib.metadata.Distribution, file: PurePosixPath) -> str | None:
    for depth in range(1, len(file.parts)):
        folder = PurePosixPath(*file.parts[:depth])
        if os.path.isfile(str(distribution.locate_file(folder / "__init__.py"))):
            return ".".join(folder.parts)
    return None


def _is_extension_module(distribution: importlib.metadata.Distribution, file: PurePosixPath) -> bool:
    """Tell an extension module from any other shared library; only the former has an init function."""
    if any(
        file.name.endswith(suffix) for suffix in importlib.machinery.EXTENSION_SUFFIXES if suffix != ".so"
    ):
        return True
    try:
        with (
            open(str(distribution.locate_file(file)), "rb") as stream,
            mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            return content.find(b"PyInit_" + file.stem.encode() + b"\0") >= 0
    except (OSError, ValueError):  # gone, or empty
        return False


def _top_level(distribution: importlib.metadata.Distribution) -> tuple[str, ...]:
    names: dict[str, None] = {}
    for file in distribution.files or ():
        if file.suffix != ".py" or ".." in file.parts:
            continue
        name = _package_of(distribution, file) or (file.stem if len(file.parts) == 1 else None)
        if name is not None and _is_importable(name):
            names.setdefault(name)
    return tuple(names)


# Trying it -------------------------------------------------------------------------------------------------


class _Failed(Exception):
    """What went wrong has been told."""


class _Trial:
    """The imports of one candidate; tells step by step how far it got."""

    def __init__(self, modules: Sequence[str], stream: IO[str]) -> None:
        self.names = list(modules)
        self.images: int | None = None  # of the first interpreter
        self._stream = stream

    def reach(self, where: str, error: str = "") -> None:
        """Write a line: where it is now, what went wrong there, how many images there are."""
        self._stream.write(json.dumps([where, error, self.images]) + "\n")

    def step(self, where: str, importing: Callable[[], str]) -> None:
        """Import; `importing` returns what went wrong."""
        self.reach(where)
        try:
            error = importing()
        except BaseException as raised:
            error = _one_line(raised)
        if error:
            self.reach(where, error)
            raise _Failed


def try_imports(modules: Sequence[str], extension: str, place: str, report: int) -> None:
    """Import a candidate in interpreters and in this process; tell the descriptor `report` how it went."""
    from multipy_actors.pool.pool import Pool

    with os.fdopen(report, "w", buffering=1) as stream, contextlib.suppress(_Failed):
        trial = _Trial(modules, stream)

        def first() -> str:
            error = _import_in(one, trial.names)
            loaded = any(
                image.private and os.path.realpath(image.path).startswith(place) for image in pool.images()[0]
            )
            if extension and not error and not loaded:
                trial.names.append(extension)
                error = _import_in(one, trial.names)
            trial.images = sum(image.private for image in pool.images()[0])
            return error

        with Pool(2) as pool:
            one, other = pool.interpreters
            trial.step("", first)
            trial.step("in a second interpreter", lambda: _import_in(other, trial.names))
            trial.reach("at the interpreter's end")
        with Pool(2) as pool:
            for each in pool.interpreters:
                trial.step("in a second pool", partial(_import_in, each, trial.names))
            trial.reach("at the end of a second pool")
        trial.step("in the host afterwards", lambda: _import_all(trial.names))
        trial.reach(_AT_THE_END)


def _import_in(interpreter: Interpreter, names: list[str]) -> str:
    return interpreter.submit(_import_all, names).result()


def _import_all(modules: list[str]) -> str:
    """Return what went wrong, in one line; the exception itself may not be able to travel."""
    for name in modules:
        try:
            importlib.import_module(name)
        except BaseException as error:
            return _one_line(error)
    return ""


def _one_line(error: BaseException) -> str:
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= _LONGEST_ERROR else text[: _LONGEST_ERROR - 1] + "…"


def diagnose(candidate: Candidate, timeout: float = _TIMEOUT_SECONDS) -> Outcome:
    """Import the candidate in the interpreters of a new process, which may take `timeout` seconds.

    If that fails, the text also says whether an ordinary Python cannot import it either.
    """
    outcome = _diagnose_inside(candidate, timeout)
    if outcome.works or _imports_in_plain_python(candidate, timeout):
        return outcome
    return outcome._replace(text=f"{outcome.text} (in an ordinary Python too)")


def _imports_in_plain_python(candidate: Candidate, timeout: float) -> bool:
    command = [*_python(_PLAIN_CHILD), json.dumps(candidate[2:])]
    null = subprocess.DEVNULL
    try:
        done = subprocess.run(command, stdin=null, stdout=null, stderr=null, timeout=timeout)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def _python(source: str) -> list[str]:
    return [sys.executable, "-X", "faulthandler", "-c", source, json.dumps(sys.path)]


def _diagnose_inside(candidate: Candidate, timeout: float) -> Outcome:
    reader, writer = os.pipe()
    with os.fdopen(reader) as stream:
        command = [*_python(_CHILD), json.dumps(candidate[2:])]
        try:
            child = subprocess.Popen(
                [*command, str(writer)],
                pass_fds=[writer],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,  # so that its own children can be ended with it
            )
        finally:
            os.close(writer)
        try:
            _, complaint = child.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.communicate()
            return Outcome(False, f"did not finish within {timeout:g} s", None)
        # A process that the package started may still hold the pipe, so what is there is all there is.
        os.set_blocking(reader, False)
        told = (stream.read() or "").splitlines()
    where, error, images = json.loads(told[-1]) if told else ("", "", None)
    if error:
        return Outcome(False, f"{where}: {error}" if where else error, images)
    if child.returncode < 0:
        return Outcome(
            False, " ".join(f"crashed {where} with {_signal_name(-child.returncode)}".split()), images
        )
    if child.returncode != 0 or where != _AT_THE_END:
        lines = complaint.decode(errors="replace").strip().splitlines() or [f"exit {child.returncode}"]
        return Outcome(False, lines[-1][:_LONGEST_ERROR], images)
    return Outcome(True, "works", images)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


# The command -----------------------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's options to `parser`; its result runs as `options.run(options)`."""
    parser.add_argument("--only", nargs="+", metavar="NAME", default=[], help="only these packages")
    parser.add_argument("--timeout", type=float, default=_TIMEOUT_SECONDS, help="seconds for one package")
    parser.add_argument(
        "--jobs", type=int, default=None, help="packages tried at once (default: one per CPU)"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the machine and the table; 1 if there is no libpython or a package failed, 2 for a wrong name."""
    try:
        libpython, usable = find_libpython(), True
    except InterpreterStartError as error:
        libpython, usable = str(error), False
    for title, text in machine(libpython):
        print(f"{title:<15} {text}")
    if not usable:
        return 1
    try:
        found = candidates(options.only)
    except LookupError as error:
        print(error.args[0], file=sys.stderr)
        return 2
    jobs = options.jobs or len(os.sched_getaffinity(0))
    print()
    failed = 0
    with ThreadPoolExecutor(max_workers=max(1, jobs)) as executor:
        outcomes = executor.map(lambda candidate: diagnose(candidate, options.timeout), found)
        for line, works in table(found, outcomes):
            print(line, flush=True)
            failed += not works
    print(f"\n{len(found)} packages, {failed} failed")
    return 1 if failed else 0


def machine(libpython: str) -> list[tuple[str, str]]:
    """Return what a report of a problem should say of the machine."""
    return [
        ("libpython", libpython),
        ("glibc", " ".join(platform.libc_ver()).strip() or "not glibc"),
        ("Python", f"{platform.python_version()}, {sys.executable}"),
        ("kernel", f"{platform.system()} {platform.release()} {platform.machine()}"),
        ("multipy-actors", importlib.import_module("multipy_actors").__version__),
    ]


def table(found: Sequence[Candidate], outcomes: Iterable[Outcome]) -> Iterator[tuple[str, bool]]:
    """Yield each line of the table as its outcome is there, and whether that was a good one."""
    name_width = max([len("package"), *(len(candidate.name) for candidate in found)])
    version_width = max([len("version"), *(len(candidate.version) for candidate in found)])
    yield f"{'package':<{name_width}}  {'version':<{version_width}}  images  result", True
    for candidate, outcome in zip(found, outcomes, strict=True):
        images = "-" if outcome.images is None else str(outcome.images)
        start = f"{candidate.name:<{name_width}}  {candidate.version:<{version_width}}"
        yield f"{start}  {images:>6}  {outcome.text}", outcome.works
