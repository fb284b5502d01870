"""The examples in README.md and the guides run and print what is written below them."""

import re
from pathlib import Path

import guide
import pytest

ROOT = Path(__file__).resolve().parents[2]
GUIDES = sorted((ROOT / "docs" / "guides").glob("*.md"))
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]+)?(?:#([^)\s]+))?\)")


def links(text: str) -> list[tuple[str, str]]:
    """The (file, heading) of each link of a document into the repository; either may be empty."""
    return LINK.findall(re.sub(r"^```.*?^```$|`[^`\n]*`", "", text, flags=re.DOTALL | re.MULTILINE))


def anchors(text: str) -> set[str]:
    """What the headings of a document can be linked to as."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_reader_of_guides_finds_examples_and_what_they_print():
    shown = "```text\n1\n```\n```text\nno\n```\n```sh\nls\n```"
    text = f"# T\n```python\na = 1\n```\nand\n\n```python\nprint(a)\n```\n\n{shown}"
    assert guide.blocks(text) == [guide.Block(3, "a = 1\n", ""), guide.Block(8, "print(a)\n", "1\n")]


def test_an_example_that_prints_something_else_is_found(tmp_path):
    path = tmp_path / "some-guide.md"
    path.write_text("```python\nprint(1)\n```\n```text\n2\n```\n```python\nraise LookupError('gone')\n```\n")
    first, last = guide.run(path, tmp_path)
    assert first.startswith("some-guide.md:2: expected\n2\n\nprinted\n1\n")
    assert "exit status 1" in last and "line 8" in last and "LookupError: gone" in last


def test_there_are_guides():
    assert len(GUIDES) > 8


@pytest.mark.parametrize("path", [ROOT / "README.md", *GUIDES], ids=lambda path: path.stem)
def test_the_examples_run_and_print_what_is_written(path, tmp_path):
    if "import torch" in path.read_text():
        pytest.importorskip("torch")
    wrong = guide.run(path, tmp_path)
    assert not wrong, "\n\n".join(wrong)


@pytest.mark.parametrize(
    "path", [ROOT / "README.md", *GUIDES, *sorted((ROOT / "docs").glob("*.md"))], ids=lambda path: path.stem
)
def test_links_lead_to_files_and_headings_that_exist(path):
    for file, heading in links(path.read_text()):
        target = path.parent / file if file else path
        assert target.exists(), f"{path.name} links to {file}"
        if heading:
            assert heading in anchors(target.read_text()), f"{path.name} links to {file}#{heading}"


def test_the_readme_leads_to_every_guide():
    linked = {file for file, _ in links((ROOT / "README.md").read_text())}
    assert {f"docs/guides/{path.name}" for path in GUIDES} <= linked
