"""Fixtures for tests that need interpreters, and for scripts that run in a process of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

import pytest
from gates import Gate

import multipy_actors as multipy

# A shell starts what it runs in the background with Ctrl-C ignored, and children would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module")
def pool():
    """Two interpreters that the tests of one module share; whoever changes them for good makes others."""
    with multipy.Pool(2) as pool:
        yield pool


@pytest.fixture
def gate():
    """A closed gate, opened at the end of the test at the latest, so that the pool can drain."""
    with Gate() as gate:
        yield gate


@pytest.fixture
def run_script(tmp_path):
    """Return a function that runs a script in a process of its own: what crashes or hangs fails one test.

    It returns the finished process with what it wrote; unless another `status` is expected, the script must
    exit with 0. `arguments` are those of the interpreter, by default the script written to a file.
    """

    def run(source, *, arguments=None, status=0, timeout=120, cwd=None, python=sys.executable, **env):
        if arguments is None:
            path = tmp_path / "script.py"
            path.write_text(textwrap.dedent(source))
            arguments = ["-W", "default", "-X", "faulthandler", str(path)]
        try:
            finished = subprocess.run(
                [python, *arguments],
                cwd=cwd or tmp_path,
                env={**os.environ, **env},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout,
            )
        except subprocess.TimeoutExpired as hung:
            pytest.fail(f"the script hung\n{_text(hung.stdout)}\n{_text(hung.stderr)}")
        if status is not None:
            assert finished.returncode == status, f"{finished.stdout}\n{finished.stderr}"
        return finished

    return run


def _text(output):
    return (output or b"").decode(errors="replace")
