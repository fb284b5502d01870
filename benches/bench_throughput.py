"""How many forward passes a second N workers run on a model so small that the GIL decides."""

from __future__ import annotations

import time

from benches import workloads
from benches.workers import Workers, worker_counts


class SmallModel:
    """The small MLP at batch 1, from one worker to one per CPU; each worker has one torch thread.

    Workers run the model in a loop of their own, so this measures how well Python runs in parallel and not
    what calls cost. They start together and each counts the passes it ended within the same window.
    """

    param_names = ("worker", "workers")
    params = (["interpreter", "thread", "process"], worker_counts())
    timeout = 300
    seconds = 0.5

    def setup(self, worker: str, count: int) -> None:
        self.workers = Workers(worker, count)
        self.workers.each(workloads.run_forwards, time.monotonic(), 0.05)

    def teardown(self, worker: str, count: int) -> None:
        self.workers.close()

    def track_forwards(self, worker: str, count: int) -> float:
        # The start is far enough ahead for every worker to be running before it.
        start = time.monotonic() + 0.05
        return sum(self.workers.each(workloads.run_forwards, start, self.seconds)) / self.seconds

    track_forwards.unit = "passes/s"
    track_forwards.pretty_name = "small MLP, batch 1"
