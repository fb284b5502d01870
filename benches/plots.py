"""Draws docs/benchmarks/*.svg from the figures that a run of `benches/report.py` has kept beside them.

    python benches/plots.py [docs/benchmarks/figures.json]

The same figures give the same files, byte by byte, with the same matplotlib. A plot whose scenario was not
measured is not drawn.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.append(str(Path(__file__).resolve().parent.parent))

import matplotlib

matplotlib.use("svg")

import matplotlib.pyplot as pyplot
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from benches import bench_calls, bench_growth, bench_tensors, bench_throughput
from benches.figures import Figures
from benches.tables import KIND_TITLES, PLOTS, label

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Always the same worker in the same colour and with the same marker, told apart without colours, too.
STYLES = {
    "interpreter": ("#1f6feb", "o"),
    "pool": ("#79b0ff", "s"),
    "thread": ("#d9730d", "^"),
    "process": ("#6e7781", "D"),
    "torch_process": ("#a475f9", "v"),
    "ray": ("#cf222e", "X"),
    "queue": ("#b08800", "P"),
    "futex": ("#116329", "*"),
}
FIGURE_OF_FILE = Path("docs/benchmarks/figures.json")


def draw_calls(figures: Figures) -> Figure:
    """Round trips of one call, median and 99th percentile, on a logarithmic scale."""
    rows = [(KIND_TITLES[kind], kind, ("track_echo_p50", kind), ("track_echo_p99", kind)) for kind in CALLED]
    rows.append(("Ray", "ray", ("track_ray_p50", "ray"), ("track_ray_p50", "ray")))
    rows = [row for row in rows if row[2] in figures]
    figure, axes = pyplot.subplots(figsize=(7, 0.45 * len(rows) + 1.2))
    for place, (_, kind, p50, p99) in enumerate(rows):
        median, last = figures.median(p50), figures.median(p99)
        color = STYLES[kind][0]
        axes.barh(place, median, color=color, height=0.6)
        if last > median:
            axes.plot([median, last], [place, place], color=color, linewidth=1.5)
            axes.plot(last, place, "|", color=color, markersize=9)
        axes.annotate(
            number(median), (max(median, last), place), (5, 0), textcoords="offset points", va="center"
        )
    axes.set_yticks(range(len(rows)), [row[0].replace("`", "") for row in rows])
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.margins(x=0.15)
    axes.set_xlabel("µs for echo(1) and back; bar: p50, line: up to p99")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    finish(axes, legend=False)
    return figure


def draw_tensors(figures: Figures) -> Figure:
    """Over the size of the tensor; both axes logarithmic."""
    figure, both = pyplot.subplots(1, 2, figsize=(10.5, 3.6), sharey=True)
    kinds, sizes = bench_tensors.Tensors.params
    for axes, name in zip(both, ("argument", "result"), strict=True):
        draw_lines(axes, figures, f"track_{name}", kinds, sizes)
        logarithmic(axes, sizes, lambda value: label("bytes", value))
        axes.set_title(f"tensor as {name}")
    both[0].set_ylabel("µs, p50")
    return figure


def draw_throughput(figures: Figures) -> Figure:
    """Passes a second by number of workers."""
    figure, axes = pyplot.subplots(figsize=(6, 3.6))
    kinds, counts = bench_throughput.SmallModel.params
    draw_lines(axes, figures, "track_forwards", kinds, counts)
    axes.set_xscale("log", base=2)
    ticks(axes, counts, str)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("workers")
    axes.set_ylabel("passes of the small MLP a second")
    return figure


def draw_submitters(figures: Figures) -> Figure:
    """Calls a second by number of submitting threads."""
    figure, axes = pyplot.subplots(figsize=(6, 3.6))
    kinds, threads = bench_calls.Submitters.params
    draw_lines(axes, figures, "track_submitted", kinds, threads)
    logarithmic(axes, threads, str)
    axes.set_xlabel("threads that submit")
    axes.set_ylabel("calls to one worker a second")
    return figure


def draw_growth(figures: Figures) -> Figure:
    """Four figures over the number of workers."""
    figure, grid = pyplot.subplots(2, 2, figsize=(9, 6.4), sharex=True)
    kinds, counts = bench_growth.Growth.params
    for axes, name in zip(grid.flat, ("start", "p50", "pipelined", "memory"), strict=True):
        method = getattr(bench_growth.Growth, f"track_grown_{name}")
        draw_lines(axes, figures, method.__name__, kinds, counts)
        logarithmic(axes, counts, str)
        axes.set_title(f"{method.pretty_name.replace('`', '')}, {method.unit}")
    for axes in grid[-1]:
        axes.set_xlabel("workers")
    return figure


def draw_many_calls(figures: Figures) -> Figure:
    """Memory over calls, from zero: what grows is seen, and noise is not made large."""
    figure, axes = pyplot.subplots(figsize=(6, 3.2))
    kinds, millions = bench_growth.ManyCalls.params
    draw_lines(axes, figures, "track_memory_after", kinds, millions)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("million calls")
    axes.set_ylabel("private memory, MB")
    return figure


DRAWN: dict[str, Callable[[Figures], Figure]] = {
    "calls": draw_calls,
    "submitters": draw_submitters,
    "tensors": draw_tensors,
    "throughput": draw_throughput,
    "growth": draw_growth,
    "many_calls": draw_many_calls,
}
CALLED = bench_calls.Calls.params[0]


# Parts of plots --------------------------------------------------------------------------------------------


def draw_lines(axes: Axes, figures: Figures, name: str, kinds: Sequence[str], places: Sequence[Any]) -> None:
    """A line for each kind of worker, over the last parameter."""
    for kind in kinds:
        known = [place for place in places if (name, kind, place) in figures]
        if not known:
            continue
        color, marker = STYLES[kind]
        values = [figures.median((name, kind, place)) for place in known]
        title = KIND_TITLES[kind].replace("`", "")
        axes.plot(known, values, color=color, marker=marker, markersize=5, label=title)
    finish(axes)


def logarithmic(axes: Axes, places: Sequence[Any], shown: Callable[[Any], str]) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    ticks(axes, places, shown)
    least, most = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if most < 300 * least else (1,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axes.yaxis.set_minor_formatter(NullFormatter())


def ticks(axes: Axes, places: Sequence[Any], shown: Callable[[Any], str]) -> None:
    axes.set_xticks(places, [shown(place) for place in places], fontsize=8)
    axes.xaxis.set_minor_locator(NullLocator())


def finish(axes: Axes, legend: bool = True) -> None:
    axes.grid(True, axis="both" if legend else "x", color="#d0d7de", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if legend:
        axes.legend(frameon=False, fontsize=8)


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.3g}"


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the plots of docs/benchmarks.md.")
    parser.add_argument("figures", type=Path, nargs="?", default=FIGURE_OF_FILE)
    file = parser.parse_args().figures
    # Names of elements are hashes; without a salt of our own they would differ each time.
    pyplot.rcParams.update({"svg.hashsalt": "multipy-actors", "font.size": 9, "axes.titlesize": 9})
    figures = Figures.read(file)
    for scenario, name in PLOTS.items():
        if scenario.__name__ not in figures.runs:
            continue
        figure = DRAWN[name](figures)
        figure.tight_layout()
        figure.savefig(file.parent / f"{name}.svg", metadata={"Date": None}, bbox_inches="tight")
        pyplot.close(figure)
        print(file.parent / f"{name}.svg")


if __name__ == "__main__":
    main()
