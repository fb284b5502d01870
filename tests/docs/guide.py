"""Runs the examples of a guide as one script and compares what they print with what the guide says.

In a guide, each block marked `python` goes on where the one before ended, and a block marked `text` right
after it shows what it prints; without one it prints nothing. `...` in it stands for any text. All else is
left alone, blocks marked `sh` among it.
"""

from __future__ import annotations

import doctest
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

_BLOCK = re.compile(r"^```(python|text)\n(.*?)^```\n", re.DOTALL | re.MULTILINE)
_END = "\0end of block"
_SAME = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Block(NamedTuple):
    """A block of Python and what it prints; `line` is that of its first line, from 1."""

    line: int
    code: str
    printed: str


def blocks(text: str) -> list[Block]:
    """Return the examples of a guide, in their order."""
    found: list[Block] = []
    end = -1
    for match in _BLOCK.finditer(text):
        if match[1] == "python":
            found.append(Block(text.count("\n", 0, match.start(2)) + 1, match[2], ""))
        elif found and not found[-1].printed and not text[end : match.start()].strip():
            found[-1] = found[-1]._replace(printed=match[2])
        end = match.end()
    return found


def script(examples: list[Block]) -> str:
    """Return one script of the examples, each on the lines it has in the guide."""
    lines: list[str] = []
    for block in examples:
        lines += [""] * (block.line - 1 - len(lines))
        lines += block.code.splitlines()
        lines.append(f"print({_END!r}, flush=True)")
    return "\n".join(lines) + "\n"


def run(guide: Path, folder: Path, timeout: float = 120) -> list[str]:
    """Run the examples of `guide` in `folder`; return what is wrong with each of them, if anything."""
    examples = blocks(guide.read_text())
    path = folder / f"guide_{guide.stem}.py"  # `types.py` would hide the standard library's
    path.write_text(script(examples))
    # Both streams in one: what a guide shows is what a reader would see.
    finished = subprocess.run(
        [sys.executable, "-u", "-W", "error", path],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
    )
    printed = finished.stdout.split(_END + "\n")
    wrong = []
    for block, actual in zip(examples, printed[:-1], strict=False):
        if not doctest.OutputChecker().check_output(block.printed, actual, _SAME):
            wrong.append(f"{guide.name}:{block.line}: expected\n{block.printed}\nprinted\n{actual}")
    if finished.returncode or printed[-1]:
        wrong.append(
            f"{guide.name}: exit status {finished.returncode}, and printed at its end\n{printed[-1]}"
        )
    return wrong
