"""The samples of every benchmark: how they are measured, kept in a file, and compared.

Model: a scenario of the asv benchmarks is set up for all its parameters at once and then measured in rounds,
each of which takes every worker in turn, so that a disturbance of the machine falls on all of them alike.
A figure is the median over the rounds; a ratio is the median of the rounds' ratios.

Rejected: reading asv's results. It measures one parameter after the other, minutes apart, and a ratio of two
such figures says more about the machine's other users than about the library.
"""

from __future__ import annotations

import itertools
import json
import os
import platform
import statistics
import time
from dataclasses import asdict, dataclass, field
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

# How a figure is found again: the method's name, then its parameters.
Key = tuple[Any, ...]


@dataclass(frozen=True)
class Run:
    """The circumstances in which a scenario was measured; `foreign` is what others took of the CPUs."""

    machine: str
    day: str
    rounds: int
    seconds: float
    foreign: float


@dataclass
class Figures:
    """Samples, one a round, of all that was measured, and the run of each scenario by its name."""

    samples: dict[Key, list[float]] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)

    def measure(self, scenario: Any, rounds: int, left_out: Key = ()) -> None:
        """Replace the samples of each `track_` method by `rounds` new ones for every worker.

        `left_out` is a parameter's name and value, whose combinations are too large for this run.
        """
        combinations = [
            combination
            for combination in itertools.product(*scenario.params)
            if left_out not in zip(scenario.param_names, combination, strict=True)
        ]
        for name in methods(scenario):
            for key in [key for key in self.samples if key[0] == name]:
                del self.samples[key]
        before = foreign_cpu_seconds()
        start = time.monotonic()
        prepared: list[tuple[Any, Key]] = []
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
                        if figure is not None:  # else it has no meaning for this worker
                            self.samples.setdefault((name, *combination), []).append(figure)
        finally:
            for instance, combination in prepared:
                if hasattr(instance, "teardown"):
                    instance.teardown(*combination)
        seconds = time.monotonic() - start
        # Processes that were waited for count as ours, so this comes after their end. Ticks are coarse: short
        # scenarios may seem to have had more than all of the machine.
        foreign = max(0.0, foreign_cpu_seconds() - before) / seconds / (os.cpu_count() or 1)
        self.runs[scenario.__name__] = Run(machine(), date.today().isoformat(), rounds, seconds, foreign)

    def add(self, others: Figures) -> None:
        """Take over what was measured elsewhere."""
        self.samples |= others.samples
        self.runs |= others.runs

    def median(self, key: Key) -> float:
        return statistics.median(self.samples[key])

    def ratio(self, key: Key, other: Key) -> float:
        """Of rounds with rounds; of medians where one was measured more often than the other."""
        mine, theirs = self.samples[key], self.samples[other]
        if len(mine) != len(theirs):
            return self.median(key) / self.median(other)
        return statistics.median(a / b for a, b in zip(mine, theirs, strict=True))

    def __contains__(self, key: Key | None) -> bool:
        return key is None or key in self.samples

    def write(self, file: Path) -> None:
        """As JSON, a line for each figure, so that plots and tables can be made again."""
        runs = ",\n".join(f"{json.dumps(name)}: {json.dumps(asdict(run))}" for name, run in self.runs.items())
        samples = ",\n".join(
            json.dumps([list(key), [float(f"{value:.5g}") for value in values]])
            for key, values in self.samples.items()
        )
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f'{{"runs": {{\n{runs}\n}}, "samples": [\n{samples}\n]}}\n')

    @staticmethod
    def read(file: Path) -> Figures:
        kept = json.loads(file.read_text())
        return Figures(
            {tuple(key): values for key, values in kept["samples"]},
            {name: Run(**run) for name, run in kept["runs"].items()},
        )


def methods(scenario: Any) -> list[str]:
    return [name for name in vars(scenario) if name.startswith("track_")]


def foreign_cpu_seconds() -> float:
    """What all CPUs have done for other programs than this one and its children, ever."""
    user, nice, system, _, _, irq, softirq, steal = Path("/proc/stat").read_text().split()[1:9]
    ticks = sum(map(int, (user, nice, system, irq, softirq, steal)))
    return ticks / os.sysconf("SC_CLK_TCK") - sum(os.times()[:4])


def machine() -> str:
    """What figures depend on, in a line."""
    import multipy_actors

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
        f"CPython {platform.python_version()}, torch {version('torch')}, "
        f"multipy-actors {multipy_actors.__version__}"
    )
