"""A library whose constructor throws: an error each time that it is asked for, and never taken for loaded."""

from __future__ import annotations

import ctypes

import pytest
from building import EXTENSION
from isolated import in_pool

THROWS = """
#include <stdexcept>
struct Thrower { Thrower() { THROW; } } thrower;
extern "C" int answer() { return 42; }
"""


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ('throw std::runtime_error("not today")', "a constructor of it threw: not today"),
        ("throw 42", "a constructor of it threw what is no std::exception"),
    ],
)
def test_it_is_an_error_at_every_import_also_of_what_needs_it(workshop, statement, said):
    thrower = workshop.library("private_thrower", THROWS.replace("THROW", statement), cpp=True)
    needing = workshop.library(
        "private_needing", "int answer(void); int again(void) { return answer(); }", needs=(thrower,)
    )
    innocent = workshop.library("private_innocent", "int answer(void) { return 1; }")

    def scenario(pool):
        def load(library):
            try:
                ctypes.CDLL(library)
            except OSError as error:
                return str(error)
            return "loaded"

        return [
            pool.submit(load, library).result() for library in (thrower, thrower, needing, needing, innocent)
        ]

    expected = f"{thrower}: {said}"
    assert in_pool(scenario) == [expected] * 4 + ["loaded"]


def test_an_extension_module_that_throws_is_an_import_error_each_time(workshop):
    source = EXTENSION.replace("NAME", "throwing").replace(
        "static PyObject *answer", 'extern "C" PyObject *answer'
    )
    source = (
        THROWS.replace("THROW", 'throw std::runtime_error("not today")').replace("answer", "other") + source
    )
    workshop.extension("throwing", source.replace("{0}", "{0, 0, 0, 0}"), cpp=True)
    folder = str(workshop.folder)

    def scenario(pool):
        def load():
            import sys

            sys.path.insert(0, folder)
            said = []
            for _ in range(3):
                try:
                    import throwing  # noqa: F401
                except ImportError as error:
                    said.append(str(error))
            return said

        return pool.submit(load).result()

    said = in_pool(scenario)
    assert len(said) == 3
    assert all("not today" in text and "throwing.so" in text for text in said), said
