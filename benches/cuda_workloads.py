"""What workers do on a GPU while they are measured: the same code for interpreters, threads and processes.

The models have random weights; what they compute does not matter, how many kernels they launch does.
"""

from __future__ import annotations

import threading
import time

import torch
from torch import nn
from torch.nn import functional

# Layers, width, heads, tokens. `minilm` has the shape of all-MiniLM-L6-v2.
SHAPES = {"transformer": (4, 256, 4, 16), "minilm": (6, 384, 12, 64)}


class Block(nn.Module):
    """A layer of a transformer, written as most are: a dozen kernels, launched one by one."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention = nn.LayerNorm(width)
        self.joined = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.before_feed_forward = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, tokens, width = x.shape
        joined = self.joined(self.before_attention(x))
        query, key, value = joined.view(batch, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(query, key, value)
        x = x + self.out(attended.transpose(1, 2).reshape(batch, tokens, width))
        return x + self.narrow(functional.gelu(self.widen(self.before_feed_forward(x))))


def make_model(name: str) -> nn.Module:
    layers, width, heads, _ = SHAPES[name]
    return nn.Sequential(*(Block(width, heads) for _ in range(layers))).half().cuda().eval()


_thread = threading.local()


def stream_of_thread() -> torch.cuda.Stream:
    """Return the one stream of this thread; torch keeps memory for each that was ever used."""
    if not hasattr(_thread, "stream"):
        _thread.stream = torch.cuda.Stream()
    return _thread.stream  # type: ignore[no-any-return]


class Runner:
    """Holds the models and runs one of them over and over."""

    def __init__(self, own_streams: bool = False) -> None:
        """With `own_streams`, each thread has one; interpreters and processes have theirs anyway."""
        self.own_streams = own_streams
        self.models = {name: make_model(name) for name in SHAPES}

    def run(self, name: str, batch: int, start: float, seconds: float) -> list[float]:
        """Return how long each pass took that began from `start` (time.monotonic) on for `seconds`."""
        torch.set_num_threads(1)
        model = self.models[name]
        _, width, _, tokens = SHAPES[name]
        given = torch.randn(batch, tokens, width, device="cuda", dtype=torch.half)
        stream = self.stream()
        took: list[float] = []
        end = start + seconds
        with torch.inference_mode(), torch.cuda.stream(stream):
            stream.wait_stream(torch.cuda.default_stream())
            for _ in range(3):
                model(given)
            stream.synchronize()
            while (begin := time.monotonic()) < end:
                model(given)
                stream.synchronize()
                if begin >= start:
                    took.append(time.monotonic() - begin)
        return took

    def launch(self, start: float, seconds: float) -> int:
        """Return how many of the smallest kernels were launched, and nothing else done."""
        count = 0
        end = start + seconds
        stream = self.stream()
        with torch.cuda.stream(stream):
            x = torch.zeros(1, device="cuda")
            while (now := time.monotonic()) < end:
                for _ in range(100):
                    x.add_(1)
                stream.synchronize()
                if now >= start:
                    count += 100
        return count

    def stream(self) -> torch.cuda.Stream:
        return stream_of_thread() if self.own_streams else torch.cuda.current_stream()


_runner: Runner | None = None


def run(*args: object) -> list[float]:
    """Runner.run of the one of this process."""
    return prepared().run(*args)  # type: ignore[arg-type]


def launch(*args: object) -> int:
    """Runner.launch of the one of this process."""
    return prepared().launch(*args)  # type: ignore[arg-type]


def prepared() -> Runner:
    global _runner
    if _runner is None:
        _runner = Runner()
    return _runner


def prepare() -> None:
    """Make the one of this process; its models are its own."""
    prepared()
