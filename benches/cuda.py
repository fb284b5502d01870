"""Small models on one GPU: N interpreters beside N threads and N processes, and these under MPS.

    python benches/cuda.py [--counts 1 4 8 16] [--kinds interpreter thread process mps] [--seconds 1.5]

Model: each kind of worker has a process of its own that does nothing else, so that nobody inherits a context.
In it the first workers are measured, then more of them; those that are not yet wanted are idle. They run a
model in a loop, each with one request under way, begin together and note how long each pass took within the
same window. Shown are passes per second of all workers, and the middle and 99th percentile of the times.
Memory is what the GPU has in use beyond what it had before, contexts and code included, as nvidia-smi tells
it, after all models have run in that many workers.

Interpreters and threads have the weights of the models on the GPU once, processes each their own: sharing
them between processes takes CUDA's IPC and code that handles it. Threads have a stream each.

MPS is NVIDIA's service that joins the contexts of several processes; it is measured where it can be started.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.append(str(Path(__file__).resolve().parent.parent))

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    # Has every worker run the named method, and returns what each did.
    Each = Callable[..., list[Any]]

KINDS = ("interpreter", "thread", "process", "mps")
CASES = (("transformer", 1), ("transformer", 32), ("minilm", 1), ("minilm", 32))
TITLES = {
    "interpreter": "interpreters",
    "thread": "threads",
    "process": "processes",
    "mps": "processes, MPS",
}


def used_mib() -> int:
    """Memory of the first GPU that is in use, by whomever."""
    query = ["nvidia-smi", "--id=0", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    return int(subprocess.run(query, check=True, capture_output=True, text=True).stdout)


def interpreters(counts: list[int]) -> Iterator[Each]:
    import multipy_actors as multipy
    from benches.cuda_workloads import Runner

    with multipy.Pool(counts[-1], intra_op_threads=1, preload=["benches.cuda_workloads"]) as pool:
        runner = multipy.replicate(Runner(), pool)
        for count in counts:
            replicas = [runner.on(index) for index in range(count)]
            yield lambda name, *args, replicas=replicas: multipy.get(
                [getattr(replica, name).submit(*args) for replica in replicas]
            )


def threads(counts: list[int]) -> Iterator[Each]:
    from benches.cuda_workloads import Runner

    runner = Runner(own_streams=True)
    with ThreadPoolExecutor(counts[-1]) as executor:
        for count in counts:
            # No more threads are started than are wanted at once.
            yield lambda name, *args, count=count: results(
                [executor.submit(getattr(runner, name), *args) for _ in range(count)]
            )


def processes(counts: list[int]) -> Iterator[Each]:
    from benches import cuda_workloads

    executors: list[ProcessPoolExecutor] = []
    try:
        for count in counts:
            while len(executors) < count:
                executors.append(ProcessPoolExecutor(1, mp_context=get_context("spawn")))
            results([executor.submit(cuda_workloads.prepare) for executor in executors])
            yield lambda name, *args: results(
                [executor.submit(getattr(cuda_workloads, name), *args) for executor in executors]
            )
    finally:
        for executor in executors:
            executor.shutdown()


def results(futures: list[Future[Any]]) -> list[Any]:
    return [future.result() for future in futures]


def measure(kind: str, counts: list[int], seconds: float) -> Iterator[dict[str, Any]]:
    """Measure one kind of worker in this process, with one count after the other."""
    before = used_mib()
    make = {"interpreter": interpreters, "thread": threads, "process": processes, "mps": processes}[kind]
    for each in make(counts):
        found: dict[str, Any] = {}
        for case in CASES:
            each("run", *case, time.monotonic(), 0.1)  # libraries and kernels are loaded
            took = sorted(itertools.chain(*each("run", *case, time.monotonic() + 0.3, seconds)))
            found[" ".join(map(str, case))] = {
                "rate": len(took) / seconds,
                "p50": statistics.median(took) * 1e3,
                "p99": took[int(len(took) * 0.99)] * 1e3,
            }
        found["launches"] = sum(each("launch", time.monotonic() + 0.2, seconds / 2)) / (seconds / 2)
        found["mib"] = used_mib() - before
        yield found


class Mps:
    """The service, while it is needed."""

    def __init__(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="mps-")
        self.env = {
            **os.environ,
            "CUDA_MPS_PIPE_DIRECTORY": self.folder,
            "CUDA_MPS_LOG_DIRECTORY": self.folder,
        }
        self.command = shutil.which("nvidia-cuda-mps-control") or ""

    def __enter__(self) -> dict[str, str] | None:
        """Start it; None if that cannot be."""
        if not self.command:
            return None
        started = subprocess.run([self.command, "-d"], env=self.env, capture_output=True)
        return self.env if started.returncode == 0 else None

    def __exit__(self, *_: object) -> None:
        if self.command:
            subprocess.run([self.command], env=self.env, input="quit\n", text=True, capture_output=True)


def measured_apart(
    kind: str, counts: list[int], seconds: float, env: dict[str, str] | None
) -> dict[tuple[str, int], Any]:
    arguments = [sys.executable, __file__, "--one", kind, "--seconds", str(seconds), "--counts"]
    finished = subprocess.run(
        [*arguments, *map(str, counts)], env=env, capture_output=True, text=True, timeout=600
    )
    lines = finished.stdout.splitlines()
    failed = (finished.stderr.strip().splitlines() or ["failed"])[-1]
    return {
        (kind, count): json.loads(lines[index]) if index < len(lines) else failed
        for index, count in enumerate(counts)
    }


def report(figures: dict[tuple[str, int], Any]) -> Iterator[str]:
    cases = [" ".join(map(str, case)) for case in CASES]
    yield "| workers | " + " | ".join(f"{case}" for case in cases) + " | launches | GPU memory |"
    yield "|---|" + "---:|" * (len(cases) + 2)
    for (kind, count), found in figures.items():
        if isinstance(found, str):
            yield f"| {count} {TITLES[kind]} | {found} |" + " |" * (len(cases) + 1)
            continue
        cells = [
            f"{each['rate']:,.0f}/s ({each['p50']:.2f}, {each['p99']:.2f} ms)"
            for each in (found[case] for case in cases)
        ]
        cells += [f"{found['launches'] / 1000:,.0f} k/s", f"{found['mib'] / 1024:.2f} GiB"]
        yield f"| {count} {TITLES[kind]} | " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", nargs="+", type=int, default=[1, 2, 4, 8, 16])
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--one", choices=KINDS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    counts = sorted(options.counts)
    if options.one:
        for found in measure(options.one, counts, options.seconds):
            print(json.dumps(found), flush=True)
        return
    figures: dict[tuple[str, int], Any] = {}
    for kind in options.kinds:
        if kind != "mps":
            found = measured_apart(kind, counts, options.seconds, None)
        else:
            wanted = [count for count in counts if count >= 8] or counts
            with Mps() as env:
                if env is not None:
                    found = measured_apart(kind, wanted, options.seconds, env)
                else:
                    found = {(kind, count): "cannot be started here" for count in wanted}
        figures.update(found)
        for (_, count), each in found.items():
            print(kind, count, each, file=sys.stderr, flush=True)
    print("\n".join(report(figures)))


if __name__ == "__main__":
    main()
