# A pool that was dropped where warnings are errors was never closed, and one that failed at exit left
# the others.
import gc
import os
import subprocess
import sys
import time
import warnings

import multipy_actors as multipy

HERE = os.path.dirname(__file__)  # not where the package lies that is not installed


def threads():
    names = []
    for thread in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{thread}/comm") as file:
                names.append(file.read().strip())
        except OSError:
            pass
    return names


AT_EXIT = """
import atexit, os, warnings
import multipy_actors as multipy

warnings.simplefilter("error")

def register(name):
    atexit.register(os.write, 1, name.encode() + b"\\n")

pools = [multipy.Pool(1, name=name) for name in ("first", "second", "third")]
for pool in pools:
    pool.submit(register, pool._name).result()
"""

if __name__ == "__main__":
    sys.unraisablehook = lambda _: None
    for action in ("ignore", "error"):
        warnings.simplefilter(action)
        pool = multipy.Pool(1, name=action)
        pool.submit(abs, 1).result()
        del pool
        gc.collect()
        deadline = time.monotonic() + 60
        while any(name.startswith(action) for name in threads()):
            assert time.monotonic() < deadline, threads()
            time.sleep(0.01)

    ended = subprocess.run(
        [sys.executable, "-c", AT_EXIT], cwd=HERE, capture_output=True, text=True, timeout=100
    )
    assert sorted(ended.stdout.split()) == ["first", "second", "third"], ended
    for name in ("first", "second", "third"):
        assert f"{name!r} of 1 interpreters, closed> was never shut down" in ended.stderr, ended.stderr
