"""What is to be reached, as comparisons of figures that were measured in the same run."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

# Modules and not their classes: asv would take those for benchmarks of this module.
from benches import bench_growth, bench_images, bench_startup, bench_tensors, bench_throughput

if TYPE_CHECKING:
    from collections.abc import Iterable

    from benches.figures import Figures, Key


class Side(NamedTuple):
    """A figure beside a rival's, by their keys. Bounded is the ratio or, without a rival, the figure."""

    ours: Key
    rival: Key | None = None


class Goal(NamedTuple):
    """A bound that each of `sides` has to keep; the worst of them is shown.

    `hindrance` says what was found to be in the way, for machines on which it is not kept.
    """

    title: str
    bound: float
    sides: tuple[Side, ...]
    at_least: bool = False
    hindrance: str = ""

    def worst(self, figures: Figures) -> tuple[Side, float] | None:
        """The side that is furthest from the bound, and its figure or ratio; None if nothing was measured."""
        measured = [side for side in self.sides if side.ours in figures and side.rival in figures]
        bounded = [
            (side, figures.median(side.ours) if side.rival is None else figures.ratio(side.ours, side.rival))
            for side in measured
        ]
        choose = min if self.at_least else max
        return choose(bounded, key=lambda pair: pair[1], default=None)

    def reached(self, figure: float) -> bool:
        """Compares as many decimals as are shown, which is more than one run can tell."""
        shown = round(figure, self.decimals)
        return shown >= self.bound if self.at_least else shown <= self.bound

    @property
    def decimals(self) -> int:
        return 3 if 0 < self.bound < 0.2 else 2


def below(title: str, bound: float, ours: Key, rival: Key | None = None, hindrance: str = "") -> Goal:
    return Goal(title, bound, (Side(ours, rival),), hindrance=hindrance)


def above(title: str, bound: float, ours: Key, rival: Key | None = None, hindrance: str = "") -> Goal:
    return Goal(title, bound, (Side(ours, rival),), at_least=True, hindrance=hindrance)


def for_each(parameters: Iterable[object], ours: Key, rival: Key | None = None) -> tuple[Side, ...]:
    """The same figures for each of these last parameters."""
    return tuple(Side((*ours, value), rival and (*rival, value)) for value in parameters)


ECHO = ("track_echo_p50", "interpreter")
RAY_ECHO = ("track_ray_p50", "interpreter")
SMALLEST = bench_tensors.BYTES[0]
SEVERAL = [count for count in bench_throughput.COUNTS if count > 1]
AT_ONCE = bench_startup.AT_ONCE
MOST = max(bench_images.WORKERS)
IMAGES = max(bench_images.ManyImages.params[0])
MILLIONS = bench_growth.MILLIONS


def tensor_goals(name: str, method: str) -> Iterable[Goal]:
    sizes = for_each(bench_tensors.BYTES[1:], (method, "interpreter"))
    smallest = (method, "interpreter", SMALLEST)
    yield Goal(
        f"tensor {name}, the dearest of 1 kB to 1 GB, beside 1 element",
        1.2,
        tuple(Side(side.ours, smallest) for side in sizes),
    )
    yield Goal(
        f"tensor {name} over a plain call, the dearest of all sizes",
        10.0,
        for_each(bench_tensors.BYTES, (f"{method}_extra", "interpreter")),
        hindrance="The dearest comes after 1 GB was written, which empties the caches of what a call needs.",
    )


GOALS = (
    below(
        "`echo(1)` of an actor, p50, beside ThreadPoolExecutor(1)", 1.0, ECHO, ("track_echo_p50", "thread")
    ),
    below("the same beside a ProcessPoolExecutor", 0.125, ECHO, ("track_echo_p50", "process")),
    below("the same beside Ray", 0.025, RAY_ECHO, ("track_ray_p50", "ray")),
    below("the same beside a hand-over and back by futex, in C++", 4.0, ECHO, ("track_echo_p50", "futex")),
    below("p99 of `echo(1)` beside its p50", 3.0, ("track_echo_p99", "interpreter"), ECHO),
    above("pipelined calls to one actor", 100_000, ("track_pipelined", "interpreter")),
    above(
        "pipelined calls to one actor beside Ray",
        30.0,
        ("track_ray_pipelined", "interpreter"),
        ("track_ray_pipelined", "ray"),
    ),
    below(
        "actor to actor in another interpreter beside host to actor, p50",
        1.0,
        ("track_call_p50", "actor"),
        ("track_call_p50", "host"),
    ),
    *tensor_goals("argument", "track_argument"),
    *tensor_goals("result", "track_result"),
    above(
        "small MLP, 2 interpreters beside 1",
        1.9,
        ("track_forwards", "interpreter", 2),
        ("track_forwards", "interpreter", 1),
    ),
    Goal(
        "small MLP, N interpreters beside N processes, the worst of N = 2, 4, 16",
        0.98,
        for_each(SEVERAL, ("track_forwards", "interpreter"), ("track_forwards", "process")),
        at_least=True,
    ),
    Goal(
        "small MLP, N interpreters beside N threads, the worst of N = 2, 4, 16",
        3.0,
        for_each(SEVERAL, ("track_forwards", "interpreter"), ("track_forwards", "thread")),
        at_least=True,
        hindrance="As many processes do no more: two workers on two CPUs do at most twice what one does, and "
        "two threads lose a fifth of that one to their GIL. From four workers on, threads lose more.",
    ),
    above(
        "a worker for every core, small MLP, interpreters beside processes of the same libpython",
        0.95,
        ("track_cores", "interpreter", "model"),
        ("track_cores", "libpython", "model"),
    ),
    above(
        "the same beside processes of the Python executable",
        0.95,
        ("track_cores", "interpreter", "model"),
        ("track_cores", "executable", "model"),
    ),
    above(
        "the same beside threads, on 16 cores",
        40.0,
        ("track_cores", "interpreter", "model"),
        ("track_cores", "thread", "model"),
    ),
    below(
        "bare interpreter, first of a new process, start to first result",
        25.0,
        ("track_first_result_of", "first"),
    ),
    below(
        "bare interpreter beside a spawned process, start to first result",
        0.25,
        ("track_first_result", "interpreter"),
        ("track_first_result", "process"),
        hindrance="More than half of an interpreter's start is Python's own, the same in any program that "
        "initialises it with `site`. Started over and over, with warm caches, one takes 9 to 10 ms.",
    ),
    below(
        "bare interpreter, the second beside the first",
        1.0,
        ("track_first_result_of", "second"),
        ("track_first_result_of", "first"),
    ),
    below(
        "`import torch` in an interpreter beside `python -c`",
        1.0,
        ("track_import_torch", "interpreter"),
        ("track_import_torch", "python"),
    ),
    above(
        f"`import torch` in {AT_ONCE} interpreters at once beside one, by CPU",
        0.9,
        ("track_imports", "interpreter", AT_ONCE),
        ("track_imports", "interpreter", 1),
        hindrance="Two busy CPUs of one machine slow each other down: processes, which share nothing, "
        "lose more.",
    ),
    above(
        f"`import torch` in {AT_ONCE} interpreters at once beside {AT_ONCE} processes",
        1.0,
        ("track_imports", "interpreter", AT_ONCE),
        ("track_imports", "python", AT_ONCE),
    ),
    below(
        "private memory of one more interpreter with torch beside a process",
        0.9,
        ("track_per_worker", "interpreter", "torch"),
        ("track_per_worker", "python", "torch"),
        hindrance="What is private is alive: of 151 MB, 88 are objects of torch (22 of them its table of "
        "operators), 52 are Python's, 5.6 pages of libraries that hold addresses, and 4 stacks and the like. "
        "A process has the same.",
    ),
    below(
        f"private memory of {MOST} interpreters with torch beside {MOST} processes",
        1.0,
        ("track_private", "interpreter", MOST),
        ("track_private", "process", MOST),
    ),
    below(f"text copied for {MOST} of them", 0.0, ("track_copied_text", "interpreter", MOST)),
    below(f"written to disk by {MOST} of them", 0.0, ("track_written", "interpreter", MOST)),
    below("a 500 MB model shared by 8 replicas, memory gained", 1.1, ("track_shared_model", 8)),
    above(
        "all-MiniLM-L6-v2, an interpreter per CPU beside as many processes",
        1.0,
        ("track_embedded", "interpreter"),
        ("track_embedded", "process"),
    ),
    above(
        "all-MiniLM-L6-v2, an interpreter per CPU beside torch's own threads",
        1.0,
        ("track_embedded", "interpreter"),
        ("track_embedded", "intra-op"),
    ),
    below("idle interpreters, CPU time in three seconds", 0.0, ("track_idle_cpu", "interpreter")),
    below("idle interpreters, wake-ups in three seconds", 0.0, ("track_idle_wake_ups", "interpreter")),
    below(
        f"private memory after {MILLIONS[-1]} million calls beside after {MILLIONS[0]} million",
        1.01,
        ("track_memory_after", "interpreter", MILLIONS[-1]),
        ("track_memory_after", "interpreter", MILLIONS[0]),
    ),
    below(
        f"`dlopen` and `dlclose` by the host, {IMAGES:,} images beside none",
        1.25,
        ("track_open_and_close", IMAGES),
        ("track_open_and_close", 0),
    ),
    below(
        f"C++ exception in the host, {IMAGES:,} images beside none",
        1.25,
        ("track_throw_and_catch", IMAGES),
        ("track_throw_and_catch", 0),
    ),
)
