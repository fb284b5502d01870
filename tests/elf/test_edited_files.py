"""Libraries that other tools have edited, and layouts that no linker makes but ld.so accepts."""

from __future__ import annotations

import ctypes
import os
import shutil
import struct
import subprocess
import threading
from pathlib import Path

import pytest
from elf_fields import PT_DYNAMIC, PT_LOAD
from isolated import in_pool

PT_NULL, PT_PHDR = 0, 6
NEED = "int of_need(void) { return 40; }"
# Thread-locals, relocated data, a constructor and zeroed memory: whatever an editor may have moved.
LIBRARY = """
__attribute__((weak)) int of_need(void);
static int zeros[5000], numbers[] = {1, 2, 3}, started;
int *pointers[] = {&numbers[0], &numbers[2], &zeros[4999]};
__thread int variable = 5;
__attribute__((constructor)) static void start(void) { started = 100; }
int answer(void) {
  int sum = started + *pointers[0] + *pointers[1] + ++*pointers[2] + ++variable;
  return sum + (of_need ? of_need() : 0);
}
"""
EXPECTED = [[111, 113, 113]] * 2


def answers(*paths, interpreters=2):
    """Of each interpreter: `answer()` of the last of `paths` twice, and once from another thread."""

    def scenario(pool):
        def use():
            handle = [ctypes.CDLL(str(path)) for path in paths][-1]
            results = [handle.answer(), handle.answer()]
            thread = threading.Thread(target=lambda: results.append(handle.answer()))
            thread.start()
            thread.join()
            return results

        return [future.result() for future in pool.broadcast(use)]

    return in_pool(scenario, interpreters=interpreters)


def run(tool, *arguments):
    if not shutil.which(tool):
        pytest.skip(f"{tool} is not installed")
    done = subprocess.run([tool, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def library(workshop):
    return workshop.library("private_edited", LIBRARY)


def test_the_library_works_before_it_is_edited(library):
    assert answers(library) == EXPECTED


@pytest.mark.parametrize("rpath", ["/a", "/" + "long/" * 700], ids=["short", "long"])
@pytest.mark.parametrize("kind", ["--set-rpath", "--force-rpath"])
def test_a_library_whose_search_path_was_set_works(library, rpath, kind):
    # A long one does not fit: patchelf moves the string table into a segment that it adds.
    more = ("--set-rpath",) if kind == "--force-rpath" else ()
    run("patchelf", kind, *more, f"{rpath}:$ORIGIN", library)
    assert answers(library) == EXPECTED


@pytest.mark.parametrize("times", [1, 5])
def test_a_need_that_was_added_is_found_by_a_search_path_that_was_added(workshop, library, times):
    workshop.library("private_need", NEED, folder="elsewhere")
    for n in range(times):  # each time patchelf adds a segment
        run("patchelf", "--set-rpath", "/nowhere:" * 100 * n + "$ORIGIN/elsewhere", library)
        run("patchelf", "--remove-needed", "libprivate_need.so", library)
        run("patchelf", "--add-needed", "libprivate_need.so", library)
    assert answers(library) == [[n + 40 for n in each] for each in EXPECTED]


def test_a_need_that_was_replaced_is_loaded_in_place_of_the_other(workshop):
    workshop.library("private_need", NEED, folder="elsewhere")
    former = workshop.library("private_former", "int of_need(void) { return 1000; }")
    library = workshop.library("private_edited", LIBRARY, needs=(former,))
    run("patchelf", "--replace-needed", "libprivate_former.so", "libprivate_need.so", library)
    run("patchelf", "--set-rpath", "$ORIGIN/elsewhere", library)
    assert answers(library) == [[n + 40 for n in each] for each in EXPECTED]


def test_a_soname_that_was_set_names_the_image(workshop, library):
    run("patchelf", "--set-soname", "libprivate_named_anew_by_an_editor.so", library)
    user = workshop.library(
        "private_user",
        "int answer(void); int ask(void) { return answer(); }",
        needs=(library,),
        folder="user",
        soname=None,
    )
    assert answers(library, user) == EXPECTED


@pytest.mark.parametrize("page", ["4096", "65536", "2097152"])
def test_a_segment_that_was_added_for_other_page_sizes_works(library, page):
    run("patchelf", "--page-size", page, "--set-rpath", "/" + "long/" * 700, library)
    assert answers(library) == EXPECTED


@pytest.mark.parametrize("option", ["--strip-all", "--strip-unneeded", "--strip-debug"])
def test_a_stripped_library_works(library, option):
    run("strip", option, library)
    assert answers(library) == EXPECTED


def test_a_library_whose_section_headers_were_stripped_works(library):
    run("llvm-objcopy", "--strip-sections", library)
    assert Path(library).read_bytes()[40:48] == bytes(8)
    assert answers(library) == EXPECTED


def test_a_library_compiled_stripped_and_edited_and_stripped_again_works(library):
    run("strip", library)
    run("patchelf", "--set-rpath", "/" + "long/" * 700, library)
    run("strip", library)
    assert answers(library) == EXPECTED


# Layouts that no linker makes ------------------------------------------------------------------------------


def program_headers(content: bytes) -> list[list[int]]:
    """type, flags, offset, vaddr, paddr, filesz, memsz, align of each."""
    (start,) = struct.unpack_from("<Q", content, 32)
    (count,) = struct.unpack_from("<H", content, 56)
    return [list(struct.unpack_from("<IIQQQQQQ", content, start + 56 * n)) for n in range(count)]


def packed(headers: list[list[int]]) -> bytes:
    return b"".join(struct.pack("<IIQQQQQQ", *header) for header in headers)


@pytest.mark.parametrize("mapped", [False, True], ids=["outside all segments", "in a segment of their own"])
def test_program_headers_at_the_end_of_the_file_are_read_there(library, mapped):
    path = Path(library)
    content = bytearray(path.read_bytes())
    (former,) = struct.unpack_from("<Q", content, 32)
    headers = [header for header in program_headers(content) if header[0] != PT_PHDR]
    content[former : former + 56 * len(headers)] = b"\xff" * (56 * len(headers))  # nobody is to look here
    content += bytes(-len(content) % 4096)
    at = len(content)
    if mapped:
        last = [header for header in headers if header[0] == PT_LOAD][-1]
        address = (last[3] + last[6] + 8191) // 4096 * 4096
        size = 56 * (len(headers) + 1)
        headers.append([PT_LOAD, 4, at, address, address, size, size, 4096])
    struct.pack_into("<Q", content, 32, at)
    struct.pack_into("<H", content, 56, len(headers))
    path.write_bytes(content + packed(headers))
    assert answers(library) == EXPECTED


def test_program_headers_that_say_nothing_are_passed_over(library):
    path = Path(library)
    content = bytearray(path.read_bytes())
    headers = program_headers(content)
    at = len(content) + -len(content) % 8
    nothing = [PT_NULL, 7, *[2**64 - 1] * 6]
    unknown = [0x6ABCDEF0, 7, *[2**63] * 6]
    headers = [nothing, *headers[:2], unknown, *headers[2:], *[nothing] * 30]
    struct.pack_into("<Q", content, 32, at)
    struct.pack_into("<H", content, 56, len(headers))
    path.write_bytes(content.ljust(at, b"\0") + packed(headers))
    assert answers(library) == EXPECTED


BEYOND = 5 << 30


@pytest.mark.parametrize("moved", ["data", "all but the first", "data, far apart"])
def test_segments_that_lie_beyond_4_gib_of_the_file_are_read_there(library, moved):
    """The file is sparse: holes up to where a segment was moved, its headers told so."""
    path = Path(library)
    content = path.read_bytes()
    headers = program_headers(content)
    loads = [header for header in headers if header[0] == PT_LOAD]
    chosen = loads[1:] if moved == "all but the first" else loads[-1:]
    shift = BEYOND if moved != "data, far apart" else BEYOND * 3
    writes = {}
    for load in chosen:
        offset, address, size = load[2], load[3], load[5]
        writes[offset + shift] = content[offset : offset + size]
        for header in headers:
            if header[0] != PT_LOAD and address <= header[3] < address + load[6]:
                header[2] += shift
        load[2] += shift
    (start,) = struct.unpack_from("<Q", content, 32)
    writes[start] = packed(headers)
    with path.open("r+b") as file:
        for offset, data in writes.items():
            file.seek(offset)
            file.write(data)
    status = os.stat(library)
    assert status.st_size > 4 << 30
    if status.st_blocks * 512 > 1 << 30:
        pytest.skip("this file system has no sparse files")
    assert {header[0] for header in headers if header[2] >= BEYOND} >= {PT_LOAD, PT_DYNAMIC}
    assert answers(library) == EXPECTED
