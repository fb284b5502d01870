"""Runs all benchmarks in rounds and prints them as Markdown, goals first.

    python benches/report.py [--rounds 3] [--quick | --long] [--only NAME ...] [--write docs/benchmarks.md]

With `--write` the samples are kept beside the report, in `benchmarks/figures.json`; with `--only` those of
the other scenarios stay as they were, and with `--again` nothing is measured. `benches/figures.py` says how
figures come about, `benches/goals.py` what they have to be, `benches/tables.py` how they are shown.

The extra `bench` brings what is needed, `demo` the real model and `bench-ray` Ray; without these two their
scenarios are left out, and standard error says so.

Every process that multiprocessing spawns imports this script again, which would be in the figures of its
start: so what it does is in `benches/command.py`.
"""

import os
import sys

sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

if __name__ == "__main__":
    from benches.command import main

    main()
