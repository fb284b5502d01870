"""The command line: `python -m multipy_actors doctor | bench | cmake-dir`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from multipy_actors import embedding
from multipy_actors.cli import bench, doctor


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the subcommand that `arguments` name; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m multipy_actors", description="MultiPy Actors")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    doctor.add_arguments(
        commands.add_parser(
            "doctor",
            help="say what this installation has and which packages work in private interpreters",
            description=doctor.DESCRIPTION,
        )
    )
    embedding.add_arguments(
        commands.add_parser("cmake-dir", help="print where CMake's find_package(multipy_actors) is to look")
    )
    bench.add_arguments(
        commands.add_parser(
            "bench",
            help="measure private interpreters beside threads and processes on this machine",
            description=bench.DESCRIPTION,
        )
    )
    options = parser.parse_args(arguments)
    return int(options.run(options))


if __name__ == "__main__":
    sys.exit(main())
