"""docs/ARCHITECTURE.md names files and what is in them; each of them must exist.

In backticks, `folder/file.py` or `folder/` names something of this repository, `file.py:function` or
`folder/file.cpp:Class::method` something in it; a folder of the package may stand without `multipy_actors/`,
and a bare `file.py` may lie in any folder. System headers are written `<link.h>` and absolute paths are not
ours: both are left alone. These tests read the checkout.
"""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ["multipy_actors", "native", "tests", "docs", "examples", "benches"]
NAME = re.compile(
    r"`(?P<path>(?!/)[\w./-]+(?:\.(?:py|pyi|h|cpp|txt|toml|json|md)|(?<=\w)/))(?::(?P<inside>[\w.:~]+)(?:\(\))?)?`"
)


def named_in(text: str) -> list[tuple[str, str]]:
    """Each (path, what is in it or "") that the text names."""
    return sorted({(match["path"], match["inside"] or "") for match in NAME.finditer(text)})


def candidates(path: str) -> list[Path]:
    """The files or folders of the repository that `path` may mean."""
    for folder in (ROOT, ROOT / "multipy_actors"):
        if (folder / path).exists():
            return [folder / path]
    if "/" in path.rstrip("/"):
        return []
    return [found for folder in FOLDERS for found in (ROOT / folder).rglob(path.rstrip("/"))]


def contains(file: Path, inside: str) -> bool:
    """Whether every part of `Class::method` or `Class.method` occurs in the file as a word."""
    source = file.read_text()
    return all(re.search(rf"\b{re.escape(part)}\b", source) for part in re.split(r"::|\.|:", inside) if part)


GUIDE = (ROOT / "docs" / "ARCHITECTURE.md").read_text()


def test_the_reader_of_names_tells_files_from_other_code() -> None:
    text = (
        "`native/elf/image.cpp:Image::bind`, `pool.py:Pool.submit()`, `native/task/` and `conftest.py`;"
        " not `<link.h>`, `/proc/self/maps.txt`, `dlopen`, `libc10.so`, `a/b` or pool.py"
    )
    assert named_in(text) == [
        ("conftest.py", ""),
        ("native/elf/image.cpp", "Image::bind"),
        ("native/task/", ""),
        ("pool.py", "Pool.submit"),
    ]


def test_the_guide_names_files_of_every_part() -> None:
    paths = {path for path, _ in named_in(GUIDE)}
    for part in ("native/elf/", "native/task/", "native/exchange/", "native/pool/", "multipy_actors/"):
        assert any(path.startswith(part) for path in paths), f"the guide names nothing of {part}"


@pytest.mark.parametrize(("path", "inside"), named_in(GUIDE))
def test_what_the_guide_names_exists(path: str, inside: str) -> None:
    found = candidates(path)
    assert found, f"docs/ARCHITECTURE.md names {path}, which does not exist"
    if inside:
        assert any(contains(file, inside) for file in found if file.is_file()), f"{path} has no {inside}"
