"""How long a worker takes from nothing to its first result, bare and with torch."""

from __future__ import annotations

import subprocess
import sys
import time

import multipy_actors as multipy
from benches import workloads
from benches.workers import cpu_count, in_new_host, make_executor

AT_ONCE = 8

_TIMED_IMPORT = "import time; start = time.perf_counter(); import torch; print(time.perf_counter() - start)"


class StartUp:
    """`interpreter` and `process` are pools of one worker, up to the first result.

    `python -c` is the least a process can do, and answers nothing. It is the rival of the goals, because a
    process that multiprocessing has spawned imports its parent's script again first.
    """

    param_names = ("worker",)
    params = (["interpreter", "process", "python"],)
    timeout = 300

    def track_first_result(self, worker: str) -> float:
        return self._start(worker, None)[0] * 1000

    def track_import_torch(self, worker: str) -> float:
        """Of the statement alone, timed where it runs."""
        return self._start(worker, "torch")[1]

    def track_first_result_with_torch(self, worker: str) -> float:
        return self._start(worker, "torch")[0]

    def _start(self, worker: str, module: str | None) -> tuple[float, float]:
        """Seconds until the first result is here, and how many of them `module` took to import."""
        start = time.perf_counter()
        if worker == "python":
            code = "pass" if module is None else _TIMED_IMPORT
            output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
            return time.perf_counter() - start, float(output.stdout or 0)
        executor = make_executor(worker)
        try:
            if module is None:
                imported = executor.submit(abs, 0.0).result()
            else:
                imported = executor.submit(workloads.import_seconds, module).result()
            return time.perf_counter() - start, imported
        finally:
            executor.shutdown()

    track_first_result.unit = "ms"
    track_import_torch.unit = track_first_result_with_torch.unit = "s"
    track_first_result.pretty_name = "bare worker, start to first result"
    track_import_torch.pretty_name = "`import torch` in it"
    track_first_result_with_torch.pretty_name = "worker with torch, start to first result"


class ManyImports:
    """`import torch` in several workers at once, all of them started before: how many a second, by busy CPU.

    Interpreters are those of a new host. Imports that do not wait for each other are as many by CPU when
    there are eight as when there is one.
    """

    param_names = ("worker", "workers")
    params = (["interpreter", "python"], [1, AT_ONCE])
    timeout = 300

    def track_imports(self, worker: str, count: int) -> float:
        if worker == "python":
            seconds = seconds_of_processes(count)
        else:
            seconds = in_new_host(seconds_of_interpreters, count)
        return count / seconds / min(count, cpu_count())

    track_imports.unit = "imports/s"
    track_imports.pretty_name = "`import torch`"


def seconds_of_interpreters(count: int) -> float:
    with multipy.Pool(count) as pool:
        multipy.get(pool.broadcast(abs, 0.0))
        start = time.perf_counter()
        multipy.get(pool.broadcast(workloads.import_seconds, "torch"))
        return time.perf_counter() - start


def seconds_of_processes(count: int) -> float:
    code = "print(flush=True); input(); import torch; print(flush=True)"
    pipe = subprocess.PIPE
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True)
        for _ in range(count)
    ]
    for process in processes:
        process.stdout.readline()
    start = time.perf_counter()
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        process.stdout.readline()
    taken = time.perf_counter() - start
    for process in processes:
        process.communicate()
    return taken
