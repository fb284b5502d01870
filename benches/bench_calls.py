"""How long one call takes, and how many a second one worker gets through."""

from __future__ import annotations

import statistics
import threading
import time

import multipy_actors as multipy
from benches import rivals, workloads
from benches.workers import OneWorker

LATENCIES = 2000
PIPELINED = 10_000
HOST_THREADS = [1, 2, 4, 8, 16]


def p99(taken: list[float]) -> float:
    return statistics.quantiles(taken, n=100)[-1]


def calls_a_second(submit, calls: int) -> float:
    """When all are submitted before the first result is asked for."""
    start = time.perf_counter()
    for future in [submit(1) for _ in range(calls)]:
        future.result()
    return calls / (time.perf_counter() - start)


class Calls:
    """`echo(1)` on one worker, beside its floor and its limit.

    The floor is a thread of Python with two `queue.SimpleQueue`s, the limit two threads of C++ that wake each
    other through a futex. `torch.multiprocessing` is a spawned process with two of its queues.
    """

    param_names = ("worker",)
    params = (["interpreter", "pool", "thread", "process", "torch_process", "queue", "futex"],)
    timeout = 120

    def setup(self, worker: str) -> None:
        self.worker = None
        if worker != "futex":
            self.worker = OneWorker(worker)
            self.echo = self.worker.method("echo")
            workloads.latencies(self._call, 200)

    def teardown(self, worker: str) -> None:
        if self.worker is not None:
            self.worker.close()

    def track_echo_p50(self, worker: str) -> float:
        if self.worker is None:
            return rivals.ping_pong().p50
        return statistics.median(workloads.latencies(self._call, LATENCIES))

    def track_echo_p99(self, worker: str) -> float:
        if self.worker is None:
            return rivals.ping_pong().p99
        return p99(workloads.latencies(self._call, LATENCIES))

    def track_pipelined(self, worker: str) -> float | None:
        """A hand-over answers nothing, so there is none of the futex."""
        return None if self.worker is None else calls_a_second(self.echo, PIPELINED)

    def _call(self, value: int) -> int:
        return self.echo(value).result()

    track_echo_p50.unit = track_echo_p99.unit = "µs"
    track_pipelined.unit = "calls/s"
    track_echo_p50.pretty_name = "`echo(1)`, p50"
    track_echo_p99.pretty_name = "`echo(1)`, p99"
    track_pipelined.pretty_name = "pipelined calls to one worker"


class ActorToActor:
    """`echo(1)` of an actor in one interpreter, called by the host and by an actor in another interpreter."""

    param_names = ("caller",)
    params = (["host", "actor"],)

    def setup(self, caller: str) -> None:
        self.pool = multipy.Pool(2)
        here, there = self.pool.interpreters
        actor = multipy.remote(workloads.Actor)
        self.callee = actor.options(pool=self.pool, interpreter=there).remote()
        self.caller = actor.options(pool=self.pool, interpreter=here).remote()

    def teardown(self, caller: str) -> None:
        del self.callee, self.caller
        self.pool.shutdown()

    def track_call_p50(self, caller: str) -> float:
        return statistics.median(self._latencies(caller))

    def track_call_p99(self, caller: str) -> float:
        return p99(self._latencies(caller))

    def _latencies(self, caller: str) -> list[float]:
        if caller == "host":
            return workloads.latencies(self.callee.echo, LATENCIES)
        return self.caller.latencies_of(self.callee, LATENCIES)

    track_call_p50.unit = track_call_p99.unit = "µs"
    track_call_p50.pretty_name = "`actor.echo(1)`, p50"
    track_call_p99.pretty_name = "`actor.echo(1)`, p99"


class Submitters:
    """Threads of the host that all submit to the same worker, 8,000 calls together, and wait for theirs."""

    param_names = ("worker", "host threads")
    params = (["interpreter", "pool", "thread", "process"], HOST_THREADS)
    timeout = 120
    calls = 8000

    def setup(self, worker: str, threads: int) -> None:
        self.worker = OneWorker(worker)
        self.echo = self.worker.method("echo")
        calls_a_second(self.echo, 200)

    def teardown(self, worker: str, threads: int) -> None:
        self.worker.close()

    def track_submitted(self, worker: str, threads: int) -> float:
        started, share = threading.Barrier(threads + 1), self.calls // threads

        def submit() -> None:
            started.wait()
            calls_a_second(self.echo, share)

        submitters = [threading.Thread(target=submit) for _ in range(threads)]
        for submitter in submitters:
            submitter.start()
        started.wait()
        start = time.perf_counter()
        for submitter in submitters:
            submitter.join()
        return threads * share / (time.perf_counter() - start)

    track_submitted.unit = "calls/s"
    track_submitted.pretty_name = "pipelined calls to one worker"


class BesideRay:
    """An actor of Ray 2.60 on a cluster of this machine alone, in rounds of its own.

    Ray's servers use some of the CPUs even when idle, which would disturb the other rivals. They are counted
    among the others that took CPU time meanwhile.
    """

    param_names = ("worker",)
    params = (["interpreter", "ray"],)
    timeout = 300
    missing = staticmethod(rivals.without_ray)

    def setup(self, worker: str) -> None:
        if worker == "ray" and (missing := rivals.without_ray()):
            raise NotImplementedError(missing)
        import torch

        self.ones = torch.ones
        self.worker = OneWorker(worker)
        self.echo, self.receive = self.worker.method("echo"), self.worker.method("receive")
        workloads.latencies(self._call, 300)
        for _ in range(3):
            self.receive(self.ones(250_000)).result()

    def teardown(self, worker: str) -> None:
        self.worker.close()

    def track_ray_p50(self, worker: str) -> float:
        return statistics.median(workloads.latencies(self._call, 500))

    def track_ray_pipelined(self, worker: str) -> float:
        return calls_a_second(self.echo, 2000)

    def track_ray_1_mb(self, worker: str) -> float:
        return self._argument(1_000_000, 20)

    def track_ray_100_mb(self, worker: str) -> float:
        return self._argument(100_000_000, 3)

    def _call(self, value: int) -> int:
        return self.echo(value).result()

    def _argument(self, nbytes: int, calls: int) -> float:
        tensor = self.ones(nbytes // 4)
        return statistics.median(workloads.latencies(lambda _: self.receive(tensor).result(), calls))

    track_ray_p50.unit = track_ray_1_mb.unit = track_ray_100_mb.unit = "µs"
    track_ray_pipelined.unit = "calls/s"
    track_ray_p50.pretty_name = "`echo(1)`, p50"
    track_ray_pipelined.pretty_name = "pipelined calls to one worker"
    track_ray_1_mb.pretty_name = "tensor as argument, p50, 1 MB"
    track_ray_100_mb.pretty_name = "tensor as argument, p50, 100 MB"
