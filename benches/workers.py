"""The kinds of workers that are compared, behind one face.

`interpreter` is this library: an actor where methods are called, a pool where functions are submitted. `pool`
is this library's pool where it is compared with an actor. `thread` is a ThreadPoolExecutor, `process` a
ProcessPoolExecutor that spawns; with torch imported the latter sends tensors through torch.multiprocessing,
that is, in shared memory.
"""

from __future__ import annotations

import functools
import multiprocessing
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import multipy_actors as multipy
from benches import workloads

if TYPE_CHECKING:
    from collections.abc import Callable


class OneWorker:
    """A single worker; `method(name)` returns what submits that function of `workloads` to it."""

    def __init__(self, kind: str) -> None:
        self._executor: Executor = make_executor(kind)
        self._actor = None
        if kind == "interpreter":
            self._actor = multipy.remote(workloads.Actor).options(pool=self._executor).remote()

    def method(self, name: str) -> Callable[..., Future[Any]]:
        actor = self._actor
        if actor is None:
            return functools.partial(self._executor.submit, getattr(workloads, name))
        # Looked up for each call, as in users' code.
        return lambda *args: getattr(actor, name).submit(*args)

    def close(self) -> None:
        self._actor = None
        self._executor.shutdown()


class Workers:
    """`count` workers of one kind, which can all be told to do the same at once."""

    def __init__(self, kind: str, count: int) -> None:
        self._executors: list[Executor]
        self._submit: list[Callable[..., Future[Any]]]
        if kind == "interpreter":
            pool = multipy.Pool(count)
            self._executors = [pool]
            self._submit = [interpreter.submit for interpreter in pool.interpreters]
        else:
            self._executors = [make_executor(kind) for _ in range(count)]
            self._submit = [executor.submit for executor in self._executors]

    def each(self, fn: Callable[..., Any], *args: Any) -> list[Any]:
        """Run `fn(*args)` on every worker at once and return the values."""
        return [future.result() for future in [submit(fn, *args) for submit in self._submit]]

    def close(self) -> None:
        for executor in self._executors:
            executor.shutdown()


def make_executor(kind: str) -> Executor:
    """One worker of `kind`, as an executor."""
    if kind in ("interpreter", "pool"):
        return multipy.Pool(1)
    if kind == "thread":
        return ThreadPoolExecutor(1)
    if kind == "process":
        return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))
    raise ValueError(f"no such kind of worker: {kind!r}")


def worker_counts() -> list[int]:
    """1, 2, 4, … and the number of usable CPUs."""
    import os

    cpus = len(os.sched_getaffinity(0))
    return sorted({1 << power for power in range(cpus.bit_length())} | {cpus})
