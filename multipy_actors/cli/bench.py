"""Measures this machine: private interpreters beside threads and spawned processes, in about half a minute.

Model: a `Row` of the table is a figure that each kind of worker is asked for in turn, in rounds, so that a
disturbance of the machine falls on all of them alike; shown is the median. Beside the figures of threads and
processes stands how many times better the interpreters' is. With torch installed there are more rows.

What workers run are functions of this module, which interpreters and spawned processes import by name; so
nothing heavy is imported at the top. Nor is the pool: the doctor, a neighbour on the command line, must come
up where that does not. `benches/` in the source tree measures more, and beside more rivals.
"""

from __future__ import annotations

import functools
import importlib.util
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import argparse

    import torch

__all__ = ["Row", "measured", "rows"]

DESCRIPTION = (
    "Measures calls, start-up, memory and parallel work in private interpreters, beside threads and spawned "
    "processes, and prints a table. With torch installed it has more rows. Close other programs first."
)
_KINDS = ("interpreter", "thread", "process")
_MOST_WORKERS = 16
_WIDTHS = (40, 14, 22, 22)


class Row(NamedTuple):
    """A figure that `measure` finds with `size` workers, which have been started before if `ready`."""

    title: str
    unit: str
    less_is_better: bool
    measure: Callable[[Workers], float | None]
    size: int = 1
    ready: bool = True
    rounds: int = 3


class Workers:
    """`size` workers of one kind, in a `with` block; each can be given calls by its own `submit`."""

    def __init__(self, kind: str, size: int) -> None:
        self.kind = kind
        self.size = size
        self.submit: list[Callable[..., Future[Any]]] = []
        self._executors: list[Executor] = []

    def __enter__(self) -> Workers:
        """Start them and wait for the first result of each."""
        from multipy_actors.pool.pool import Pool

        if self.kind == "interpreter":
            pool = Pool(self.size)
            self._executors = [pool]
            self.submit = [interpreter.submit for interpreter in pool.interpreters]
        else:
            self._executors = [self._make_executor() for _ in range(self.size)]
            self.submit = [executor.submit for executor in self._executors]
        self.each(abs, 0.0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End them."""
        for executor in self._executors:
            executor.shutdown()

    def caller(self) -> Callable[[object], Future[Any]]:
        """Return what submits `echo` to the first of them; interpreters are called through an actor."""
        if self.kind != "interpreter":
            return partial(self.submit[0], echo)
        from multipy_actors.actors.creation import create_replicas
        from multipy_actors.pool.pool import Pool

        (pool,) = self._executors
        assert isinstance(pool, Pool)
        actor = create_replicas(_Actor, (), {}, pool=pool)
        return lambda value: actor.echo.submit(value)  # looked up for each call, as in users' code

    def each(self, fn: Callable[..., Any], *args: object) -> list[Any]:
        """Run `fn(*args)` on all of them at once and return the values."""
        return [future.result() for future in [submit(fn, *args) for submit in self.submit]]

    def _make_executor(self) -> Executor:
        if self.kind == "thread":
            return ThreadPoolExecutor(1)
        return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))


# What workers run ------------------------------------------------------------------------------------------


def echo(value: object) -> object:
    """Return what arrived."""
    return value


class _Actor:
    def echo(self, value: object) -> object:
        return value


def receive(tensor: torch.Tensor) -> int:
    """Look at the tensor, not at its memory."""
    return tensor.numel()


def run(name: str, start: float, seconds: float) -> float:
    """Do the task of this name from `start` (time.monotonic) on, for `seconds`, once at least.

    Returns how often a second.
    """
    task = _TASKS[name]
    while time.monotonic() < start:
        pass
    runs, passed = 0, 0.0
    while passed < seconds:
        task()
        runs += 1
        passed = time.monotonic() - start
    return runs / passed


def prepare(name: str) -> None:
    """Do the task once, with the imports that it needs."""
    _TASKS[name]()


def _loop() -> None:
    total = 0
    for number in range(10_000):
        total += number & 7


@functools.cache
def _model() -> tuple[torch.nn.Module, torch.Tensor]:
    import torch

    torch.set_num_threads(1)
    layers = (torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10))
    return torch.nn.Sequential(*layers).eval(), torch.randn(1, 64)


def _use_model() -> None:
    import torch

    model, batch = _model()
    with torch.inference_mode():
        model(batch)


_TASKS = {"loop": _loop, "model": _use_model}


def import_seconds(name: str) -> float:
    """Import a module; return the seconds that it took."""
    start = time.perf_counter()
    importlib.import_module(name)
    return time.perf_counter() - start


# The figures -----------------------------------------------------------------------------------------------


def rows(quick: bool = False, with_torch: bool = True) -> list[Row]:
    """Return the rows of the table; with `quick` they take fewer samples, and there is no torch."""
    size = min(len(os.sched_getaffinity(0)), _MOST_WORKERS)
    workers = "1 worker" if size == 1 else f"{size} workers"
    calls = 100 if quick else 2000
    seconds = 0.05 if quick else 0.5
    found = [
        Row("start to first result", "ms", True, _start, ready=False),
        Row("call, p50", "µs", True, partial(_p50, calls=calls)),
        Row("call, p99", "µs", True, partial(_p99, calls=calls)),
        Row("pipelined calls to one worker", "/s", False, partial(_pipelined, calls=2 * calls)),
        Row(f"Python loop, {workers}", "/s", False, partial(_runs, task="loop", seconds=seconds), size),
        Row("memory of one more worker", "MB", True, _memory, ready=False, rounds=1),
    ]
    if with_torch and not quick and importlib.util.find_spec("torch"):
        found += [
            Row("import torch", "s", True, _import_torch, ready=False, rounds=1),
            Row("call with a 1 MB tensor, p50", "µs", True, _tensor),
            Row(f"small model, {workers}", "/s", False, partial(_runs, task="model", seconds=seconds), size),
        ]
    return [row._replace(rounds=1) for row in found] if quick else found


def measured(row: Row) -> dict[str, float]:
    """Return the figure by kind of worker; without those kinds that it has no meaning for."""
    samples: dict[str, list[float]] = {}
    with ExitStack() as stack:
        kinds = [Workers(kind, row.size) for kind in _KINDS]
        if row.ready:
            for workers in kinds:
                stack.enter_context(workers)
        for _ in range(row.rounds):
            for workers in kinds:
                figure = row.measure(workers)
                if figure is not None:
                    samples.setdefault(workers.kind, []).append(figure)
    return {kind: statistics.median(values) for kind, values in samples.items()}


def _start(workers: Workers) -> float:
    start = time.perf_counter()
    with workers:
        return (time.perf_counter() - start) * 1000


def _latencies(workers: Workers, calls: int) -> list[float]:
    call = workers.caller()
    for _ in range(calls // 10):
        call(1).result()
    taken = []
    for _ in range(calls):
        start = time.perf_counter()
        call(1).result()
        taken.append((time.perf_counter() - start) * 1e6)
    return taken


def _p50(workers: Workers, calls: int) -> float:
    return statistics.median(_latencies(workers, calls))


def _p99(workers: Workers, calls: int) -> float:
    return statistics.quantiles(_latencies(workers, calls), n=100)[-1]


def _pipelined(workers: Workers, calls: int) -> float:
    call = workers.caller()
    call(1).result()
    start = time.perf_counter()
    for future in [call(1) for _ in range(calls)]:
        future.result()
    return calls / (time.perf_counter() - start)


def _runs(workers: Workers, task: str, seconds: float) -> float:
    """Of all workers together, which start once each of them is ready."""
    workers.each(prepare, task)
    start = time.monotonic() + 0.05 + 0.01 * workers.size
    return float(sum(workers.each(run, task, start, seconds)))


def _memory(workers: Workers) -> float | None:
    """Private pages of a process, or what a host with one interpreter gains by another."""
    if workers.kind == "thread":
        return None
    if workers.kind == "process":
        with workers:
            return float(workers.each(private_bytes)[0]) / 1e6
    with Workers(
        "process", 1
    ) as host:  # a new one: memory that closed interpreters freed would be used again
        return float(host.each(bytes_of_interpreter)[0]) / 1e6


def bytes_of_interpreter() -> int:
    """Start two interpreters in this process; return what the second one took."""
    with Workers("interpreter", 1):
        before = private_bytes()
        with Workers("interpreter", 1):
            return private_bytes() - before


def private_bytes() -> int:
    """Return what this process has in pages of its own."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    fields = dict(line.split(":", 1) for line in lines)
    return sum(int(fields[name].split()[0]) * 1024 for name in ("Anonymous", "Pss_Shmem"))


def _import_torch(workers: Workers) -> float | None:
    """Of the statement alone; threads have the module of the process."""
    if workers.kind == "thread":
        return None
    with workers:
        return float(max(workers.each(import_seconds, "torch")))


def _tensor(workers: Workers) -> float:
    """Each time a new one, as a process moves it to shared memory once; making it is not timed."""
    import torch

    taken = []
    for _ in range(30):
        tensor = torch.ones(250_000)
        workers.submit[0](echo, 1).result()
        start = time.perf_counter()
        workers.submit[0](receive, tensor).result()
        taken.append((time.perf_counter() - start) * 1e6)
    return statistics.median(taken)


# The command -----------------------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command's options to `parser`; its result runs as `options.run(options)`."""
    parser.add_argument("--quick", action="store_true", help="a few seconds: fewer samples, no torch")
    parser.add_argument("--no-torch", action="store_true", help="leave out the rows that need torch")
    parser.set_defaults(run=print_table)


def print_table(options: argparse.Namespace) -> int:
    """Print the machine and the table, row by row as they are measured; returns the exit status."""
    cpus = len(os.sched_getaffinity(0))
    print(f"Python {platform.python_version()}, {cpus} usable CPUs")
    print("in brackets: how many times better interpreters are\n")
    for line in table(rows(options.quick, not options.no_torch)):
        print(line, flush=True)
    return 0


def table(found: Sequence[Row]) -> Iterator[str]:
    """Yield each line of the table as its figures are there."""
    yield _line("", "interpreters", "threads", "processes")
    yield _line(*("-" * width for width in _WIDTHS))
    for row in found:
        figures = measured(row)
        ours = figures["interpreter"]
        cells = [_shown(ours, row.unit)]
        for kind in _KINDS[1:]:
            theirs = figures.get(kind)
            if theirs is None:
                cells.append("-")
                continue
            more, less = (theirs, ours) if row.less_is_better else (ours, theirs)
            better = more / less if less else float("inf")  # on a busy machine nothing may have come in time
            cells.append(f"{_shown(theirs, row.unit)} ({better:.{0 if better >= 10 else 2}f}x)")
        yield _line(row.title, *cells)


def _line(title: str, *cells: str) -> str:
    parts = [f"{cell:>{width}}" for cell, width in zip(cells, _WIDTHS[1:], strict=True)]
    return "  ".join([f"{title:<{_WIDTHS[0]}}", *parts])


def _shown(figure: float, unit: str) -> str:
    digits = 0 if figure >= 100 else 1 if figure >= 10 else 2
    return f"{figure:,.{digits}f} {unit}"
