"""How much memory one more worker costs.

What counts is memory that no other worker shares: anonymous pages (heaps, and data pages of images, which are
copied when first written) and shared-memory pages in proportion to how many map them (`Pss_Shmem`, the memfd
pages of images). Both come from /proc/PID/smaps_rollup.

`Private_Clean` is not used. Text pages of a library are in the page cache once, however many workers map
them, but the kernel calls them private while one process maps them once and shared as soon as a second
mapping exists, be it in the same process; so that figure would move with what else happens to run.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import multipy_actors as multipy
from benches import workloads
from benches.workers import Workers, in_new_host

WORKERS = 2
MODEL_BYTES = 500_000_000


class PrivateMemory:
    """Anonymous and shared-memory pages; the mean over two workers that have imported a module and used it.

    Interpreters live in their host: their memory is what the host has gained since one of them was up, so
    that what is paid once (parsed files, the first pool) does not count. The host is a new process each time,
    because memory that closed interpreters have freed would be used again. The rival is a plain `python -c`;
    a process that multiprocessing has spawned has also imported its parent's script.
    """

    param_names = ("worker", "module")
    params = (["interpreter", "python"], ["builtins", "numpy", "torch"])
    timeout = 300

    def track_per_worker(self, worker: str, module: str) -> float:
        if worker == "python":
            return sum(bytes_of_process(module) for _ in range(WORKERS)) / WORKERS / 1e6
        return in_new_host(bytes_per_interpreter, module) / 1e6

    track_per_worker.unit = "MB"
    track_per_worker.pretty_name = "private memory of one more worker"


class SharedModel:
    """A model of 500 MB, made in the host and used by replicas: what the host gained, in models.

    The interpreters have imported torch and used it before, which is not counted here.
    """

    param_names = ("replicas",)
    params = ([1, 8],)
    timeout = 300

    def track_shared_model(self, replicas: int) -> float:
        return in_new_host(models_gained, replicas)

    track_shared_model.unit = "models"
    track_shared_model.pretty_name = "memory gained, in models"


class TorchInterpreters:
    """asv's own measure, the peak of the whole process, of pages shared or not."""

    param_names = ("interpreters",)
    params = ([1, 2, 4],)
    timeout = 300

    def peakmem_torch(self, interpreters: int) -> None:
        workers = Workers("interpreter", interpreters)
        workers.each(workloads.load_and_use, "torch")
        workers.close()


def bytes_per_interpreter(module: str) -> float:
    first = Workers("interpreter", 1)
    (host,) = first.each(workloads.load_and_use, module)
    before = private_bytes(host)
    more = Workers("interpreter", WORKERS)
    more.each(workloads.load_and_use, module)
    gained = private_bytes(host) - before
    more.close()
    first.close()
    return gained / WORKERS


def models_gained(replicas: int) -> float:
    import torch

    torch.set_num_threads(1)
    pool = multipy.Pool(replicas)
    multipy.get(pool.broadcast(workloads.load_and_use, "torch"))
    workloads.load_and_use("torch")
    before = private_bytes(os.getpid())
    model = workloads.layers(MODEL_BYTES)
    weights = sum(parameter.nbytes for parameter in model.parameters())
    replicated = multipy.remote(workloads.Replica).options(pool=pool, replicas="all").remote(model)
    values = multipy.get(replicated.broadcast.use.submit())
    assert len(values) == replicas
    gained = private_bytes(os.getpid()) - before
    pool.shutdown()
    return gained / weights


def bytes_of_process(module: str) -> int:
    code = (
        "import sys; sys.path[:] = eval(sys.argv[1]); from benches.workloads import load_and_use; "
        "print(load_and_use(sys.argv[2]), flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, repr(sys.path), module]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        pid = int(process.stdout.readline())
        private = private_bytes(pid)
        process.stdin.close()
    return private


def private_bytes(pid: int) -> int:
    fields = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    )
    return sum(int(fields[name].split()[0]) * 1024 for name in ("Anonymous", "Pss_Shmem"))
