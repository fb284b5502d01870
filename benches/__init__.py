"""Benchmarks in asv's form; `make bench` runs them, `python benches/report.py` writes docs/benchmarks.md.

Each scenario is a class whose first parameter, `worker`, says who does the work: this library or a rival. All
are measured in the same run, because figures of one machine say little about another.

The root of the repository goes to the end of `sys.path`, which private interpreters and spawned processes
inherit: they import `benches.workloads` by name. At the end, because the source folder of the package there
lacks its extension and must not hide the installed one.
"""

import sys
from pathlib import Path

_ROOT = str(Path(__file__).resolve().parent.parent)
if _ROOT not in sys.path:
    sys.path.append(_ROOT)
