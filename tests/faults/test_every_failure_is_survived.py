"""A sample of what `make faults` does in full: a call of the kernel or of libc fails, and all goes on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

DRIVER = Path(__file__).parent / "inject.py"
SAMPLE = [
    ("memfd_create", "boot", 3),
    ("ftruncate", "boot", 3),
    ("pwrite", "boot", 7),
    ("mprotect", "boot", 23),
    ("mmap", "boot", 41),
    ("pthread_create", "boot", 1),
    ("mprotect", "load", 11),
    ("mmap", "load", 23),
    ("pthread_create", "use", 2),
]


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no compiler")
@pytest.mark.parametrize(("function", "scenario", "step"), SAMPLE)
def test_the_process_goes_on_when_a_call_fails(run_script, function, scenario, step):
    arguments = [str(DRIVER), "--functions", function, "--scenarios", scenario, "--step", str(step)]
    run_script(None, arguments=arguments, timeout=600)
