"""Real packages at work in private interpreters; see catalogue for which, trial for how.

`make test-packages` installs them all; otherwise what is not installed is skipped.
"""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from catalogue import PACKAGES

TRIAL = Path(__file__).with_name("trial.py")


def marks(package):
    """Return what pytest is to know of the package."""
    if package.slow:
        yield pytest.mark.slow
    if package.limit:
        yield pytest.mark.xfail(reason=package.limit, strict=True)


ROWS = [pytest.param(package, id=package.name, marks=[*marks(package)]) for package in PACKAGES]


def run(arguments, timeout):
    """Run a trial; if it does not end in time, end it with all processes it started."""
    path = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"  # torch looks for ninja there
    trial = subprocess.Popen(
        [sys.executable, "-X", "faulthandler", *map(str, arguments)],
        env={**os.environ, "PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = trial.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(trial.pid, signal.SIGKILL)
        output, _ = trial.communicate()
        pytest.fail(f"not finished after {timeout} s\n{output}")
    return trial.returncode, output


@pytest.fixture
def attempt(tmp_path):
    """Return a function that tries a package in a process of its own."""

    def attempt(package, host):
        missing = package.missing()
        if missing:
            pytest.skip(f"{' and '.join(missing)} not installed")
        if package.build is not None:
            reason = why_not_built_here(package.build)
            if reason:
                pytest.skip(reason)
            status, output = run([TRIAL, package.name, "build", tmp_path], timeout=300)
            assert status == 0, output
        timeout = 600 if package.slow else 30 if package.limit else 200
        status, output = run([TRIAL, package.name, host, tmp_path], timeout)
        assert status == 0, f"exit status {status}\n{output}"
        assert "Traceback" not in output and "Exception ignored" not in output

    return attempt


@functools.cache
def why_not_built_here(build):
    """Return which tool that `build` needs is not here, or nothing."""
    tool = getattr(build, "tool", "g++")
    try:
        subprocess.run([tool, "--version"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return f"{tool} not installed"
    return ""


@pytest.mark.parametrize("package", ROWS)
def test_it_works_in_two_interpreters_at_once(attempt, package):
    attempt(package, "idle")


@pytest.mark.parametrize("package", ROWS)
def test_it_works_in_two_interpreters_while_the_host_uses_it_too(attempt, package):
    attempt(package, "busy")


def test_a_use_that_fails_is_noticed(tmp_path):
    script = tmp_path / "fails.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(TRIAL.parent)!r})\n"
        "import catalogue, trial\n"
        "def fail(folder): raise AssertionError('as it should')\n"
        "catalogue.BY_NAME['none'] = catalogue.Package('none', (), fail)\n"
        "from pathlib import Path\n"
        f"trial.try_package('none', True, Path({str(tmp_path)!r}))\n"
    )
    status, output = run([script], timeout=100)
    assert status == 1 and "as it should" in output


def test_the_names_of_the_rows_are_unique():
    names = [package.name for package in PACKAGES]
    assert len(set(names)) == len(names)
