"""Interpreters in C++ programs without Python; matrix.py has more, and programs that link libtorch."""

from __future__ import annotations

import importlib.util
import sys

import cpp_host
import pytest

SECONDS = 120
HAS_TORCH = importlib.util.find_spec("torch") is not None

pytestmark = pytest.mark.skipif(cpp_host.compiler() is None, reason="no C++ compiler")


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return cpp_host.build([sys.executable], tmp_path_factory.mktemp("program"))


def test_two_interpreters_of_a_cpp_program_use_packages_at_the_same_time(program):
    packages = [name for name in ("numpy", "torch") if importlib.util.find_spec(name) is not None]
    assert cpp_host.run(program, "work", ",".join(packages), "", timeout=SECONDS) == "ok"


def test_a_program_at_fixed_addresses_that_has_copies_of_libc_variables_works_too(tmp_path):
    program = cpp_host.build([sys.executable], tmp_path, flags=["-fno-pie", "-no-pie"])
    assert cpp_host.run(program, "work", "", "", timeout=SECONDS) == "ok"


def test_errors_reach_a_cpp_program_as_exceptions(program):
    assert cpp_host.run(program, "fail", timeout=SECONDS) == "ok"


@pytest.mark.parametrize("how", cpp_host.LEAVING)
def test_a_cpp_program_may_end_without_closing_its_interpreters(program, how):
    if how == "compute" and not HAS_TORCH:
        pytest.skip("no torch")
    assert cpp_host.run(program, "leave", how, timeout=SECONDS) == "ok"
