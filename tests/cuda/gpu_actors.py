"""Actors that the tests of CUDA use. Interpreters import this module; torch is imported where it is used."""

from __future__ import annotations

import multipy_actors as multipy

_LONG = 20_000_000  # GPU cycles: some ten milliseconds, for which nothing else can have finished


@multipy.remote
class Worker:
    """Computes on the GPU, and returns before the GPU is done."""

    def __init__(self):
        self.kept = None

    def fill_late(self, value, size=1 << 20, cycles=_LONG):
        """Return a tensor that will be full of `value` when the GPU has slept."""
        import torch

        tensor = torch.zeros(size, device="cuda")
        torch.cuda._sleep(cycles)
        return tensor.fill_(value)

    def fill_and_reuse(self, value, size, cycles):
        """The same, then overwrite whatever memory the allocator hands out again, over and over."""
        self.scribble(size)
        tensor = self.fill_late(value, size, cycles)
        return tensor

    def scribble(self, size):
        import torch

        for _ in range(4):
            torch.full((size,), -1.0, device="cuda")

    def sum_late(self, tensor, cycles=_LONG):
        """Drop the argument at once; return its sum, which the GPU computes after it has slept."""
        import torch

        torch.cuda._sleep(cycles)
        return tensor.sum()

    def add_late(self, tensor, value, cycles=_LONG):
        import torch

        torch.cuda._sleep(cycles)
        tensor.add_(value)

    def keep(self, tensor):
        self.kept = tensor

    def give(self):
        return self.kept

    def stream(self):
        import torch

        torch.cuda.init()
        return torch.cuda.current_stream().cuda_stream

    def allocate(self, nbytes):
        """Keep that much in the cache of this interpreter, and return what it has reserved."""
        import torch

        tensor = torch.empty(nbytes, dtype=torch.uint8, device="cuda")
        del tensor
        return torch.cuda.memory_reserved()

    def hold(self, nbytes):
        import torch

        self.kept = torch.empty(nbytes, dtype=torch.uint8, device="cuda")

    def run(self, function, *args):
        return function(*args)
