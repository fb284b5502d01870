"""The C++ programs and what they load, made once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import cpp_projects
import pytest
from cpp_projects import HAS_TORCH


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A folder with a module and, if there is torch, packages and TorchScript files."""
    folder = tmp_path_factory.mktemp("data") / "made"
    cpp_projects.run([sys.executable, "-W", "ignore", cpp_projects.FOLDER / "make_data.py", folder])
    return folder


class Programs(NamedTuple):
    """The folder of the built tests, that of the examples, and whether all of them link libtorch."""

    tests: Path
    examples: Path
    with_torch: bool


@pytest.fixture(
    scope="session",
    params=[
        "alone",
        pytest.param("with libtorch", marks=pytest.mark.skipif(not HAS_TORCH, reason="no torch")),
    ],
)
def programs(request, tmp_path_factory):
    """Everything that is written in C++, built once without torch and once with it."""
    if (reason := cpp_projects.why_not()) is not None:
        pytest.skip(reason)
    with_torch = request.param == "with libtorch"
    folder = tmp_path_factory.mktemp("build")
    cpp_projects.build(folder, *(["-DMULTIPY_EXAMPLES_TORCH=ON"] if with_torch else []))
    return Programs(folder, folder / "examples", with_torch)
