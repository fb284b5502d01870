"""A worker for every core of a machine that has many: what is shared between workers shows only there.

It runs only when named: `python benches/report.py --only Cores --write FILE.md`, and `--add` takes its
figures into the report of another machine.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benches import workloads
from benches.workers import Workers, cpu_count
from multipy_actors.pool.interpreter import find_libpython

# Declared by hand: whoever has no headers of Python can measure, too.
_MAIN = "int Py_BytesMain(int, char**); int main(int n, char** words) { return Py_BytesMain(n, words); }"
_SERVE = "import sys; sys.path[:] = eval(sys.argv[1]); from benches.workloads import serve; serve()"


class Cores:
    """As many workers as CPUs run the same task; how often all together, and with what share of a CPU each.

    There are processes of the libpython that interpreters load, and of the Python executable that runs this.
    The two may differ: a distribution can build its executable with Python's code inside, which may be faster
    than its shared libpython, and interpreters can only be made of the latter.

    The loop adds small integers, the objects are attributes, methods and dictionaries, and the model is the
    small MLP at batch 1. Workers start together and are all ready before.
    """

    param_names = ("worker", "task")
    params = (["interpreter", "libpython", "executable", "thread"], list(workloads.TASKS))
    timeout = 600
    seconds = 1.0

    def setup(self, worker: str, task: str) -> None:
        self.left: dict[str, float] = {}
        executables = {"libpython": libpython_executable, "executable": lambda: sys.executable}
        if worker in executables:
            self.workers: Any = PlainProcesses(executables[worker](), cpu_count())
        else:
            self.workers = Workers(worker, cpu_count())
        self.workers.each(workloads.run_task, task, time.monotonic(), 0.05)

    def teardown(self, worker: str, task: str) -> None:
        self.workers.close()

    def track_cores(self, worker: str, task: str) -> float:
        return self._figure("rate", task)

    def track_cores_cpu(self, worker: str, task: str) -> float:
        return self._figure("cpu", task)

    def _figure(self, name: str, task: str) -> float:
        if name not in self.left:
            start = time.monotonic() + 0.5
            rates, cpu = zip(*self.workers.each(workloads.run_task, task, start, self.seconds), strict=True)
            self.left = {"rate": sum(rates), "cpu": statistics.mean(cpu) * 100}
        return self.left.pop(name)

    track_cores.unit = "runs/s"
    track_cores_cpu.unit = "%"
    track_cores.pretty_name = "all workers together"
    track_cores_cpu.pretty_name = "CPU share of a worker"


class PlainProcesses:
    """Processes of one executable that take calls from their standard input, without multiprocessing."""

    def __init__(self, executable: str, count: int) -> None:
        pipe = subprocess.PIPE
        # An executable that lies elsewhere would not find the standard library by itself.
        home = {"PYTHONHOME": sys.base_prefix} if executable != sys.executable else {}
        command = [executable, "-c", _SERVE, repr(sys.path)]
        environment = {**os.environ, **home, "OMP_NUM_THREADS": "1"}
        self._processes = [
            subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)
            for _ in range(count)
        ]

    def each(self, fn: Any, *args: Any) -> list[Any]:
        """As that of Workers, for functions of `workloads` and what JSON can carry."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(json.dumps([fn.__name__, *args]) + "\n")
            process.stdin.flush()
        return [json.loads(process.stdout.readline()) for process in self._processes if process.stdout]

    def close(self) -> None:
        for process in self._processes:
            process.communicate()


@functools.cache
def libpython_executable() -> str:
    """A program that is nothing but the libpython of interpreters."""
    folder = tempfile.mkdtemp(prefix="bench-libpython-")
    atexit.register(shutil.rmtree, folder)
    library = Path(find_libpython())
    source = Path(folder) / "main.c"
    source.write_text(_MAIN)
    program = f"{folder}/python"
    command = ["gcc", "-O2", "-o", program, str(source), str(library), f"-Wl,-rpath,{library.parent}"]
    subprocess.run(command, check=True)
    return program
