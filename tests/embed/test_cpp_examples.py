"""The C++ examples are built and run, in programs without torch and in such that link libtorch."""

from __future__ import annotations

import csv

import cpp_projects
import pytest

needs_torch = pytest.mark.skipif(not cpp_projects.HAS_TORCH, reason="no torch")

HELLO = """\
Hello from interpreter 0
Hello from interpreter 1
25! = 15511210043330985984000000
10 over 3 = 120
ValueError: math domain error
"""
MOVABLE = "made: 5\ncopy 0: 10\ncopy 1: 15\nstep: yes\n"


def test_hello_world_greets_from_two_interpreters(programs):
    assert cpp_projects.run([programs.examples / "hello_world"]).stdout == HELLO


def test_movable_has_a_copy_in_each_interpreter(programs):
    assert cpp_projects.run([programs.examples / "movable"]).stdout == MOVABLE


@needs_torch
def test_quickstart_computes_what_the_model_does(programs, data):
    said = cpp_projects.run([programs.examples / "quickstart", data / "models.zip"]).stdout.split("\n")
    expected = float((data / "first_score.txt").read_text())
    assert said[0] == "ok"
    assert float(said[1]) == pytest.approx(expected, rel=1e-3, abs=1e-5)


def test_quickstart_says_why_it_cannot_load(programs):
    done = cpp_projects.run([programs.examples / "quickstart", "/nowhere/model.zip"], status=1)
    assert "/nowhere/model.zip" in done.stderr
    assert cpp_projects.run([programs.examples / "quickstart"], status=2).stderr.startswith("usage:")


@needs_torch
def test_the_benchmark_prints_a_table(programs, data):
    script = ["--torchscript", data / "model.torchscript"] if programs.with_torch else []
    options = ["--threads", "2", "--seconds", "0.2"]
    done = cpp_projects.run([programs.examples / "benchmark", data / "models.zip", *script, *options])
    rows = list(csv.DictReader(done.stdout.splitlines()))
    modes = ["one_interpreter", "many_interpreters", *(["torchscript"] if programs.with_torch else [])]
    assert [(row["mode"], row["threads"]) for row in rows] == [(mode, "2") for mode in modes]
    for row in rows:
        assert float(row["items_per_second"]) > 0
        assert 0 < float(row["p50_ms"]) <= float(row["p90_ms"]) <= float(row["p99_ms"])
