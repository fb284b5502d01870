"""How long one call takes, and how many a second one worker gets through."""

from __future__ import annotations

import statistics
import time

from benches.workers import OneWorker

CALLS = 2000


class Calls:
    """`echo(1)` on one worker: an actor, a pool of one interpreter, a thread, a process."""

    param_names = ("worker",)
    params = (["interpreter", "pool", "thread", "process"],)

    def setup(self, worker: str) -> None:
        self.worker = OneWorker(worker)
        self.echo = self.worker.method("echo")
        for _ in range(200):
            self.echo(1).result()

    def teardown(self, worker: str) -> None:
        self.worker.close()

    def time_echo(self, worker: str) -> None:
        self.echo(1).result()

    def track_echo_p50(self, worker: str) -> float:
        return statistics.median(self._latencies())

    def track_echo_p99(self, worker: str) -> float:
        return statistics.quantiles(self._latencies(), n=100)[-1]

    def track_pipelined(self, worker: str) -> float:
        """Calls a second when all are submitted before the first result is asked for."""
        start = time.perf_counter()
        for future in [self.echo(1) for _ in range(CALLS)]:
            future.result()
        return CALLS / (time.perf_counter() - start)

    def _latencies(self) -> list[float]:
        clock, echo = time.perf_counter_ns, self.echo
        taken = []
        for _ in range(CALLS):
            start = clock()
            echo(1).result()
            taken.append((clock() - start) / 1000)
        return taken

    track_echo_p50.unit = track_echo_p99.unit = "µs"
    track_pipelined.unit = "calls/s"
    track_echo_p50.pretty_name = "`echo(1)`, p50"
    track_echo_p99.pretty_name = "`echo(1)`, p99"
    track_pipelined.pretty_name = "pipelined calls to one worker"
