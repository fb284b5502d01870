"""Runs a short form of all benchmarks and prints them as Markdown, goals first.

    python benches/report.py [--rounds 5] [--quick] [--write docs/benchmarks.md]

Model: a scenario of the asv benchmarks is set up for all its parameters at once and then measured in rounds,
each of which takes every worker in turn, so that a disturbance of the machine falls on all of them alike.
Shown is the median over the rounds; a ratio is the median of the rounds' ratios. How much of the machine
other programs took meanwhile is told beside each table: with more than a few per cent, measure again.

Rejected: reading asv's results. It measures one parameter after the other, minutes apart, and a ratio of two
such figures says more about the machine's other users than about the library.
"""

from __future__ import annotations

import argparse
import inspect
import itertools
import os
import platform
import statistics
import sys
import time
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.append(str(Path(__file__).resolve().parent.parent))

# Modules and not their classes: asv would take those for benchmarks of this module.
from benches import bench_calls, bench_images, bench_memory, bench_startup, bench_tensors, bench_throughput

if TYPE_CHECKING:
    from collections.abc import Iterator

# How a figure is found again: the method's name, then its parameters.
Key = tuple[Any, ...]

HEADINGS: dict[type, str] = {
    bench_calls.Calls: "Calls",
    bench_tensors.Tensors: "Tensors",
    bench_throughput.SmallModel: "Throughput",
    bench_startup.StartUp: "Start-up",
    bench_memory.PrivateMemory: "Memory",
    bench_images.Density: "Many workers with torch",
    bench_images.NextInterpreter: "The next interpreter",
    bench_images.ManyImages: "A host with many images",
}
SCENARIOS = tuple(HEADINGS)
# How often each is measured for one round asked for. Memory is not a matter of luck: once is enough.
ROUNDS = {bench_calls.Calls: 3, bench_tensors.Tensors: 2, bench_throughput.SmallModel: 2}
ONCE = (bench_memory.PrivateMemory, bench_images.Density)
# What `--quick` leaves out: parameters that take minutes and gigabytes.
LARGE = {bench_images.Density: ("workers", max(bench_images.WORKERS))}
# Share of the CPUs that other programs may take without the report warning of its own figures.
QUIET = 0.05
KIND_TITLES = {
    "interpreter": "interpreter",
    "pool": "interpreter, by `pool.submit`",
    "thread": "thread",
    "process": "process",
    "python": "`python -c`",
    **{number: f"the {number} one" for number in bench_images.NUMBERS},
}


@dataclass(frozen=True)
class Goal:
    """`ours` beside `rival`, by their keys. Bounded is their ratio or, without a rival, the figure itself.

    Two decimals are compared, as many as are shown and more than one run can tell.
    """

    title: str
    ours: Key
    rival: Key | None
    bound: float
    at_least: bool = False

    def reached(self, figure: float) -> bool:
        shown = round(figure, 2)
        return shown >= self.bound if self.at_least else shown <= self.bound


SMALLEST, LARGEST = bench_tensors.BYTES[0], bench_tensors.BYTES[-1]
MOST = max(bench_images.WORKERS)
IMAGES = max(bench_images.ManyImages.params[0])
GOALS = (
    Goal(
        "small MLP, 2 interpreters beside 1",
        ("track_forwards", "interpreter", 2),
        ("track_forwards", "interpreter", 1),
        1.9,
        True,
    ),
    Goal(
        "small MLP, 2 interpreters beside 2 processes",
        ("track_forwards", "interpreter", 2),
        ("track_forwards", "process", 2),
        0.95,
        True,
    ),
    Goal(
        "`echo(1)` of an actor, p50, beside ThreadPoolExecutor(1)",
        ("track_echo_p50", "interpreter"),
        ("track_echo_p50", "thread"),
        2.0,
    ),
    Goal(
        "tensor argument, 100 MB beside 1 element",
        ("track_argument", "interpreter", LARGEST),
        ("track_argument", "interpreter", SMALLEST),
        1.25,
    ),
    Goal(
        "tensor result, 100 MB beside 1 element",
        ("track_result", "interpreter", LARGEST),
        ("track_result", "interpreter", SMALLEST),
        1.25,
    ),
    Goal(
        "bare interpreter, first of a new process, start to first result",
        ("track_first_result_of", next(iter(bench_images.NUMBERS))),
        None,
        30.0,
    ),
    Goal(
        "`import torch` in an interpreter beside `python -c`",
        ("track_import_torch", "interpreter"),
        ("track_import_torch", "python"),
        1.0,
    ),
    Goal(
        f"private memory of {MOST} interpreters with torch beside {MOST} processes",
        ("track_private", "interpreter", MOST),
        ("track_private", "process", MOST),
        1.0,
    ),
    Goal(f"text copied for {MOST} of them", ("track_copied_text", "interpreter", MOST), None, 0.0),
    Goal(f"written to disk by {MOST} of them", ("track_written", "interpreter", MOST), None, 0.0),
    Goal(
        "bare interpreter, the second beside the first",
        ("track_first_result_of", "second"),
        ("track_first_result_of", "first"),
        1.0,
    ),
    Goal(
        f"`dlopen` and `dlclose` by the host, {IMAGES:,} images beside none",
        ("track_open_and_close", IMAGES),
        ("track_open_and_close", 0),
        1.25,
    ),
    Goal(
        f"C++ exception in the host, {IMAGES:,} images beside none",
        ("track_throw_and_catch", IMAGES),
        ("track_throw_and_catch", 0),
        1.25,
    ),
)


class Figures:
    """The samples of every benchmark, one a round, and the share of the CPUs that others took meanwhile."""

    def __init__(self) -> None:
        self._samples: dict[Key, list[float]] = {}
        self.disturbance: dict[type, float] = {}

    def measure(self, scenario: type, rounds: int, quick: bool = False) -> None:
        """Add `rounds` samples of each `track_` method for each combination of parameters."""
        combinations = [
            combination
            for combination in itertools.product(*scenario.params)  # type: ignore[attr-defined]
            if not (quick and is_large(scenario, combination))
        ]
        prepared = []
        before = foreign_cpu_seconds()
        start = time.monotonic()
        try:
            for combination in combinations:
                instance = scenario()
                if hasattr(instance, "setup"):
                    instance.setup(*combination)
                prepared.append((instance, combination))
            for _ in range(rounds):
                for name in methods(scenario):
                    for instance, combination in prepared:
                        figure = getattr(instance, name)(*combination)
                        self._samples.setdefault((name, *combination), []).append(figure)
        finally:
            for instance, combination in prepared:
                if hasattr(instance, "teardown"):
                    instance.teardown(*combination)
        # Processes that were waited for count as ours, so this comes after their end.
        foreign = foreign_cpu_seconds() - before
        # Ticks are coarse: short scenarios may seem to have had more than all of the machine.
        share = foreign / (time.monotonic() - start) / (os.cpu_count() or 1)
        self.disturbance[scenario] = max(0.0, share)

    def median(self, key: Key) -> float:
        return statistics.median(self._samples[key])

    def ratio(self, key: Key, other: Key) -> float:
        return statistics.median(
            mine / theirs for mine, theirs in zip(self._samples[key], self._samples[other], strict=True)
        )

    def __contains__(self, key: Key | None) -> bool:
        return key is None or key in self._samples


def foreign_cpu_seconds() -> float:
    """What all CPUs have done for other programs than this one and its children, ever."""
    user, nice, system, _, _, irq, softirq, steal = Path("/proc/stat").read_text().split()[1:9]
    ticks = sum(map(int, (user, nice, system, irq, softirq, steal)))
    return ticks / os.sysconf("SC_CLK_TCK") - sum(os.times()[:4])


def is_large(scenario: Any, combination: tuple[Any, ...]) -> bool:
    return LARGE.get(scenario) in zip(scenario.param_names, combination, strict=True)


def methods(scenario: type) -> list[str]:
    return [name for name in vars(scenario) if name.startswith("track_")]


UNITS = {name: getattr(scenario, name).unit for scenario in SCENARIOS for name in methods(scenario)}


def goals_table(figures: Figures) -> Iterator[str]:
    yield "| what | ours | beside | ratio | goal | reached |"
    yield "|---|---:|---:|---:|---:|---|"
    for goal in GOALS:
        if goal.ours not in figures or goal.rival not in figures:
            continue  # a machine of one CPU has no two workers
        unit = UNITS[goal.ours[0]]
        ours = figures.median(goal.ours)
        figure, rival, ratio, suffix = ours, "", "", f" {unit}"
        if goal.rival is not None:
            figure = figures.ratio(goal.ours, goal.rival)
            rival, ratio, suffix = shown(figures.median(goal.rival), unit), f"{figure:.2f}", ""
        bound = f"{'≥' if goal.at_least else '≤'} {goal.bound:g}{suffix}"
        reached = "yes" if goal.reached(figure) else "**no**"
        yield f"| {goal.title} | {shown(ours, unit)} | {rival} | {ratio} | {bound} | {reached} |"


def scenario_table(figures: Figures, scenario: Any) -> Iterator[str]:
    first, (kinds, *others) = scenario.param_names[0], scenario.params
    yield f"| | {' | '.join(KIND_TITLES.get(kind) or label(first, kind) for kind in kinds)} |"
    yield f"|---|{'---:|' * len(kinds)}"
    for name in methods(scenario):
        for other in itertools.product(*others):
            if (name, kinds[0], *other) not in figures:
                continue  # too large for this run
            title = getattr(scenario, name).pretty_name
            labels = [title, *(label(*pair) for pair in zip(scenario.param_names[1:], other, strict=True))]
            cells = [shown(figures.median((name, kind, *other)), UNITS[name]) for kind in kinds]
            yield f"| {', '.join(labels)} | {' | '.join(cells)} |"


def label(name: str, value: Any) -> str:
    if name == "bytes":
        for size, unit in ((1_000_000, "MB"), (1000, "kB")):
            if value >= size:
                return f"{value // size} {unit}"
        return "1 element"
    if isinstance(value, int):
        return f"1 {name.removesuffix('s')}" if value == 1 else f"{f'{value:,}' if value else 'no'} {name}"
    return f"`{value}`"


def shown(figure: float, unit: str) -> str:
    """Three significant digits; thousands are set apart."""
    if unit == "µs" and figure >= 1000:
        figure, unit = figure / 1000, "ms"
    digits = 0 if figure >= 100 else 1 if figure >= 10 else 2
    return f"{figure:,.{digits}f} {unit}"


def machine() -> str:
    model = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    cpus = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    libc = " ".join(platform.libc_ver())
    return (
        f"{model}, {cpus} usable CPUs, {memory:.0f} GiB; Linux {platform.release().split('-')[0]}, {libc}, "
        f"CPython {platform.python_version()}, torch {version('torch')}, multipy-actors {own_version()}"
    )


def own_version() -> str:
    import multipy_actors

    return multipy_actors.__version__


def report(figures: Figures, rounds: int) -> str:
    lines = [
        "# Benchmarks",
        "",
        "Written by `python benches/report.py --write docs/benchmarks.md`.",
        "",
        f"Machine: {machine()}.",
        "",
        f"Measured on {date.today().isoformat()} with `--rounds {rounds}`. The workers take turns; shown are",
        "the medians of the rounds, and ratios are the medians of the rounds' ratios.",
        "",
        "## Goals",
        "",
        *goals_table(figures),
    ]
    foreign = max(figures.disturbance.values())
    if foreign > QUIET:
        lines += ["", f"**The machine was not quiet**: other programs took up to {foreign:.0%} of the CPUs."]
    for scenario in SCENARIOS:
        lines += ["", f"## {HEADINGS[scenario]}", "", *explanation(scenario), ""]
        lines += [*scenario_table(figures, scenario), ""]
        lines += [f"Other programs took {figures.disturbance[scenario]:.0%} of the CPUs meanwhile."]
    return "\n".join(lines) + "\n"


def explanation(scenario: type) -> list[str]:
    return inspect.cleandoc(scenario.__doc__ or "").splitlines()


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure this machine and print the figures as Markdown.")
    parser.add_argument(
        "--rounds", type=int, default=5, help="how often each figure is measured (default: 5)"
    )
    parser.add_argument("--write", type=Path, metavar="FILE", help="also write the report to this file")
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"leave out {MOST} workers with torch, which take 5 GB and a minute",
    )
    options = parser.parse_args()
    figures = Figures()
    for scenario in SCENARIOS:
        start = time.monotonic()
        figures.measure(
            scenario, 1 if scenario in ONCE else options.rounds * ROUNDS.get(scenario, 1), options.quick
        )
        print(
            f"{HEADINGS[scenario]}: {time.monotonic() - start:.0f} s, "
            f"others took {figures.disturbance[scenario]:.0%} of the CPUs",
            file=sys.stderr,
            flush=True,
        )
    text = report(figures, options.rounds)
    if options.write:
        options.write.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
