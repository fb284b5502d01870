"""What this library is compared with and Python has no executor for: each submits as an executor does.

`QueueThread` is the floor: what any call between two threads of Python costs. `TorchProcess` is a process as
torch's documentation has it, and `RayActor` an actor of Ray on a cluster of this machine alone. `ping_pong`
is no worker but the physical limit of a hand-over, in C++.
"""

from __future__ import annotations

import atexit
import functools
import importlib.util
import os
import queue
import shutil
import subprocess
import tempfile
import threading
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benches import workloads

if TYPE_CHECKING:
    from collections.abc import Callable

# What may be on its way to a process and back: more would fill both pipes, and neither side could go on.
_MOST_ON_THE_WAY = 200


class QueueThread:
    """A thread that takes calls from one queue and puts what they return into another."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._values: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> QueueThread:
        """Its future is the worker itself: values come, and are asked for, in the order of the calls."""
        self._calls.put((fn, args))
        return self

    def result(self) -> Any:
        return self._values.get()

    def shutdown(self) -> None:
        self._calls.put(None)
        self._thread.join()

    def _serve(self) -> None:
        while (call := self._calls.get()) is not None:
            fn, args = call
            self._values.put(fn(*args))


class TorchProcess:
    """A spawned process with two queues of torch.multiprocessing; its tensors go through shared memory."""

    def __init__(self) -> None:
        import torch.multiprocessing

        context = torch.multiprocessing.get_context("spawn")
        self._calls, self._values = context.SimpleQueue(), context.SimpleQueue()
        self._read: deque[Any] = deque()
        self._on_the_way = 0
        self._process = context.Process(target=_serve_calls, args=(self._calls, self._values), daemon=True)
        self._process.start()

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> TorchProcess:
        """As QueueThread's."""
        if self._on_the_way == _MOST_ON_THE_WAY:
            self._read.append(self._get())
        self._calls.put((fn, args))
        self._on_the_way += 1
        return self

    def result(self) -> Any:
        return self._read.popleft() if self._read else self._get()

    def shutdown(self) -> None:
        self._calls.put(None)
        self._process.join()

    def _get(self) -> Any:
        self._on_the_way -= 1
        return self._values.get()


def _serve_calls(calls: Any, values: Any) -> None:
    while (call := calls.get()) is not None:
        fn, args = call
        values.put(fn(*args))


class RayActor:
    """An actor of Ray, with a cluster that lasts as long and whose servers listen on the loopback only."""

    def __init__(self) -> None:
        # The one switch that makes Ray take 127.0.0.1 for its address; otherwise it listens on all of them.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        import ray

        self._ray = ray
        ray.init(
            num_cpus=len(os.sched_getaffinity(0)),
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            _node_ip_address="127.0.0.1",
        )
        self._actor = ray.remote(workloads.Actor).remote()

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> _RayFuture:
        return _RayFuture(self._ray, getattr(self._actor, fn.__name__).remote(*args))

    def shutdown(self) -> None:
        del self._actor
        self._ray.shutdown()


class _RayFuture(NamedTuple):
    ray: Any
    reference: Any

    def result(self) -> Any:
        return self.ray.get(self.reference)


def without_ray() -> str:
    """Why this rival has to be left out, or nothing."""
    return "" if importlib.util.find_spec("ray") else "Ray is not installed: the extra `bench-ray` brings it"


class RoundTrip(NamedTuple):
    """Of two threads and a futex, in microseconds."""

    p50: float
    p99: float


def ping_pong() -> RoundTrip:
    output = subprocess.run([_compiled()], check=True, capture_output=True, text=True).stdout
    p50, p99 = (int(word) / 1000 for word in output.split())
    return RoundTrip(p50, p99)


@functools.cache
def _compiled() -> str:
    folder = tempfile.mkdtemp(prefix="bench-native-")
    atexit.register(shutil.rmtree, folder)
    program = f"{folder}/ping_pong"
    source = str(Path(__file__).parent / "native" / "ping_pong.cpp")
    subprocess.run(["g++", "-std=c++17", "-O2", "-pthread", "-o", program, source], check=True)
    return program
