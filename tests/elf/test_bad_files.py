"""Files that cannot become an image: an ImageError names file and reason, and everybody goes on working."""

from __future__ import annotations

import os
import shutil
import struct
import sys
from pathlib import Path

import pytest
from building import EXTENSION
from elf_fields import DT_GNU_HASH, DT_NEEDED, DT_RELA, DT_STRSZ, DT_STRTAB, DT_SYMTAB, Layout
from isolated import in_pool


@pytest.fixture
def good(workshop):
    """The path of a valid extension module `good`."""
    return workshop.extension("good", EXTENSION.replace("NAME", "good"))


def attempt(path, good):
    """Import the module `bad` from `path`, by two ways in an interpreter, then `good` there and in the host.

    Return the error's type name, text, file and symbol, the error seen inside, and what `good` answers.
    """

    def scenario(pool):
        def load(file, name):
            import importlib.util
            from importlib.machinery import ExtensionFileLoader

            spec = importlib.util.spec_from_loader(name, ExtensionFileLoader(name, file))
            module = importlib.util.module_from_spec(spec)
            return module.answer()

        def load_inside():
            try:
                return load(path, "bad")
            except ImportError as error:
                return str(error)

        import multipy_actors as multipy

        try:
            pool.submit(load, path, "bad").result(timeout=30)
        except ImportError as error:
            known = isinstance(error, multipy.ImageError)
            outcome = (known, str(error), error.path, getattr(error, "symbol", None))
        else:
            outcome = "loaded"
        inside = pool.submit(load_inside).result()
        return outcome, inside, pool.submit(load, good, "good").result(), load(good, "good")

    outcome, inside, in_interpreter, in_host = in_pool(scenario)
    assert (in_interpreter, in_host) == (42, 42)
    return outcome, inside


def refused(path, good, *reasons, symbol=None, file=None):
    """Assert that loading `path` is an ImageError that names it and each of `reasons`."""
    outcome, inside = attempt(path, good)
    assert outcome != "loaded"
    known, text, named, named_symbol = outcome
    assert known
    assert named == (file or path)
    assert named_symbol == symbol
    assert inside == text
    for reason in (file or path, *reasons):
        assert reason in text


# Not a library at all --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "too short"),
        (b"\x7fELF", "too short"),
        (b"\x7fELF\x02\x01\x01", "too short"),
        (b"#!/bin/sh\necho hello\n" * 10, "not an ELF file"),
        (b"/* GNU ld script */\nINPUT ( /usr/lib/libc.so.6 )\n" * 3, "not an ELF file"),
        (bytes(4096), "not an ELF file"),
        (b"\x7fELF" + b"\xff" * 4092, "wrong ELF class"),
        (b"\x7fELF\x02\x01\x01" + b"\xff" * 4089, "another processor"),
    ],
    ids=[
        "empty",
        "four bytes",
        "seven bytes",
        "script",
        "linker script",
        "zeros",
        "garbage",
        "garbage after magic",
    ],
)
def test_a_file_that_is_no_library_is_refused(tmp_path, good, content, reason):
    path = tmp_path / "bad.so"
    path.write_bytes(content)
    refused(str(path), good, reason)


def test_a_directory_is_refused(tmp_path, good):
    path = tmp_path / "bad.so"
    path.mkdir()
    refused(str(path), good, "not a regular file")


def test_a_file_that_is_not_there_is_refused(tmp_path, good):
    refused(str(tmp_path / "bad.so"), good)


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="Python itself has no extensions with such paths now")
def test_a_bad_file_whose_path_is_not_text_is_refused(tmp_path, good):
    folder = os.fsencode(tmp_path) + b"/not \xff text"
    os.mkdir(folder)
    path = os.fsdecode(folder + b"/bad.so")
    Path(path).write_bytes(bytes(4096))
    refused(path, good, "not an ELF file")


def test_a_pipe_is_refused_without_waiting_for_a_writer(tmp_path, good):
    path = tmp_path / "bad.so"
    os.mkfifo(path)
    refused(str(path), good, "not a regular file")


@pytest.mark.parametrize("flags", [("-pie",), ("-no-pie",), ("-static",)], ids=" ".join)
def test_a_program_is_refused(workshop, good, flags):
    workshop.folder.joinpath("main.c").write_text("int main(void) { return 0; }")
    path = str(workshop.folder / "bad.so")
    status = os.spawnvp(os.P_WAIT, "gcc", ["gcc", *flags, "-o", path, str(workshop.folder / "main.c")])
    if status != 0:
        pytest.skip("this program cannot be linked here")
    refused(path, good, "not a shared library")


def test_an_object_file_is_refused(workshop, good):
    path = str(workshop.folder / "bad.so")
    workshop.folder.joinpath("object.c").write_text("int answer(void) { return 0; }")
    assert os.spawnvp(os.P_WAIT, "gcc", ["gcc", "-c", "-o", path, str(workshop.folder / "object.c")]) == 0
    refused(path, good, "not a shared library")


# Damaged headers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "position", "value", "reason"),
    [
        ("header: ident", 4, b"\x01", "wrong ELF class"),
        ("header: ident", 5, b"\x02", "wrong byte order"),
        ("header: machine", 0, struct.pack("<H", 183), "another processor"),
        ("header: machine", 0, struct.pack("<H", 3), "another processor"),
        ("header: type", 0, struct.pack("<H", 1), "not a shared library"),
        ("header: phentsize", 0, struct.pack("<H", 32), "program header size"),
        ("header: phnum", 0, struct.pack("<H", 0), "no loadable segment"),
        ("header: phnum", 0, struct.pack("<H", 0xFFFF), "damaged"),
        ("header: phoff", 0, struct.pack("<Q", 1 << 63), "damaged"),
        ("header: phoff", 0, struct.pack("<Q", (1 << 64) - 8), "damaged"),
    ],
)
def test_a_damaged_header_is_refused(workshop, good, field, position, value, reason):
    content = bytearray(Path(good).read_bytes())
    at = Layout(content).field(field).offset + position
    content[at : at + len(value)] = value
    path = workshop.folder / "bad.so"
    path.write_bytes(content)
    refused(str(path), good, reason)


@pytest.mark.parametrize("tag", [DT_STRTAB, DT_STRSZ, DT_SYMTAB, DT_RELA, DT_GNU_HASH, DT_NEEDED])
@pytest.mark.parametrize("value", [1, 1 << 40, (1 << 64) - 1])
def test_a_damaged_dynamic_section_is_refused_or_survived(workshop, good, tag, value):
    content = bytearray(Path(good).read_bytes())
    at = Layout(content).field(f"value of {tag:#x}").offset
    content[at : at + 8] = struct.pack("<Q", value)
    path = workshop.folder / "bad.so"
    path.write_bytes(content)
    outcome, _ = attempt(str(path), good)
    assert outcome == "loaded" or outcome[2] == str(path)


def boundaries(content):
    """Lengths at which something that is read ends: just short of each."""
    layout = Layout(content)
    ends = {
        64,
        layout.program_headers_end,
        layout.dynamic_offset,
        layout.dynamic_offset + layout.dynamic_size,
    }
    ends |= {offset + size for _, offset, size in layout.segments}
    ends |= {layout.offset(layout.tags[tag]) + 8 for tag in (DT_STRTAB, DT_SYMTAB, DT_RELA, DT_GNU_HASH)}
    return sorted(end - 1 for end in ends)


def test_a_truncated_library_is_refused_wherever_it_ends(workshop, good):
    content = Path(good).read_bytes()
    lengths = [0, 1, *boundaries(content)]
    paths = []
    for length in lengths:
        path = workshop.folder / f"bad_{length}.so"
        path.write_bytes(content[:length])
        paths.append(str(path))

    def scenario(pool):
        def load(path):
            import importlib.util
            from importlib.machinery import ExtensionFileLoader

            importlib.util.module_from_spec(
                importlib.util.spec_from_loader("bad", ExtensionFileLoader("bad", path))
            )

        errors = []
        for path in paths:
            error = pool.submit(load, path).exception()
            errors.append((type(error).__name__, error.path, path in str(error)))
        return errors

    assert in_pool(scenario) == [("ImageError", path, True) for path in paths]


def test_a_library_that_lost_only_its_section_headers_still_loads(workshop, good):
    content = Path(good).read_bytes()
    end = max(offset + size for _, offset, size in Layout(content).segments)
    path = workshop.folder / "bad.so"
    path.write_bytes(content[:end].replace(b"PyInit_good\0", b"PyInit_bad\0\0"))
    # The renamed function is found by its hash no more: the library itself loaded.
    outcome, _ = attempt(str(path), good)
    assert outcome[0] is False
    assert "does not define module export function" in outcome[1]


# Well-formed, but something is missing ---------------------------------------------------------------------


def test_a_missing_needed_library_is_named(workshop, good):
    needed = workshop.library("needed", "int needed(void) { return 1; }")
    source = "int needed(void);" + EXTENSION.replace("NAME", "bad").replace("(42)", "(needed())")
    path = workshop.extension("bad", source, needs=(needed,))
    os.remove(needed)
    refused(path, good, "libneeded.so", "not found")


def test_a_damaged_needed_library_is_named(workshop, good):
    needed = workshop.library("private_needed", "int needed(void) { return 1; }")
    source = "int needed(void);" + EXTENSION.replace("NAME", "bad").replace("(42)", "(needed())")
    path = workshop.extension("bad", source, needs=(needed,))
    content = bytearray(Path(needed).read_bytes())
    at = Layout(content).field(f"value of {DT_SYMTAB:#x}").offset
    content[at : at + 8] = struct.pack("<Q", 1 << 50)
    Path(needed).write_bytes(content)
    refused(path, good, "damaged ELF file", file=needed)


@pytest.mark.parametrize("name", ["absent_function", "PyAbsent_Function"])
def test_a_missing_function_is_named(workshop, good, name):
    source = f"int {name}(void);" + EXTENSION.replace("NAME", "bad").replace("(42)", f"({name}())")
    path = workshop.extension("bad", source)
    refused(path, good, "undefined symbol", name, symbol=name)


def test_a_missing_variable_is_named(workshop, good):
    source = "extern int absent_variable;" + EXTENSION.replace("NAME", "bad").replace(
        "(42)", "(absent_variable)"
    )
    path = workshop.extension("bad", source)
    refused(path, good, "undefined symbol", symbol="absent_variable")


def test_a_library_that_failed_is_loaded_once_it_is_mended(workshop, good):
    needed = workshop.library("private_needed", "int needed(void) { return 7; }")
    source = "int needed(void);" + EXTENSION.replace("NAME", "mended").replace("(42)", "(needed())")
    path = workshop.extension("mended", source, needs=(needed,))

    def scenario(pool):
        def load():
            import sys

            sys.path.insert(0, os.path.dirname(path))
            import mended

            return mended.answer()

        shutil.move(needed, needed + ".away")
        failed = type(pool.submit(load).exception()).__name__
        shutil.move(needed + ".away", needed)
        return failed, pool.submit(load).result()

    assert in_pool(scenario) == ("ImageError", 7)


def test_an_import_error_of_python_code_stays_what_it_is(good):
    def scenario(pool):
        def load():
            import no_such_module_anywhere

            return no_such_module_anywhere

        def raise_own():
            raise ImportError("of my own")

        return [type(pool.submit(function).exception()).__name__ for function in (load, raise_own)]

    assert in_pool(scenario) == ["ModuleNotFoundError", "ImportError"]


def test_an_interpreter_survives_many_bad_files(workshop, good):
    content = Path(good).read_bytes()
    path = str(workshop.folder / "bad.so")

    def scenario(pool):
        def load(file, name):
            import importlib.util
            from importlib.machinery import ExtensionFileLoader

            return importlib.util.module_from_spec(
                importlib.util.spec_from_loader(name, ExtensionFileLoader(name, file))
            ).answer()

        failed = 0
        for length in range(0, len(content), max(1, len(content) // 300)):
            Path(path).unlink(missing_ok=True)  # cutting off a file that is mapped would take its pages away
            Path(path).write_bytes(content[:length])
            failed += isinstance(pool.submit(load, path, "bad").exception(), ImportError)
        return failed > 100, pool.submit(load, good, "good").result(), len(os.listdir("/proc/self/fd")) < 100

    assert in_pool(scenario) == (True, 42, True)
