"""Whatever is wrong with what a library says of itself: it is loaded or refused, never a crash or a hang.

Only the metadata is damaged (headers, dynamic section, symbols, relocations, hash and version tables,
strings), and no code of the library is called: it has no constructors and no IFUNC resolvers, and damage that
would make something else one is left out. What wrong code does when it runs is nobody's to prevent.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import pytest
from building import Workshop
from elf_fields import Field, Layout
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

# Some of everything that the loader reads; -nostartfiles leaves it without constructors.
SOURCE = """
#include <string.h>
int numbers[3] = {1, 2, 3};
int zeros[3000];
static int hidden = 4;
int *pointers[] = {&numbers[0], &numbers[1], &hidden, 0};
__thread int variable = 5;
static __thread int fixed __attribute__((tls_model("initial-exec"))) = 6;
__attribute__((weak)) int absent(void);
int total(const char *text) {
  return *pointers[0] + strlen(text) + ++variable + ++fixed + zeros[9] + (absent ? absent() : 0);
}
"""
STYLES = {
    "usual": (),
    "old hash, packed": ("-Wl,--hash-style=sysv", "-Wl,-z,pack-relative-relocs"),
    "both hashes, now, without separate code": ("-Wl,--hash-style=both,-z,now,-z,noseparate-code",),
}
VALUES = [
    0,
    1,
    2,
    7,
    8,
    0xFF,
    0xFFF,
    0x1000,
    0xFFFF,
    0x10000,
    1 << 31,
    (1 << 32) - 1,
    1 << 40,
    1 << 46,
    1 << 63,
]


class Server:
    """The process that loads; started again when it has died, or holds many files open."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None
        self.asked = 0

    def ask(self, path: Path) -> str:
        if self.process is None or self.asked >= 300:
            self.stop()
            self.asked = 0
            self.process = subprocess.Popen(
                [sys.executable, "-X", "faulthandler", str(Path(__file__).with_name("corruption_server.py"))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            assert self.process.stdout.readline() == "ready\n"
        self.asked += 1
        process = self.process
        try:
            process.stdin.write(f"{path}\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if answer:
            return answer.rstrip("\n")
        self.process = None
        _, errors = process.communicate()
        return f"the process died with {process.returncode}: {errors}"

    def stop(self) -> None:
        """End the process; it must end well, whatever it has loaded."""
        process, self.process = self.process, None
        if process is not None:
            _, errors = process.communicate(timeout=60)
            assert process.returncode == 0, errors


@pytest.fixture(scope="module")
def server():
    server = Server()
    yield server
    server.stop()


@pytest.fixture(scope="module", params=STYLES)
def library(request, tmp_path_factory):
    """The layout of a valid library, and a fresh path for each damaged copy."""
    workshop = Workshop(tmp_path_factory.mktemp("corrupted"))
    path = workshop.library(
        "private_original", SOURCE, "-nostartfiles", *STYLES[request.param], needs=("-lm",)
    )
    layout = Layout(Path(path).read_bytes())
    paths = (workshop.folder / f"libprivate_{number}.so" for number in itertools.count())
    return layout, paths


def test_the_undamaged_library_loads(library, server):
    layout, paths = library
    path = next(paths)
    path.write_bytes(layout.content)
    assert server.ask(path) == "loaded"


def check(library, server, content):
    layout, paths = library
    assume(not calls_code(layout, content))
    path = next(paths)
    path.write_bytes(content)
    answer = server.ask(path)
    path.unlink()
    assert answer == "loaded" or answer.startswith("OSError: "), answer


def replaced(content: bytes, field: Field, value: int) -> bytes:
    """`content` with `value`, cut to its size, in `field`."""
    part = (value % (1 << (8 * field.size))).to_bytes(field.size, "little")
    return content[: field.offset] + part + content[field.offset + field.size :]


DT_INIT, DT_FINI, DT_INIT_ARRAY, DT_FINI_ARRAY, STT_GNU_IFUNC, R_X86_64_IRELATIVE = 12, 13, 25, 26, 10, 37


def calls_code(layout: Layout, content: bytes) -> bool:
    """Whether the damage names a function that loading would call."""

    def value(field: Field) -> int:
        return int.from_bytes(content[field.offset : field.offset + field.size], "little")

    return (
        any(value(field) in (DT_INIT, DT_FINI, DT_INIT_ARRAY, DT_FINI_ARRAY) for field in layout.dynamic[::2])
        or any(value(f) & 15 == STT_GNU_IFUNC for f in layout.symbols() if f.name.endswith("info"))
        or any(
            value(f) & 0xFFFFFFFF == R_X86_64_IRELATIVE
            for f in layout.relocations()
            if f.name.endswith("info")
        )
    )


kinds = st.sampled_from(
    ["header", "program_headers", "dynamic", "symbols", "relocations", "words", "strings"]
)
many = settings(
    deadline=None,
    max_examples=250,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def fields_of(layout: Layout, kind: str) -> list[Field]:
    fields = getattr(layout, kind)
    return fields() if callable(fields) else fields


@many
@given(kind=kinds, data=st.data())
def test_a_damaged_field_is_survived(library, server, kind, data):
    layout, _ = library
    fields = fields_of(layout, kind)
    field = fields[data.draw(st.integers(0, len(fields) - 1), label="field")]
    now = int.from_bytes(layout.content[field.offset : field.offset + field.size], "little")
    value = data.draw(
        st.one_of(
            st.sampled_from(VALUES),
            st.integers(-64, 64).map(lambda change: now + change),
            st.integers(0, 8 * field.size - 1).map(lambda bit: now ^ (1 << bit)),
            st.integers(0, len(layout.content) + 0x3000),
            st.integers(0, (1 << (8 * field.size)) - 1),
        ),
        label=field.name,
    )
    check(library, server, replaced(layout.content, field, value))


@many
@given(data=st.data())
def test_damaged_bytes_of_the_headers_are_survived(library, server, data):
    layout, _ = library
    places = st.one_of(
        st.integers(0, layout.program_headers_end - 1),
        st.integers(layout.dynamic_offset, layout.dynamic_offset + layout.dynamic_size - 1),
    )
    content = layout.content
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=4)):
        content = replaced(content, Field("byte", place, 1), value)
    check(library, server, content)


@settings(many, max_examples=60)
@given(st.data())
@example(None)
def test_a_library_cut_off_anywhere_is_survived(library, server, data):
    layout, _ = library
    length = 0 if data is None else data.draw(st.integers(0, len(layout.content)))
    check(library, server, layout.content[:length])
