"""The kinds of workers that are compared, behind one face.

`interpreter` is this library: an actor where methods are called, a pool where functions are submitted. `pool`
is this library's pool where it is compared with an actor. `thread` is a ThreadPoolExecutor, `process` a
ProcessPoolExecutor that spawns; with torch imported the latter sends tensors through torch.multiprocessing,
that is, in shared memory. `queue`, `torch_process` and `ray` are those of `benches/rivals.py`.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from benches import rivals, workloads
from multipy_actors import Pool, remote  # loaded here, as that is no part of an interpreter's start

if TYPE_CHECKING:
    from collections.abc import Callable

RIVALS = {"queue": rivals.QueueThread, "torch_process": rivals.TorchProcess, "ray": rivals.RayActor}


class OneWorker:
    """A single worker; `method(name)` returns what submits that function of `workloads` to it."""

    def __init__(self, kind: str) -> None:
        self._executor: Any = RIVALS[kind]() if kind in RIVALS else make_executor(kind)
        self._actor = None
        if kind == "interpreter":
            self._actor = remote(workloads.Actor).options(pool=self._executor).remote()

    def method(self, name: str) -> Callable[..., Any]:
        """What it returns has a `result()`; with some rivals, only in the order of the calls."""
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
        self.submit: list[Callable[..., Future[Any]]]
        if kind == "interpreter":
            pool = Pool(count)
            self._executors = [pool]
            self.submit = [interpreter.submit for interpreter in pool.interpreters]
        else:
            self._executors = [make_executor(kind) for _ in range(count)]
            self.submit = [executor.submit for executor in self._executors]

    def each(self, fn: Callable[..., Any], *args: Any) -> list[Any]:
        """Run `fn(*args)` on every worker at once and return the values."""
        return [future.result() for future in [submit(fn, *args) for submit in self.submit]]

    def close(self) -> None:
        for executor in self._executors:
            executor.shutdown()


def make_executor(kind: str, count: int = 1) -> Executor:
    """`count` workers of `kind`, as an executor."""
    if kind in ("interpreter", "pool"):
        return Pool(count)
    if kind == "thread":
        return ThreadPoolExecutor(count)
    if kind == "process":
        return ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn"))
    raise ValueError(f"no such kind of worker: {kind!r}")


def in_new_host(function: Callable[..., Any], *args: Any) -> Any:
    """Run it in a new process, because images are never unmapped and memory once freed is used again."""
    with make_executor("process") as host:
        return host.submit(function, *args).result()


def cpu_count() -> int:
    """Of the CPUs that this process may use."""
    return len(os.sched_getaffinity(0))
