"""How costs grow: with the number of interpreters, and with the number of calls; and what idle ones cost.

Everything here is measured in hosts of its own, which a spawned process is each time.
"""

from __future__ import annotations

import functools
import os
import statistics
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benches import workloads
from benches.bench_memory import private_bytes
from benches.workers import OneWorker, Workers, in_new_host

if TYPE_CHECKING:
    from collections.abc import Iterator

COUNTS = [1, 2, 4, 8, 16, 32, 64]
MILLIONS = [1, 2, 4, 6, 8, 10]


class Growth:
    """1 to 64 bare workers of one host, all alive; processes are spawned, an executor each.

    Latency is that of one worker while the others idle, throughput that of all, called in turn, so that both
    show what a worker costs the others. Memory is what is private, beside a host without workers.
    """

    param_names = ("worker", "workers")
    params = (["interpreter", "process"], COUNTS)
    timeout = 600

    def setup(self, worker: str, count: int) -> None:
        self.left: dict[str, float] = {}

    def track_grown_start(self, worker: str, count: int) -> float:
        return self._figure("start", worker, count)

    def track_grown_p50(self, worker: str, count: int) -> float:
        return self._figure("p50", worker, count)

    def track_grown_pipelined(self, worker: str, count: int) -> float:
        return self._figure("pipelined", worker, count)

    def track_grown_memory(self, worker: str, count: int) -> float:
        return self._figure("memory", worker, count)

    def _figure(self, name: str, worker: str, count: int) -> float:
        """One of the figures of a host, which is started when there is none that has not been asked for."""
        if name not in self.left:
            self.left = in_new_host(grow, worker, count)
        return self.left.pop(name)

    track_grown_start.unit = "ms"
    track_grown_p50.unit = "µs"
    track_grown_pipelined.unit = "calls/s"
    track_grown_memory.unit = "MB"
    track_grown_start.pretty_name = "start of all to first results"
    track_grown_p50.pretty_name = "`echo(1)` by `submit`, p50"
    track_grown_pipelined.pretty_name = "pipelined calls"
    track_grown_memory.pretty_name = "private memory"


class Idle:
    """Four workers with an actor or a function called before, and then left alone for three seconds.

    Counted are CPU time and wake-ups (voluntary context switches) of all threads of the host, but for the one
    that measures, and of the processes' threads.
    """

    param_names = ("worker",)
    params = (["interpreter", "process"],)
    seconds = 3.0

    def setup(self, worker: str) -> None:
        self.left: dict[str, float] = {}

    def track_idle_cpu(self, worker: str) -> float:
        return self._figure("cpu", worker)

    def track_idle_wake_ups(self, worker: str) -> float:
        return self._figure("wake_ups", worker)

    def _figure(self, name: str, worker: str) -> float:
        if name not in self.left:
            self.left = in_new_host(stay_idle, worker, self.seconds)
        return self.left.pop(name)

    track_idle_cpu.unit = "ms"
    track_idle_wake_ups.unit = "wake-ups"
    track_idle_cpu.pretty_name = "CPU time"
    track_idle_wake_ups.pretty_name = "woken"


class ManyCalls:
    """Private memory of a host while an actor of it answers ten million calls.

    They are pipelined in thousands: numbers, a dictionary in each thousand, and a buffer large enough to be
    passed by reference.
    """

    param_names = ("worker", "million calls")
    params = (["interpreter"], MILLIONS)
    timeout = 1200

    def track_memory_after(self, worker: str, millions: int) -> float:
        return memory_after_calls(worker)[millions]

    track_memory_after.unit = "MB"
    track_memory_after.pretty_name = "private memory"


# These run in a new host -----------------------------------------------------------------------------------


def grow(worker: str, count: int) -> dict[str, float]:
    before = private_bytes(os.getpid())
    start = time.perf_counter()
    workers = Workers(worker, count)
    workers.each(abs, 0.0)
    started = time.perf_counter() - start
    first = workers.submit[0]
    p50 = statistics.median(workloads.latencies(lambda value: first(workloads.echo, value).result(), 500))
    pipelined = statistics.median(calls_a_second(workers, 4096) for _ in range(3))
    processes = set(workers.each(os.getpid))
    memory = sum(map(private_bytes, processes)) - (before if os.getpid() in processes else 0)
    workers.close()
    return {"start": started * 1000, "p50": p50, "pipelined": pipelined, "memory": memory / 1e6}


def calls_a_second(workers: Workers, calls: int) -> float:
    """Of all workers together, called in turn."""
    workers.each(workloads.echo, 1)
    share = calls // len(workers.submit)
    start = time.perf_counter()
    for future in [submit(workloads.echo, 1) for _ in range(share) for submit in workers.submit]:
        future.result()
    return share * len(workers.submit) / (time.perf_counter() - start)


def stay_idle(worker: str, seconds: float) -> dict[str, float]:
    workers = Workers(worker, 4)
    processes = {os.getpid(), *workers.each(os.getpid)}
    actor = OneWorker(worker)
    workloads.latencies(lambda value: actor.method("echo")(value).result(), 100)
    processes.add(actor.method("pid")().result())
    # Spinning before sleep and the ends of threads that were only needed to start are no part of idling.
    threading.Event().wait(0.5)
    before = usage_of_threads(processes)
    threading.Event().wait(seconds)
    after = usage_of_threads(processes)
    used = [tuple(map(lambda a, b: a - b, after[task], before.get(task, (0, 0)))) for task in after]
    workers.close()
    actor.close()
    return {
        "cpu": sum(nanoseconds for nanoseconds, _ in used) / 1e6,
        "wake_ups": float(sum(switches for _, switches in used)),
    }


def usage_of_threads(processes: set[int]) -> dict[str, tuple[int, int]]:
    """CPU time in ns and voluntary context switches so far, by thread; without the one that asks."""
    return {
        task.name: (int((task / "schedstat").read_text().split()[0]), voluntary_switches(task))
        for process in processes
        for task in Path(f"/proc/{process}/task").iterdir()
        if task.name != str(threading.get_native_id())
    }


def voluntary_switches(task: Path) -> int:
    fields = dict(line.split(":\t") for line in (task / "status").read_text().splitlines())
    return int(fields["voluntary_ctxt_switches"])


@functools.cache
def memory_after_calls(worker: str) -> dict[int, float]:
    """Measured once in a host, for all figures."""
    return in_new_host(call_often, worker)


def call_often(worker: str) -> dict[int, float]:
    actor = OneWorker(worker)
    echo = actor.method("echo")
    buffer = bytes(1 << 20)
    memory = {}
    for million in range(1, MILLIONS[-1] + 1):
        for _ in range(1000):
            for future in [echo(value) for value in values_of_a_thousand(buffer)]:
                future.result()
        memory[million] = private_bytes(os.getpid()) / 1e6
    actor.close()
    return memory


def values_of_a_thousand(buffer: bytes) -> Iterator[object]:
    yield from range(998)
    yield {"name": "value", "values": [1.5, 2.5]}
    yield buffer
