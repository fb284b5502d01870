"""docs/benchmarks.md is what the benches make of the figures kept beside it, and the goals name real figures.

Nothing is measured here but a scenario of this file. These tests read the checkout.
"""

from __future__ import annotations

import importlib
import itertools
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
REPORT = ROOT / "docs" / "benchmarks.md"
FIGURES = ROOT / "docs" / "benchmarks" / "figures.json"


@pytest.fixture(autouse=True, scope="module")
def benches_can_be_imported():
    """At the end of the path: the package's source folder must not hide what is installed."""
    sys.path.append(str(ROOT))
    yield
    sys.path.remove(str(ROOT))


def bench_module(name):
    return importlib.import_module(f"benches.{name}")


class Echo:
    """A scenario whose figures are made up: of the worker's number and the round's."""

    param_names = ("worker", "size")
    params = ([1, 2], ["small", "large"])
    events: list[str]

    def setup(self, worker, size):
        self.rounds = itertools.count(1)
        self.events.append(f"setup {worker} {size}")

    def teardown(self, worker, size):
        self.events.append(f"teardown {worker} {size}")

    def track_echo(self, worker, size):
        self.events.append(f"{worker} {size}")
        return None if (worker, size) == (2, "large") else float(worker * next(self.rounds))


@pytest.fixture
def scenario():
    Echo.events = []
    return Echo


def test_workers_take_turns_in_rounds(scenario):
    figures = bench_module("figures").Figures()
    figures.measure(scenario, rounds=2, left_out=("size", "large"))
    turns = ["1 small", "2 small"]
    assert scenario.events == [
        *("setup 1 small", "setup 2 small"),
        *turns,
        *turns,
        *("teardown 1 small", "teardown 2 small"),
    ]


def test_a_worker_without_a_figure_has_none(scenario):
    figures = bench_module("figures").Figures()
    figures.measure(scenario, rounds=3)
    assert figures.median(("track_echo", 1, "large")) == 2.0
    assert ("track_echo", 2, "large") not in figures


def test_a_ratio_is_the_median_of_the_rounds_ratios():
    figures = bench_module("figures").Figures(
        {("a",): [1.0, 2.0, 9.0], ("b",): [1.0, 4.0, 3.0], ("c",): [2.0]}
    )
    assert figures.ratio(("a",), ("b",)) == 1.0
    assert figures.ratio(("a",), ("c",)) == 1.0  # measured more often: the ratio of the medians


def test_figures_come_back_from_their_file(scenario, tmp_path):
    kind = bench_module("figures").Figures
    figures = kind()
    figures.measure(scenario, rounds=2)
    figures.write(tmp_path / "new" / "figures.json")
    assert kind.read(tmp_path / "new" / "figures.json") == figures


def test_the_worst_of_a_goals_sides_counts():
    goals = bench_module("goals")
    figures = bench_module("figures").Figures(
        {("a", 1): [3.0], ("a", 2): [5.0], ("b", 1): [1.0], ("b", 2): [1.0]}
    )
    sides = goals.for_each([1, 2, 3], ("a",), ("b",))
    assert goals.Goal("most", 4.0, sides).worst(figures) == (goals.Side(("a", 2), ("b", 2)), 5.0)
    assert goals.Goal("least", 4.0, sides, at_least=True).worst(figures) == (
        goals.Side(("a", 1), ("b", 1)),
        3.0,
    )
    assert goals.Goal("not measured", 4.0, goals.for_each([3], ("a",))).worst(figures) is None


def test_every_goal_is_one_of_figures_that_are_measured():
    tables = bench_module("tables")
    measured = {
        (name, *parameters)
        for scenario in tables.HEADINGS
        for name in tables.methods(scenario)
        for parameters in itertools.product(*scenario.params)
    }
    named = [key for goal in bench_module("goals").GOALS for side in goal.sides for key in side if key]
    assert [key for key in named if key not in measured] == []


def test_no_two_scenarios_have_a_figure_of_one_name():
    tables = bench_module("tables")
    names = [name for scenario in tables.HEADINGS for name in tables.methods(scenario)]
    assert len(names) == len(set(names))


def test_the_report_is_what_the_tables_make_of_the_figures():
    """After a change of the benches: `python benches/report.py --again --write docs/benchmarks.md`."""
    figures = bench_module("figures").Figures.read(FIGURES)
    assert REPORT.read_text() == bench_module("tables").report(figures)


def test_every_plot_of_the_report_is_there():
    linked = re.findall(r"!\[.*?\]\((.*?)\)", REPORT.read_text())
    assert linked
    assert [name for name in linked if not (REPORT.parent / name).exists()] == []
