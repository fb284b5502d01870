"""What it costs to pass a tensor, from one element to 100 MB, as an argument and as a result."""

from __future__ import annotations

import statistics
import time

from benches.workers import OneWorker

BYTES = [4, 1000, 1_000_000, 100_000_000]


class Tensors:
    """A fresh float32 tensor each time, as torch.multiprocessing moves what it sends to shared memory, once.

    Making it is not timed, and neither are small calls after it: 100 MB just written have emptied the caches.
    The receiver does not read the memory, so this is the cost of passing alone.
    """

    param_names = ("worker", "bytes")
    params = (["interpreter", "thread", "process"], BYTES)
    timeout = 120

    def setup(self, worker: str, nbytes: int) -> None:
        import torch

        self.ones = torch.ones
        self.small = torch.ones(1)
        self.worker = OneWorker(worker)
        self.receive = self.worker.method("receive")
        self.prepare = self.worker.method("prepare")
        self.produce = self.worker.method("produce")
        self.calls = 5 if nbytes >= 10_000_000 else 30
        self._warm_up()

    def teardown(self, worker: str, nbytes: int) -> None:
        self.worker.close()

    def track_argument(self, worker: str, nbytes: int) -> float:
        taken = []
        for _ in range(self.calls):
            tensor = self.ones(max(1, nbytes // 4))
            self._warm_up()
            start = time.perf_counter_ns()
            self.receive(tensor).result()
            taken.append((time.perf_counter_ns() - start) / 1000)
        return statistics.median(taken)

    def track_result(self, worker: str, nbytes: int) -> float:
        taken = []
        for _ in range(self.calls):
            self.prepare(nbytes).result()
            self._warm_up()
            start = time.perf_counter_ns()
            tensor = self.produce().result()
            taken.append((time.perf_counter_ns() - start) / 1000)
            del tensor
        return statistics.median(taken)

    def peakmem_argument(self, worker: str, nbytes: int) -> None:
        """A copy would show; a rival process's own memory does not."""
        self.receive(self.ones(max(1, nbytes // 4))).result()

    def _warm_up(self) -> None:
        for _ in range(20):
            self.receive(self.small).result()
            self.prepare(4).result()
            self.produce().result()

    track_argument.unit = track_result.unit = "µs"
    track_argument.pretty_name = "tensor as argument, p50"
    track_result.pretty_name = "tensor as result, p50"
