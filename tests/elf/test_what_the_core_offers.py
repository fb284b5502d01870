"""The core library offers its own names and nothing else.

Private images look symbols up from within the core. Templates of the standard library that a compiler left in
it would be found there, before libstdc++, by libraries that refer to them without a version; torch does.
"""

import subprocess
import sys
from pathlib import Path

import pytest

import multipy_actors
from multipy_actors import _native


def defined_names(library: Path) -> list[str]:
    command = ["nm", "--dynamic", "--defined-only", "--format=posix", str(library)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [line.split()[0] for line in output.splitlines()]


def test_the_core_defines_no_name_but_its_own() -> None:
    core = Path(multipy_actors.__file__).with_name("libmultipy_core.so")
    names = defined_names(core)
    assert names
    assert [name for name in names if "7multipy" not in name] == []


def test_the_extension_defines_no_name_but_its_entry_points() -> None:
    names = defined_names(Path(_native.__file__))
    assert sorted(names) == [
        "PyInit__native",
        "multipy_interpreter_interrupt",
        "multipy_interpreter_look",
        "multipy_interpreter_main",
        "multipy_interpreter_work",
    ]


CLOSE = """
import _ctypes, ctypes, sys
library = ctypes.CDLL(sys.argv[1])
_ctypes.dlclose(library._handle)
with open("/proc/self/maps") as file:
    print(sys.argv[1] in file.read())
"""


@pytest.mark.parametrize("name", ["libmultipy_core.so", "libmultipy_embed.so"])
def test_a_host_that_closes_it_does_not_unload_it(name: str) -> None:
    """Private images, the CUDA driver and threads may still come back to it."""
    library = Path(multipy_actors.__file__).with_name(name).resolve()
    command = [sys.executable, "-c", CLOSE, str(library)]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "True\n"
