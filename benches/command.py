"""What `benches/report.py` does: chooses scenarios, has them measured, keeps figures, writes the report."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

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
from benches.figures import Figures
from benches.tables import HEADINGS, report

# How often each is measured for one round asked for. Memory is not a matter of luck: once is enough.
ROUNDS = {
    bench_calls.Calls: 3,
    bench_calls.ActorToActor: 3,
    bench_tensors.Tensors: 4,
    bench_throughput.SmallModel: 2,
    bench_startup.StartUp: 3,
    bench_images.NextInterpreter: 3,
}
ONCE = (
    bench_memory.PrivateMemory,
    bench_memory.SharedModel,
    bench_images.Density,
    bench_growth.Idle,
    bench_growth.ManyCalls,
)
# What takes minutes or gigabytes is left out by `--quick`: scenarios, and parameters of others.
SLOW = (bench_calls.BesideRay, bench_growth.Growth, bench_memory.SharedModel, bench_throughput.RealModel)
LARGE = {
    bench_images.Density: ("workers", max(bench_images.WORKERS)),
    bench_tensors.Tensors: ("bytes", max(bench_tensors.BYTES)),
    bench_throughput.SmallModel: ("workers", max(bench_throughput.COUNTS)),
}
LONG = (bench_growth.ManyCalls,)
# For machines of many cores: it runs only when named.
APART = (bench_cores.Cores,)


def main() -> None:
    names = {scenario.__name__: scenario for scenario in HEADINGS}
    parser = argparse.ArgumentParser(description="Measure this machine and print the figures as Markdown.")
    parser.add_argument(
        "--rounds", type=int, default=3, help="how often each figure is measured (default: 3)"
    )
    parser.add_argument("--write", type=Path, metavar="FILE", help="also write the report to this file")
    parser.add_argument(
        "--quick", action="store_true", help="leave out Ray and what takes minutes or gigabytes"
    )
    parser.add_argument("--long", action="store_true", help="also make ten million calls, for minutes")
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help=f"of {', '.join(names)}")
    parser.add_argument(
        "--again", action="store_true", help="measure nothing: write the report from its figures"
    )
    parser.add_argument(
        "--add", type=Path, metavar="FILE", help="also take the figures of this file, of another machine, say"
    )
    options = parser.parse_args()
    kept = options.write and options.write.parent / options.write.stem / "figures.json"
    if options.again and not kept:
        parser.error("--again needs --write, beside which the figures lie")
    if options.add and not kept:
        parser.error("--add needs --write, beside which the figures lie")
    figures = Figures()
    if kept and kept.exists() and (options.only or options.again):
        figures = Figures.read(kept)
    if options.add:
        figures.add(Figures.read(options.add))
        figures.write(kept)
    for scenario in [] if options.again else chosen(names, options):
        rounds = 1 if scenario in ONCE else options.rounds * ROUNDS.get(scenario, 1)
        figures.measure(scenario, rounds, LARGE.get(scenario, ()) if options.quick else ())
        run = figures.runs[scenario.__name__]
        tell(f"{HEADINGS[scenario]}: {run.seconds:.0f} s, others took {run.foreign:.0%} of the CPUs")
        if kept:
            figures.write(kept)  # what is measured stays, should a later scenario fail
    if kept:
        figures = Figures.read(kept)  # as they are kept, which is rounded
    text = report(figures)
    if options.write:
        options.write.write_text(text)
    print(text)


def chosen(names: dict[str, type], options: argparse.Namespace) -> list[type]:
    """The scenarios to measure; says which cannot be, on this machine."""
    if options.only:
        scenarios = [names[name] for name in options.only]
    else:
        without = (*APART, *(LONG if not options.long else ()), *(SLOW if options.quick else ()))
        scenarios = [scenario for scenario in names.values() if scenario not in without]
    for scenario in list(scenarios):
        if missing := getattr(scenario, "missing", str)():
            tell(f"{HEADINGS[scenario]}: left out, {missing}")
            scenarios.remove(scenario)
    return scenarios


def tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
