"""Libraries of every compiler and linker here, in every style they link in, work in two interpreters at once.

Styles are combined so that every two of them meet somewhere. What is not installed is skipped.
"""

from __future__ import annotations

import ctypes
import threading
from pathlib import Path

import pytest
from elf_fields import DT_GNU_HASH, DT_HASH, Layout
from isolated import in_pool
from linked import CHOICES, Linked, absent_tool, expected, styles

DT_BIND_NOW, DT_FLAGS, DT_RELR, PT_GNU_RELRO = 24, 30, 36, 0x6474E552
TOOLS = [(compiler, linker) for compiler in ("gcc", "clang") for linker in CHOICES]
COMBINATIONS = [(*tools, style) for tools in TOOLS for style in styles(tools[1])]
LIBRARIES = ("base", "middle", "top")


@pytest.fixture(scope="module")
def linked(tmp_path_factory):
    """A function that compiles and links everything of one compiler and linker when it is first asked for."""
    known: dict[tuple[str, str], Linked] = {}

    def get(compiler: str, linker: str) -> Linked:
        if tool := absent_tool(compiler, linker):
            pytest.skip(f"{tool} is not installed")
        if (compiler, linker) not in known:
            known[compiler, linker] = Linked(
                tmp_path_factory.mktemp(f"{compiler}-{linker}"), compiler, linker
            )
        return known[compiler, linker]

    return get


def reports(folder: Path) -> list[list[str]]:
    """What each of two interpreters, at work at the same time, reports of the set in `folder`.

    Twice on its own thread, then on another. Their destructors leave their order in files there.
    """

    def scenario(pool):
        def use(number):
            top = ctypes.CDLL(str(folder / "libprivate_top.so"))
            top.destructors_to(str(folder / f"destructors {number}").encode())
            top.report.restype = ctypes.c_char_p
            texts = [top.report().decode() for _ in range(2)]
            thread = threading.Thread(target=lambda: texts.append(top.report().decode()))
            thread.start()
            thread.join()
            return texts

        return [f.result() for f in [i.submit(use, n) for n, i in enumerate(pool.interpreters)]]

    return in_pool(scenario, interpreters=2)


EXPECTED = [expected(1, 11, 8), expected(2, 12, 9), expected(3, 11, 8)]


@pytest.mark.parametrize(
    ("compiler", "linker", "style"), COMBINATIONS, ids=lambda v: v if isinstance(v, str) else " ".join(v)
)
def test_a_set_of_libraries_works_however_it_is_linked(linked, compiler, linker, style):
    folder = linked(compiler, linker).outcomes[style]
    if isinstance(folder, Exception):
        raise folder
    assert_linked_as_wanted(folder, style)
    assert reports(folder) == [EXPECTED] * 2
    for number in range(2):
        assert (folder / f"destructors {number}").read_text() == "top middle base "


def assert_linked_as_wanted(folder: Path, style: tuple[str, ...]) -> None:
    """That the linker did as it was told, or else the test shows nothing."""
    for name in LIBRARIES:
        content = (folder / f"libprivate_{name}.so").read_bytes()
        layout = Layout(content)
        segments = {
            int.from_bytes(content[f.offset : f.offset + 4], "little") for f in layout.program_headers[::8]
        }
        assert (DT_GNU_HASH in layout.tags) == ("sysv" not in style)
        assert (DT_HASH in layout.tags) == ("gnu" not in style)
        assert (DT_BIND_NOW in layout.tags or layout.tags.get(DT_FLAGS, 0) & 8 != 0) == ("now" in style)
        assert (PT_GNU_RELRO in segments) == ("relro" in style)
        assert (DT_RELR in layout.tags) == ("relr" in style)


@pytest.mark.parametrize("format", ["android", "android+relr", "relr --use-android-relr-tags"])
def test_relocations_packed_for_android_are_refused_by_name(linked, tmp_path, format):
    packing, *more = format.split()
    flags = [f"-Wl,{flag}" for flag in (f"--pack-dyn-relocs={packing}", *more)]
    folder = linked("gcc", "lld").link(tmp_path, *flags)

    def scenario(pool):
        def attempt():
            try:
                ctypes.CDLL(str(folder / "libprivate_top.so"))
            except OSError as error:
                return str(error)

        return pool.submit(attempt).result()

    error = in_pool(scenario)
    assert "libprivate_" in error
    assert "Android" in error
