"""How long a worker takes from nothing to its first result, bare and with torch."""

from __future__ import annotations

import subprocess
import sys
import time

from benches import workloads
from benches.workers import make_executor

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
