"""`multipy.Pool` with the constructor of the standard library's executors, for CPython's tests of these.

They make executors by `executor_type(max_workers=…)`, in the test's process and in scripts that import it
from `concurrent.futures` by its name; `run_python` sees to the latter.
"""

from __future__ import annotations

import sys

import cpython_tests

import multipy_actors as multipy

PRELUDE = """
import sys
sys.path[:] = {path!r}
import concurrent.futures, pool_executor
concurrent.futures.PoolExecutor = pool_executor.PoolExecutor
"""


class PoolExecutor(multipy.Pool):
    """A pool whose number of interpreters is called `max_workers`, and that prints just what calls print."""

    def __init__(self, max_workers=None, **options):
        env = multipy.PathEnvironment(cpython_tests.BORROWED) if cpython_tests.is_borrowed() else None
        super().__init__(max_workers, env=env, prefix_output=False, **options)


def run_python(option, script):
    """Take the place of `assert_python_ok`: what the script imports is there for it to import."""
    from test.support import script_helper  # cpython_tests may have had to find it

    assert option == "-c"
    return script_helper.assert_python_ok(option, PRELUDE.format(path=sys.path) + script)
