"""The C++ that guides show is what the examples have, which tests build and run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = [
    [line.strip() for line in path.read_text().splitlines()]
    for path in (ROOT / "examples" / "cpp").glob("*.cpp")
]
BLOCKS = [
    pytest.param(block, id=f"{guide.stem} {index}")
    for guide in sorted((ROOT / "docs" / "guides").glob("*.md"))
    for index, block in enumerate(
        re.findall(r"^```cpp\n(.*?)^```\n", guide.read_text(), re.DOTALL | re.MULTILINE)
    )
]


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_of_cpp_is_part_of_an_example(block):
    lines = [line.strip() for line in block.splitlines()]
    places = [(example, start) for example in EXAMPLES for start in range(len(example))]
    assert any(example[start : start + len(lines)] == lines for example, start in places), block
