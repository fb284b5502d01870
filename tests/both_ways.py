"""Runs calls in a worker process and in an interpreter, for scripts that tests write, and says what differs.

The worker process is a ProcessPoolExecutor's, started afresh (`spawn`), the interpreter a Pool's of one;
each is kept for all calls of a script, so what a call leaves behind (globals, files, environment) the next
one meets. Each has a folder of its own to begin in, and a file for what it prints.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import functools
import multiprocessing
import os
import pickle
import re
import sys
import traceback
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sent_values import same

PATIENCE = 60
WAYS = ("process", "interpreter")


@dataclasses.dataclass
class Outcome:
    """What came of one call: a value or an error, and what its arguments are afterwards, to the caller."""

    value: Any = None
    error: BaseException | None = None
    arguments: Any = None

    def __str__(self) -> str:
        if self.error is None:
            return f"{type(self.value).__name__} {self.value!r}, arguments {self.arguments!r}"
        return f"{described(self.error)}\n{remote_text(self.error)}"


# What is sent ----------------------------------------------------------------------------------------------


class Closure:
    """A closure, or a lambda, that `make(*args)` returns: sent as it is, but made in a worker process."""

    def __init__(self, make: Callable[..., Callable[..., Any]], *args: Any) -> None:
        self.make, self.args = make, args

    def sent_by(self, way: str) -> Callable[..., Any]:
        """Return what is sent."""
        if way == "process":
            return functools.partial(_make_and_call, self.make, self.args)
        return self.make(*self.args)


def _make_and_call(make: Callable[..., Any], made_of: tuple[Any, ...], *args: Any, **kwargs: Any) -> Any:
    return make(*made_of)(*args, **kwargs)


# What comes back -------------------------------------------------------------------------------------------


def described(error: BaseException | None) -> Any:
    """Return what is to be equal in two errors: type, arguments, text, notes and other attributes."""
    if error is None:
        return None
    inner = [described(one) for one in getattr(error, "exceptions", ())]
    attributes = {name: value for name, value in vars(error).items() if name != "__notes__"}
    return (
        type(error).__module__,
        type(error).__qualname__,
        inner or repr(error.args),
        str(error),
        getattr(error, "__notes__", None),
        repr(attributes),
    )


def comparable(value: Any) -> Any:
    """Return what is to be equal in two values that are not compared by `==`."""
    if isinstance(value, BaseException):
        return described(value)
    if isinstance(value, functools.partial):
        return value.func, value.args, value.keywords
    if isinstance(value, types.MethodType):
        return value.__func__, value.__self__
    if type(value) in (tuple, list):
        return type(value)(map(comparable, value))
    return value


def remote_text(error: Any) -> str:
    """Return the part of the remote traceback that is the user's: functions, lines, source text."""
    text = str(error.__cause__).strip('"\n')
    text = re.sub(r"\b__(mp_)?main__\.", "", text)
    lines: list[str] = []
    is_ours = False
    for line in text.splitlines():
        frame = re.search(r'^([ |+-]*)File "([^"]*)", line', line)
        if frame:
            is_ours = not re.search(r"/(concurrent/futures|multipy_actors)/|both_ways\.py", frame[2])
        elif not line.startswith("    ") and not re.match(r"[ |]*    ", line):
            is_ours = True
        # What was raised outside of the user's code has no frame here, and one of the executor's there.
        if is_ours and line.strip() != "Traceback (most recent call last):":
            lines.append(line.rstrip())
    return "\n".join(lines)


# The two ways ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def executor(way: str) -> Iterator[concurrent.futures.Executor]:
    """Make a worker that begins in a folder of its own, and prints to a file beside it."""
    home = Path.cwd()
    (home / way).mkdir()
    with open(f"{way}.out", "wb") as output:
        sys.stdout.flush()
        stdout = os.dup(1)
        os.dup2(output.fileno(), 1)
        os.chdir(home / way)
        try:
            if way == "process":
                context = multiprocessing.get_context("spawn")
                made: Any = concurrent.futures.ProcessPoolExecutor(1, mp_context=context)
            else:
                import multipy_actors as multipy

                made = multipy.Pool(1, prefix_output=False)
            with made:
                made.submit(os.getcwd).result(PATIENCE)
                os.chdir(home)
                yield made
        finally:
            os.chdir(home)
            os.dup2(stdout, 1)
            os.close(stdout)


def run(way: str, calls: list[tuple[Callable[..., Any], bytes]]) -> list[Outcome]:
    """Make the calls, one after the other; arguments are pickled, so that each way has its own."""
    outcomes = []
    with executor(way) as made:
        for function, pickled in calls:
            args, kwargs = pickle.loads(pickled)
            sent = function.sent_by(way) if isinstance(function, Closure) else function
            outcome = Outcome(arguments=(args, kwargs))
            try:
                outcome.value = made.submit(sent, *args, **kwargs).result(PATIENCE)
            except BaseException as error:
                outcome.error = error
            outcomes.append(outcome)
    return outcomes


def differences(calls: list[tuple[Callable[..., Any], bytes]]) -> list[str]:
    """Run the calls both ways, and say what differs."""
    complaints = []
    process, interpreter = (run(way, calls) for way in WAYS)
    for (function, pickled), left, right in zip(calls, process, interpreter, strict=True):
        name = getattr(function, "__name__", function)
        parts = []
        if not same(comparable(left.value), comparable(right.value)):
            parts.append("value")
        if not same(left.arguments, right.arguments):
            parts.append("arguments")
        if described(left.error) != described(right.error):
            parts.append("error")
        elif left.error is not None and remote_text(left.error) != remote_text(right.error):
            parts.append("traceback")
        if parts:
            called = f"{name}(*{pickle.loads(pickled)[0]!r})"
            complaints.append(
                f"{called}: {', '.join(parts)}\n in a process: {left}\n in an interpreter: {right}"
            )
    for what in (lambda way: Path(f"{way}.out").read_text(), _files):
        left_, right_ = (what(way) for way in WAYS)
        if left_ != right_:
            complaints.append(f"in a process:\n{left_}\nin an interpreter:\n{right_}")
    return complaints


def _files(way: str) -> dict[str, Any]:
    """Return what lies in a worker's folder: modes and contents."""
    return {
        str(path.relative_to(way)): (oct(path.stat().st_mode), path.read_text() if path.is_file() else None)
        for path in sorted(Path(way).rglob("*"))
    }


def main(calls: list[Any]) -> None:
    """Be the main program of such a script."""
    try:
        complaints = differences(calls)
    except BaseException:
        traceback.print_exc()
        raise
    print("\n\n".join(complaints))
    sys.exit(bool(complaints))
