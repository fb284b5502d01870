"""Runs a scenario in a process of its own, so that a crash of the loader is one failed test.

The scenario, a function nested in a test, gets a Pool as its first argument and travels by value with what
it captures; what it returns comes back. As a program, this file is the other end: a pickle on stdin, one on
stdout.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import traceback
from typing import Any

import cloudpickle

SECONDS = 120


def in_pool(scenario: Any, *args: Any, interpreters: int = 1, **options: Any) -> Any:
    """Call `scenario(pool, *args)` in a new process, `pool` having `interpreters` and further `options`."""
    options.setdefault("private", ("libprivate_*",))
    options["interpreters"] = interpreters
    returned, _ = in_pool_and_output(scenario, *args, **options)
    return returned


def in_pool_and_output(scenario: Any, *args: Any, **options: Any) -> tuple[Any, str]:
    """As `in_pool`, and return also what the process wrote to stdout and stderr, up to its very end."""
    options.setdefault("private", ("libprivate_*",))
    options.setdefault("interpreters", 1)
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", __file__],
        input=cloudpickle.dumps((scenario, args, options)),
        capture_output=True,
        timeout=SECONDS,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    output = done.stderr.decode(errors="replace")
    assert done.returncode == 0, f"the process ended with {done.returncode}:\n{output}"
    error, value = pickle.loads(done.stdout)
    assert error is None, f"{error}\n{output}"
    return value, output


def main() -> None:
    import multipy_actors as multipy

    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not get between the bytes of the answer
    scenario, args, options = pickle.load(sys.stdin.buffer)
    try:
        with multipy.Pool(**options) as pool:
            answer = (None, scenario(pool, *args))
        data = pickle.dumps(answer)
    except Exception:
        data = pickle.dumps((traceback.format_exc(), None))
    answers.write(data)
    answers.close()


if __name__ == "__main__":
    main()
