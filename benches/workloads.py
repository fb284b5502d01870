"""What workers do while they are measured: plain functions, the same ones for every kind of worker.

Imported in private interpreters, in spawned processes and in the host: nothing heavy is imported at the top.
"""

from __future__ import annotations

import functools
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    import torch


def echo(value: Any) -> Any:
    return value


def receive(tensor: torch.Tensor) -> int:
    """The receiving end of a tensor argument; looks at the object, not at the memory."""
    return tensor.numel()


_prepared: list[torch.Tensor] = []


def prepare(nbytes: int) -> None:
    """Make a tensor for `produce`. Its memory is written to: untouched pages would be mapped while timed."""
    import torch

    _prepared.append(torch.ones(max(1, nbytes // 4)))


def produce() -> torch.Tensor:
    """Return the tensor prepared last."""
    return _prepared.pop()


class Actor:
    """The same functions as an actor's methods."""

    echo = staticmethod(echo)
    receive = staticmethod(receive)
    prepare = staticmethod(prepare)
    produce = staticmethod(produce)


@functools.cache
def small_model() -> tuple[torch.nn.Module, torch.Tensor]:
    """A multi-layer perceptron, and an input of batch size 1.

    Its 26,000 weights fit any core's own cache; a larger model would measure the cache that cores share.
    """
    import torch

    torch.manual_seed(0)
    layers = torch.nn.Sequential(
        torch.nn.Linear(64, 128),
        torch.nn.ReLU(),
        torch.nn.Linear(128, 128),
        torch.nn.ReLU(),
        torch.nn.Linear(128, 10),
    )
    return layers.eval(), torch.randn(1, 64)


def run_forwards(start: float, seconds: float) -> int:
    """Run the model over and over; how many passes ended from `start` (time.monotonic) on for `seconds`."""
    import torch

    torch.set_num_threads(1)
    model, batch = small_model()
    end = start + seconds
    passes = 0
    with torch.inference_mode():
        while time.monotonic() < start:
            model(batch)
        while time.monotonic() < end:
            model(batch)
            passes += 1
    return passes


def import_seconds(name: str) -> float:
    import importlib

    start = time.perf_counter()
    importlib.import_module(name)
    return time.perf_counter() - start


def load_and_use(module: str) -> int:
    """Import `module`, run the small model if it is torch, and say which process this is."""
    import importlib

    importlib.import_module(module)
    if module == "torch":
        model, batch = small_model()
        model(batch)
    return os.getpid()


def load_libraries(paths: list[str]) -> None:
    import ctypes

    for path in paths:
        ctypes.CDLL(path)
