"""Loads libraries in an interpreter for test_corrupted_libraries.

A path a line comes on stdin; the outcome goes to stdout, "loaded" or the type of the error and its text.
Libraries are looked at but never called.
"""

from __future__ import annotations

import os
import sys


def look(path: str) -> str:
    """Inside the interpreter: open the library and look up what it defines and what it does not."""
    import contextlib
    import ctypes

    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        return f"OSError: {error}"
    for name in ("numbers", "total", "absent", "variable"):
        with contextlib.suppress(AttributeError):
            getattr(library, name)
    return "loaded"


def main() -> None:
    import multipy_actors as multipy

    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    with multipy.Pool(1, private=["libprivate_*"]) as pool:
        answers.write("ready\n")
        for line in sys.stdin:
            try:
                outcome = pool.submit(look, line.rstrip("\n")).result(timeout=60)
            except Exception as error:
                outcome = f"{type(error).__name__}: {error}"
            answers.write(" ".join(outcome.splitlines()) + "\n")


if __name__ == "__main__":
    main()
