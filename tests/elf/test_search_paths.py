"""Search paths are what ld.so makes of them, to which the same libraries in the host are compared.

Which folder `$LIB` stands for depends on the distribution and `$PLATFORM` on the processor, so every likely
one has a library that tells its name. What depends on the program is tried in one that the test links.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import struct
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from isolated import in_pool

FOLDERS = (
    *("lib", "lib64", "lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu", "lib32", "libx32"),
    *("x86_64", "aarch64", "haswell", "xeon_phi"),
)
PLACEHOLDER = 0x12345678
TOP = "int leaf(void); int answer(void) { return leaf(); }"
TAGS = {"rpath": "-Wl,--disable-new-dtags", "runpath": "-Wl,--enable-new-dtags"}


@pytest.fixture
def leaves(workshop):
    """Two libraries in every folder, a private and a shared leaf; the path of each when linked."""
    linked = {}
    for kind in ("private", "shared"):
        source = f"int number = {PLACEHOLDER:#x}; int leaf(void) {{ return number; }}"
        linked[kind] = workshop.library(f"{kind}_leaf", source, folder="linked")
        content = Path(linked[kind]).read_bytes()
        for number, folder in enumerate(FOLDERS):
            target = workshop.folder / folder / f"lib{kind}_leaf.so"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content.replace(struct.pack("<i", PLACEHOLDER), struct.pack("<i", number)))
    return linked


def here_and_there(private, shared):
    """A scenario: `answer()` of `private` in an interpreter, and of `shared` in the host."""

    def scenario(pool):
        return pool.submit(lambda: ctypes.CDLL(private).answer()).result(), ctypes.CDLL(shared).answer()

    return scenario


@pytest.mark.parametrize(
    ("tag", "path"),
    [("rpath", "$LIB"), ("runpath", "${LIB}"), ("rpath", "${PLATFORM}"), ("runpath", "$PLATFORM/../$LIB")],
)
def test_lib_and_platform_stand_for_what_ld_so_takes_them_for(workshop, leaves, tag, path):
    tops = [
        workshop.library(
            f"{kind}_top", TOP, TAGS[tag], f"-Wl,-rpath,/nowhere:{workshop.folder}/{path}", needs=(leaf,)
        )
        for kind, leaf in leaves.items()
    ]
    inside, outside = in_pool(here_and_there(*tops))
    assert inside == outside
    assert ("LIB" in path) == FOLDERS[inside].startswith("lib")


def test_lib_is_expanded_in_a_path_that_is_opened(workshop, leaves):
    opener = "#include <dlfcn.h>\nint opens(char *path) { return dlopen(path, RTLD_NOW) != 0; }"
    libraries = [workshop.library(f"{kind}_opener", opener) for kind in ("private", "shared")]
    path = f"{workshop.folder}/$LIB/lib%s_leaf.so".encode()

    def scenario(pool):
        private, shared = libraries
        return (
            pool.submit(lambda: ctypes.CDLL(private).opens(path % b"private")).result(),
            ctypes.CDLL(shared).opens(path % b"shared"),
        )

    assert in_pool(scenario) == (1, 1)


PROGRAM = """
int Py_BytesMain(int, char **);
int main(int count, char **arguments) { return Py_BytesMain(count, arguments); }
"""


@pytest.fixture
def program(workshop, monkeypatch):
    """A function that links a program which is Python, has it run the scenarios and returns its folder."""
    from multipy_actors.pool.interpreter import find_libpython

    def link(*flags):
        folder = workshop.folder / "program"
        folder.mkdir()
        (folder / "main.c").write_text(PROGRAM)
        target = folder / "python"
        libpython = find_libpython()
        flags = (*flags, f"-Wl,-rpath,{os.path.dirname(libpython)}")
        command = ["gcc", "-o", str(target), str(folder / "main.c"), libpython, *flags]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        monkeypatch.setenv("PYTHONHOME", f"{sys.base_prefix}:{sys.base_exec_prefix}")
        monkeypatch.setattr(sys, "executable", str(target))
        return folder

    return link


def tops_without_a_search_path(workshop, leaves):
    return [
        workshop.library(f"{kind}_top", TOP, "-Wl,-rpath-link,unused", needs=(leaf,))
        for kind, leaf in leaves.items()
    ]


def test_the_rpath_of_the_program_is_searched_for_every_library(workshop, leaves, program):
    tops = tops_without_a_search_path(workshop, leaves)
    program(TAGS["rpath"], "-Wl,-rpath,/nowhere:$ORIGIN/../haswell")
    assert in_pool(here_and_there(*tops)) == (FOLDERS.index("haswell"),) * 2


def test_the_runpath_of_the_program_is_its_own(workshop, leaves, program):
    private, _ = tops_without_a_search_path(workshop, leaves)
    program(TAGS["runpath"], "-Wl,-rpath,$ORIGIN/../haswell")

    def scenario(pool):
        def attempt():
            try:
                return ctypes.CDLL(private).answer()
            except OSError as error:
                return str(error)

        return pool.submit(attempt).result()

    assert "needs libprivate_leaf.so, which is not found" in in_pool(scenario)


def test_the_rpath_of_the_program_is_not_searched_for_a_library_with_a_runpath(workshop, leaves, program):
    tops = [
        workshop.library(f"{kind}_top", TOP, TAGS["runpath"], "-Wl,-rpath,$ORIGIN/lib32", needs=(leaf,))
        for kind, leaf in leaves.items()
    ]
    program(TAGS["rpath"], "-Wl,-rpath,$ORIGIN/../haswell")
    assert in_pool(here_and_there(*tops)) == (FOLDERS.index("lib32"),) * 2


@pytest.mark.parametrize("separator", [":", ";"])
def test_origin_in_the_library_path_is_the_program_s_folder(
    workshop, leaves, program, monkeypatch, separator
):
    tops = tops_without_a_search_path(workshop, leaves)
    program()
    shutil.rmtree(Path(workshop.folder, "lib64"))
    paths = ("/nowhere", "$ORIGIN/../lib64", "$ORIGIN/../libx32", sysconfig.get_config_var("LIBDIR") or "")
    monkeypatch.setenv("LD_LIBRARY_PATH", separator.join(filter(None, paths)))
    assert in_pool(here_and_there(*tops)) == (FOLDERS.index("libx32"),) * 2
