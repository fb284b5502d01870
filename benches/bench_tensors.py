"""What it costs to pass a tensor, from one element to 1 GB, as an argument and as a result."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

from benches.workers import OneWorker
from benches.workloads import look_at, write

if TYPE_CHECKING:
    from collections.abc import Callable

    Prepared = tuple[Callable[[], object], Callable[[], object]]  # has a look at a tensor; passes it

BYTES = [4, 1000, 1_000_000, 100_000_000, 1_000_000_000]
# Beyond this, processes are not measured: they would write seconds long to memory that has to be there twice.
MOST_COPIED = 100_000_000
# At least so much is written before each call.
WRITTEN = 100_000_000
# Calls with a tensor of up to so many bytes; what is larger takes longer to make than to pass.
CALLS = {1_000_000: 30, 100_000_000: 10, 1_000_000_000: 5}


class Tensors:
    """A fresh float32 tensor each time, as torch.multiprocessing moves what it sends to shared memory, once.

    Making it, by one thread, is not timed. What was just written has emptied the caches, and leaves the CPU
    slower for a while: so before each call as much is written as a large tensor has, whatever the size; then
    come small calls and a look at where the tensor's memory is. The receiver does not read that, so this is
    the cost of passing alone. What it costs over a plain call is told beside `echo(1)` on the same worker,
    called in turn.
    """

    param_names = ("worker", "bytes")
    params = (["interpreter", "thread", "process", "torch_process"], BYTES)
    timeout = 120

    def setup(self, worker: str, nbytes: int) -> None:
        import torch

        torch.set_num_threads(1)  # others would still spin on the worker's CPU after a tensor is made
        self.ones = torch.ones
        self.small = torch.ones(1)
        self.worker = None
        self.over_plain: dict[str, float] = {}
        if "process" in worker and nbytes > MOST_COPIED:
            return
        self.worker = OneWorker(worker)
        self.receive = self.worker.method("receive")
        self.prepare = self.worker.method("prepare")
        self.write = self.worker.method("write")
        self.look_at_prepared = self.worker.method("look_at_prepared")
        self.produce = self.worker.method("produce")
        self.echo = self.worker.method("echo")
        self.calls = next(calls for most, calls in CALLS.items() if nbytes <= most)
        self._warm_up()

    def teardown(self, worker: str, nbytes: int) -> None:
        if self.worker is not None:
            self.worker.close()

    def track_argument(self, worker: str, nbytes: int) -> float | None:
        def prepare() -> Prepared:
            tensor = self.ones(max(1, nbytes // 4))
            if nbytes < WRITTEN:
                write(WRITTEN)
            return lambda: look_at(tensor), lambda: self.receive(tensor).result()

        return self._measure("argument", prepare)

    def track_argument_extra(self, worker: str, nbytes: int) -> float | None:
        return self._extra("argument", self.track_argument, worker, nbytes)

    def track_result(self, worker: str, nbytes: int) -> float | None:
        def prepare() -> Prepared:
            self.prepare(nbytes).result()
            if nbytes < WRITTEN:
                self.write(WRITTEN).result()
            return lambda: self.look_at_prepared().result(), lambda: self.produce().result()

        return self._measure("result", prepare)

    def track_result_extra(self, worker: str, nbytes: int) -> float | None:
        return self._extra("result", self.track_result, worker, nbytes)

    def peakmem_argument(self, worker: str, nbytes: int) -> None:
        """A copy would show; a rival process's own memory does not."""
        if self.worker is not None:
            self.receive(self.ones(max(1, nbytes // 4))).result()

    def _measure(self, name: str, prepare: Callable[[], Prepared]) -> float | None:
        """The median of calls with what `prepare` makes; how much it is over a plain one is kept."""
        if self.worker is None:
            return None
        with_tensor, plain = [], []
        for _ in range(self.calls):
            look, call = prepare()
            self._warm_up()
            look()
            # In this order: the call after a tensor may have to give its memory back.
            plain.append(self._timed(lambda: self.echo(1).result()))
            with_tensor.append(self._timed(call))
        median = statistics.median(with_tensor)
        self.over_plain[name] = median - statistics.median(plain)
        return median

    def _timed(self, call: Callable[[], object]) -> float:
        """Microseconds until what it returns is here, and not until that is gone."""
        start = time.perf_counter_ns()
        kept = call()
        taken = (time.perf_counter_ns() - start) / 1000
        del kept
        return taken

    def _extra(self, name: str, measure: Callable[..., object], *parameters: object) -> float | None:
        if name not in self.over_plain:  # asv runs each figure by itself
            measure(*parameters)
        return self.over_plain.pop(name, None)

    def _warm_up(self) -> None:
        for _ in range(20):
            self.receive(self.small).result()
            self.prepare(4).result()
            self.produce().result()
            self.echo(1).result()

    track_argument.unit = track_result.unit = "µs"
    track_argument_extra.unit = track_result_extra.unit = "µs"
    track_argument.pretty_name = "tensor as argument, p50"
    track_argument_extra.pretty_name = "argument, over a plain call"
    track_result.pretty_name = "tensor as result, p50"
    track_result_extra.pretty_name = "result, over a plain call"
