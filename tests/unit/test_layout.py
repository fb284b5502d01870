"""The source tree keeps the shape that docs/ARCHITECTURE.md promises.

What a tool already checks is not repeated here: import-linter has the direction of Python imports, ruff the
docstrings. These tests read the checkout, not the installed package.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHON_MODULES = sorted((ROOT / "multipy_actors").rglob("*.py"))
NATIVE_FILES = sorted(path for path in (ROOT / "native").rglob("*") if path.suffix in {".h", ".cpp"})

# Importing these takes long or is not possible everywhere; whoever sends no tensor does not pay for it.
NEVER_AT_MODULE_LEVEL = {"torch", "ray", "numpy"}
MEANINGLESS_NAMES = {"utils", "common", "core", "helpers", "misc"}
# What each folder of native/ may include, besides itself.
BELOW: dict[str, set[str]] = {
    "base": set(),
    "system": {"base"},
    "elf": {"base", "system"},
    "task": {"base"},
    "exchange": {"base", "task"},
    "interpreter": {"base", "system", "elf", "task", "exchange"},
    "pool": {"base", "elf", "task", "exchange", "interpreter"},
    "embed": {"base", "elf", "task", "exchange", "interpreter", "pool"},
    "bindings": {"base", "elf", "task", "exchange", "interpreter", "pool"},
}
MAY_INCLUDE_PYTHON = {"interpreter", "bindings"}


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def native_folder(path: Path) -> str:
    return path.relative_to(ROOT / "native").parts[0]


def executed_on_import(statements: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements that run when a module is imported, nested ones included."""
    for statement in statements:
        yield statement
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test):
            yield from executed_on_import(statement.orelse)
            continue
        for block in ("body", "orelse", "finalbody"):
            yield from executed_on_import(getattr(statement, block, []))
        for handler in getattr(statement, "handlers", []):
            yield from executed_on_import(handler.body)


def imported_on_import(source: str) -> set[str]:
    """Top-level names of the packages that importing a module with this source imports."""
    names: set[str] = set()
    for statement in executed_on_import(ast.parse(source).body):
        if isinstance(statement, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom) and statement.module and not statement.level:
            names.add(statement.module.partition(".")[0])
    return names


def test_the_reader_of_imports_sees_nested_ones_but_not_those_of_functions_and_type_checkers() -> None:
    source = """
import os.path
if TYPE_CHECKING:
    import torch
else:
    import first
try:
    import second
except ImportError:
    from third.part import name
class Body:
    with context:
        import fourth
def later():
    import numpy
from . import sibling
"""
    assert imported_on_import(source) == {"os", "first", "second", "third", "fourth"}


def test_the_package_has_modules_and_native_files() -> None:
    assert PYTHON_MODULES
    assert {native_folder(path) for path in NATIVE_FILES} == set(BELOW)


@pytest.mark.parametrize("module", PYTHON_MODULES, ids=relative)
def test_a_module_imports_neither_torch_nor_ray_nor_numpy_by_being_imported(module: Path) -> None:
    assert imported_on_import(module.read_text()).isdisjoint(NEVER_AT_MODULE_LEVEL)


@pytest.mark.parametrize("file", NATIVE_FILES, ids=relative)
def test_a_native_file_or_its_header_opens_with_a_comment(file: Path) -> None:
    header = file.with_suffix(".h")
    opening = header if header.exists() else file
    assert opening.read_text().startswith(("//", "/*"))


@pytest.mark.parametrize("file", NATIVE_FILES, ids=relative)
def test_a_native_file_includes_only_what_lies_below_it(file: Path) -> None:
    folder = native_folder(file)
    included = re.findall(r'^\s*#\s*include\s+[<"]([^>"]+)[>"]', file.read_text(), flags=re.MULTILINE)
    ours = {name.partition("/")[0] for name in included} & BELOW.keys()
    assert ours <= BELOW[folder] | {folder}
    if folder not in MAY_INCLUDE_PYTHON:
        assert not [name for name in included if name == "Python.h" or name.startswith("nanobind")]


def test_public_headers_include_nothing_of_the_core() -> None:
    for header in (ROOT / "native" / "embed" / "include").rglob("*.h"):
        included = re.findall(r'^\s*#\s*include\s+"([^"]+)"', header.read_text(), flags=re.MULTILINE)
        assert [name for name in included if not name.startswith("multipy_actors/")] == [], relative(header)


def test_no_file_or_folder_has_a_name_that_says_nothing() -> None:
    sources = [
        path for top in ("multipy_actors", "native", "tests", "examples") for path in (ROOT / top).rglob("*")
    ]
    assert [relative(path) for path in sources if path.stem in MEANINGLESS_NAMES] == []
