"""The short benchmark of the command line: that every figure is there, and what is said of it."""

from __future__ import annotations

import pytest

from multipy_actors.cli import bench
from multipy_actors.cli.bench import Row

FIGURES = {"interpreter": 2.0, "thread": 1.0, "process": 50.0}


def row(less_is_better, figures=FIGURES, unit="ms"):
    """A row whose figures are given instead of measured."""
    return Row("figure", unit, less_is_better, lambda workers: figures.get(workers.kind), ready=False)


def cells(line):
    """The words of a line, without the title."""
    return line.split()[1:]


def test_it_is_told_how_many_times_less_time_interpreters_take():
    *_, line = bench.table([row(less_is_better=True)])
    assert cells(line) == ["2.00", "ms", "1.00", "ms", "(0.50x)", "50.0", "ms", "(25x)"]


def test_it_is_told_how_many_times_more_interpreters_do():
    *_, line = bench.table([row(less_is_better=False, unit="/s")])
    assert cells(line) == ["2.00", "/s", "1.00", "/s", "(2.00x)", "50.0", "/s", "(0.04x)"]


def test_what_has_no_meaning_for_a_worker_is_a_dash():
    *_, line = bench.table([row(True, {"interpreter": 1234.0, "process": 1.0})])
    assert cells(line) == ["1,234", "ms", "-", "1.00", "ms", "(0.00x)"]


def test_a_figure_is_the_median_of_the_rounds():
    samples = iter([5.0, 1.0, 1.0, 3.0, 1.0, 1.0, 4.0, 1.0, 1.0])
    found = Row("figure", "ms", True, lambda workers: next(samples), ready=False, rounds=3)
    assert bench.measured(found) == {"interpreter": 4.0, "thread": 1.0, "process": 1.0}


@pytest.mark.parametrize("found", bench.rows(quick=True), ids=lambda found: found.title)
def test_every_row_is_measured_for_interpreters_and_processes(found):
    figures = bench.measured(found)
    assert {"interpreter", "process"} <= set(figures)
    assert all(figure > 0 for figure in figures.values())


def test_rows_with_torch_are_there_only_where_it_is_wanted():
    titles = {found.title for found in bench.rows()}
    assert {found.title for found in bench.rows(with_torch=False)} <= titles
    assert not any("torch" in found.title for found in bench.rows(with_torch=False))


def test_it_can_be_run_as_a_module_and_prints_a_line_for_each_row(run_script):
    printed = run_script(None, arguments=["-m", "multipy_actors", "bench", "--quick"]).stdout
    heading, rule, *lines = printed.splitlines()[3:]
    assert heading.split() == ["interpreters", "threads", "processes"] and set(rule) == {"-", " "}
    titles = [found.title for found in bench.rows(quick=True)]
    assert len(lines) == len(titles)
    assert all(line.startswith(title) for line, title in zip(lines, titles, strict=True))
