"""Programs that once failed: each is run in a process of its own, and exits with 0 where all is well.

What a program needs stands in its first lines, as comments: `# requires: duckdb, gpu` (without these it is
skipped) and `# seconds: 300` (how long it may take on a slow machine).
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from pathlib import Path

import pytest

PROGRAMS = sorted((Path(__file__).parent / "programs").glob("*.py"))
FIELD = re.compile(r"^# (requires|seconds): (.*)$", re.MULTILINE)


def is_there(name: str) -> bool:
    if name == "gpu":
        return os.path.exists("/dev/nvidiactl")
    if name == "compiler":
        return shutil.which("cc") is not None
    return importlib.util.find_spec(name) is not None


@pytest.mark.parametrize("program", PROGRAMS, ids=[path.stem for path in PROGRAMS])
def test_a_program_that_once_failed(program, run_script):
    fields = dict(FIELD.findall(program.read_text()))
    for name in filter(None, re.split(r",\s*", fields.get("requires", ""))):
        if not is_there(name):
            pytest.skip(f"{name} is not there")
    run_script(None, arguments=["-X", "faulthandler", str(program)], timeout=int(fields.get("seconds", 120)))
