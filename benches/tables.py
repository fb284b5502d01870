"""Writes figures as Markdown: the goals first, then a table for each scenario."""

from __future__ import annotations

import inspect
import itertools
from typing import TYPE_CHECKING, Any

from benches import (
    bench_calls,
    bench_cores,
    bench_growth,
    bench_images,
    bench_memory,
    bench_startup,
    bench_tensors,
    bench_throughput,
)
from benches.figures import methods
from benches.goals import GOALS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from benches.figures import Figures, Run

HEADINGS: dict[type, str] = {
    bench_calls.Calls: "Calls",
    bench_calls.BesideRay: "Beside Ray",
    bench_calls.ActorToActor: "Actor to actor",
    bench_calls.Submitters: "Many threads that submit",
    bench_tensors.Tensors: "Tensors",
    bench_throughput.SmallModel: "Throughput",
    bench_throughput.RealModel: "A real model",
    bench_cores.Cores: "A worker for every core",
    bench_startup.StartUp: "Start-up",
    bench_images.NextInterpreter: "The next interpreter",
    bench_startup.ManyImports: "Many imports at once",
    bench_memory.PrivateMemory: "Memory",
    bench_memory.SharedModel: "A shared model",
    bench_images.Density: "Many workers with torch",
    bench_growth.Growth: "From 1 to 64 workers",
    bench_growth.Idle: "Idle",
    bench_growth.ManyCalls: "Ten million calls",
    bench_images.ManyImages: "A host with many images",
}
KIND_TITLES = {
    "interpreter": "interpreter",
    "pool": "interpreter, by `pool.submit`",
    "thread": "thread",
    "process": "process",
    "torch_process": "torch.multiprocessing",
    "queue": "thread and two queues",
    "futex": "futex, C++",
    "ray": "Ray",
    "python": "`python -c`",
    "libpython": "process, libpython",
    "executable": "process, executable",
    "intra-op": "torch's own threads",
    "host": "by the host",
    "actor": "by an actor",
    **{number: f"the {number} one" for number in bench_images.NUMBERS},
}
# Plots of `benches/plots.py`, by the scenario under whose table they stand.
PLOTS = {
    bench_calls.Calls: "calls",
    bench_calls.Submitters: "submitters",
    bench_tensors.Tensors: "tensors",
    bench_throughput.SmallModel: "throughput",
    bench_growth.Growth: "growth",
    bench_growth.ManyCalls: "many_calls",
}
# Share of the CPUs that other programs may take without the report warning of its own figures. Ray's servers
# are such programs, and are all that is measured beside it.
QUIET = 0.05
UNITS = {name: getattr(scenario, name).unit for scenario in HEADINGS for name in methods(scenario)}


def report(figures: Figures) -> str:
    measured = [scenario for scenario in HEADINGS if scenario.__name__ in figures.runs]
    runs = [figures.runs[scenario.__name__] for scenario in measured]
    machine = runs[0].machine
    days = sorted({run.day for run in runs})
    lines = [
        "# Benchmarks",
        "",
        "Written by `python benches/report.py --write docs/benchmarks.md`, which keeps every sample in",
        "[figures.json](benchmarks/figures.json); `python benches/plots.py` draws them.",
        "",
        f"Machine: {machine}.",
        "",
        f"Measured on {' to '.join(dict.fromkeys((days[0], days[-1])))}.",
        "The workers take turns, round by round; shown are the medians of the rounds, and ratios are the",
        "medians of the rounds' ratios.",
        "",
        "## Goals",
        "",
        *goals_table(figures),
        *hindrances(figures),
    ]
    noisy = max((run.foreign for name, run in figures.runs.items() if name != "BesideRay"), default=0.0)
    if noisy > QUIET:
        lines += ["", f"**The machine was not quiet**: other programs took up to {noisy:.0%} of the CPUs."]
    for scenario in measured:
        lines += ["", f"## {HEADINGS[scenario]}", "", *explanation(scenario), ""]
        lines += [*scenario_table(figures, scenario), ""]
        if scenario in PLOTS:
            lines += [f"![{HEADINGS[scenario]}](benchmarks/{PLOTS[scenario]}.svg)", ""]
        lines += [circumstances(figures.runs[scenario.__name__], machine)]
    return "\n".join(lines) + "\n"


def circumstances(run: Run, usual: str) -> str:
    rounds = "One round" if run.rounds == 1 else f"{run.rounds} rounds"
    where = f" on {run.machine}" if run.machine != usual else ""
    return f"{rounds}{where}; other programs took {run.foreign:.0%} of the CPUs meanwhile."


def explanation(scenario: type) -> list[str]:
    return inspect.cleandoc(scenario.__doc__ or "").splitlines()


def goals_table(figures: Figures) -> Iterator[str]:
    yield "| what | ours | beside | ratio | goal | reached |"
    yield "|---|---:|---:|---:|---:|---|"
    for goal in GOALS:
        worst = goal.worst(figures)
        if worst is None:
            continue  # not measured on this machine
        side, figure = worst
        unit = UNITS[side.ours[0]]
        rival, ratio, suffix = "", "", f" {unit}"
        if side.rival is not None:
            rival, ratio, suffix = shown(figures.median(side.rival), unit), f"{figure:.{goal.decimals}f}", ""
        bound = f"{'≥' if goal.at_least else '≤'} {f'{goal.bound:,.3f}'.rstrip('0').rstrip('.')}{suffix}"
        reached = "yes" if goal.reached(figure) else "**no**"
        ours = shown(figures.median(side.ours), unit)
        yield f"| {goal.title} | {ours} | {rival} | {ratio} | {bound} | {reached} |"


def hindrances(figures: Figures) -> Iterator[str]:
    """What is in the way of the goals that are not reached, if it is known."""
    for goal in GOALS:
        worst = goal.worst(figures)
        if worst is not None and goal.hindrance and not goal.reached(worst[1]):
            yield from ("", f"**{goal.title[0].upper()}{goal.title[1:]}.** {goal.hindrance}")


def scenario_table(figures: Figures, scenario: Any) -> Iterator[str]:
    first, (kinds, *others) = scenario.param_names[0], scenario.params
    kinds = [kind for kind in kinds if any(key in figures for key in keys_of(scenario, kind, others))]
    yield f"| | {' | '.join(KIND_TITLES.get(kind) or label(first, kind) for kind in kinds)} |"
    yield f"|---|{'---:|' * len(kinds)}"
    for name in methods(scenario):
        for other in itertools.product(*others):
            keys = [(name, kind, *other) for kind in kinds]
            if not any(key in figures for key in keys):
                continue  # too large for this run
            title = getattr(scenario, name).pretty_name
            labels = [title, *(label(*pair) for pair in zip(scenario.param_names[1:], other, strict=True))]
            cells = [shown(figures.median(key), UNITS[name]) if key in figures else "" for key in keys]
            yield f"| {', '.join(labels)} | {' | '.join(cells)} |"


def keys_of(scenario: Any, kind: Any, others: Iterable[Iterable[Any]]) -> Iterator[tuple[Any, ...]]:
    for name, other in itertools.product(methods(scenario), itertools.product(*others)):
        yield (name, kind, *other)


def label(name: str, value: Any) -> str:
    if name == "bytes":
        for size, unit in ((1_000_000_000, "GB"), (1_000_000, "MB"), (1000, "kB")):
            if value >= size:
                return f"{value // size} {unit}"
        return "1 element"
    if isinstance(value, int):
        return f"1 {name.removesuffix('s')}" if value == 1 else f"{f'{value:,}' if value else 'no'} {name}"
    return f"`{value}`"


def shown(figure: float, unit: str) -> str:
    """Three significant digits; thousands are set apart."""
    for smaller, larger in (("µs", "ms"), ("ms", "s")):
        if unit == smaller and abs(figure) >= 1000:
            figure, unit = figure / 1000, larger
    digits = 0 if abs(figure) >= 100 else 1 if abs(figure) >= 10 else 2
    return f"{figure:,.{digits}f} {unit}"
