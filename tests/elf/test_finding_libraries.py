"""What a library needs: chains of private and shared ones, and the search paths that lead to them."""

from __future__ import annotations

import ctypes
import os
import sysconfig
from pathlib import Path

import pytest
from building import EXTENSION
from isolated import in_pool


@pytest.fixture
def answer_in():
    """Return a scenario: `answer()` of a library, or the error, in an interpreter."""

    def make(library):
        def scenario(pool):
            def answer():
                try:
                    return ctypes.CDLL(library).answer()
                except OSError as error:
                    return str(error)

            return pool.submit(answer).result()

        return scenario

    return make


def test_a_chain_of_private_libraries_down_to_a_shared_one_is_loaded_whole(workshop):
    shared = workshop.library("shared_leaf", "int count; int leaf(void) { return ++count; }")
    middle = workshop.library(
        "private_middle",
        "int leaf(void); int count2; int middle(void) { return 10 * ++count2 + leaf(); }",
        needs=(shared,),
    )
    top = workshop.library(
        "private_top", "int middle(void); int answer(void) { return 100 + middle(); }", needs=(middle,)
    )

    def scenario(pool):
        return [
            i.submit(lambda: ctypes.CDLL(top).answer()).result()
            for i in (*pool.interpreters, *pool.interpreters)
        ]

    assert in_pool(scenario, interpreters=2) == [111, 112, 123, 124]


def test_a_library_that_needs_a_private_one_is_private_itself(workshop):
    leaf = workshop.library("private_leaf", "int n; int leaf(void) { return ++n; }")
    middle = workshop.library(
        "middle", "int leaf(void); int m; int middle(void) { return 10 * ++m + leaf(); }", needs=(leaf,)
    )
    top = workshop.library(
        "top", "int middle(void); int t; int answer(void) { return 100 * ++t + middle(); }", needs=(middle,)
    )

    def scenario(pool):
        return [i.submit(lambda: ctypes.CDLL(top).answer()).result() for i in pool.interpreters] + [
            ctypes.CDLL(top).answer()
        ]

    assert in_pool(scenario, interpreters=2) == [111] * 3


def test_what_needs_a_library_that_needs_it_is_private_if_that_is(workshop):
    private = workshop.library("private_counter", "int count(void) { return 1; }")
    workshop.library("ring_b", "int around(void) { return 0; }")
    ring = workshop.library(
        "ring_a",
        "int turns; extern int around(void); int answer(void) { return ++turns, around(); }",
        needs=(str(workshop.folder / "libring_b.so"), private),
    )
    other = workshop.library("ring_b", "extern int turns; int around(void) { return turns; }", needs=(ring,))

    def scenario(pool):
        def turn():
            return ctypes.CDLL(ring).answer()

        answers = [pool.submit(turn).result() for _ in range(3)]
        return answers, [image.private for image in pool.images()[0] if image.path in (ring, other)]

    assert in_pool(scenario) == ([1, 2, 3], [True, True])


def test_what_an_extension_needs_stays_shared_unless_it_uses_python_too(workshop):
    plain = workshop.library("plain", "int n; int plain(void) { return ++n; }")
    pythonic = workshop.library(
        "pythonic",
        "#include <Python.h>\nint m; PyObject *make(int n) { return PyLong_FromLong(10 * ++m + n); }",
        f"-I{sysconfig.get_path('include')}",
    )
    source = "int plain(void); struct _object *make(int);" + EXTENSION.replace(
        "PyLong_FromLong(42)", "make(plain())"
    )
    workshop.extension("needing", source.replace("NAME", "needing"), needs=(plain, pythonic))
    folder = str(workshop.folder)

    def scenario(pool):
        def answer():
            import sys

            sys.path.insert(0, folder)
            import needing

            return needing.answer()

        return [i.submit(answer).result() for i in pool.interpreters]

    assert in_pool(scenario, interpreters=2) == [11, 12]


@pytest.fixture
def chain(workshop):
    """A library whose need, in the folder `deep`, needs another one there and has no search path."""

    def build(*flags, origin="$ORIGIN"):
        leaf = workshop.library("private_leaf", "int leaf(void) { return 1; }", folder="deep")
        middle = workshop.library(
            "private_middle",
            "int leaf(void); int middle(void) { return leaf(); }",
            "-Wl,-rpath-link,unused",
            needs=(leaf,),
            folder="deep",
        )
        return workshop.library(
            "private_top",
            "int middle(void); int answer(void) { return middle(); }",
            f"-Wl,-rpath,{origin}/deep",
            f"-Wl,-rpath-link,{workshop.folder}/deep",
            *flags,
            needs=(middle,),
        )

    return build


@pytest.mark.parametrize("origin", ["$ORIGIN", "${ORIGIN}", "/nowhere:$ORIGIN/./../$ORIGIN/..", "absolute"])
def test_an_rpath_is_inherited_by_what_is_needed(workshop, chain, answer_in, origin):
    if origin == "absolute":
        origin = str(workshop.folder)
    elif ":" in origin:
        origin = "/nowhere:$ORIGIN/../" + workshop.folder.name
    assert in_pool(answer_in(chain("-Wl,--disable-new-dtags", origin=origin))) == 1


def test_a_runpath_is_not_inherited_and_the_error_names_who_needs_what(chain, answer_in):
    error = in_pool(answer_in(chain("-Wl,--enable-new-dtags")))
    assert "libprivate_middle.so" in error
    assert "needs libprivate_leaf.so, which is not found" in error


def test_a_need_is_met_by_the_image_that_has_its_soname_already(workshop, chain, answer_in):
    top = chain("-Wl,--enable-new-dtags")
    leaf = str(workshop.folder / "deep" / "libprivate_leaf.so")

    def scenario(pool):
        def answer():
            ctypes.CDLL(leaf)
            return ctypes.CDLL(top).answer()

        return pool.submit(answer).result()

    assert in_pool(scenario) == 1


def test_a_soname_unlike_the_file_name_is_known_too(workshop):
    leaf = workshop.library("private_leaf", "int leaf(void) { return 5; }", soname="libprivate_renamed.so.3")
    top = workshop.library(
        "private_top",
        "int leaf(void); int answer(void) { return leaf(); }",
        "-Wl,-rpath,/nowhere",
        needs=(leaf,),
    )

    def scenario(pool):
        def answer():
            ctypes.CDLL(leaf)
            return ctypes.CDLL(top).answer(), ctypes.CDLL("libprivate_renamed.so.3").leaf()

        return pool.submit(answer).result()

    assert in_pool(scenario) == (5, 5)


def test_a_missing_shared_need_of_a_private_library_is_named_and_nothing_stays_loaded(workshop):
    shared = workshop.library("shared_gone", "int leaf(void) { return 5; }")
    good = workshop.library("private_good", "int n; int good(void) { return ++n; }")
    top = workshop.library(
        "private_top",
        "int leaf(void), good(void); int answer(void) { return leaf() + good(); }",
        needs=(good, shared),
    )

    def scenario(pool):
        def attempt():
            try:
                ctypes.CDLL(top)
            except OSError as error:
                failure = str(error)
            with open("/proc/self/maps") as maps:
                code_left = [line for line in maps if "libprivate" in line and "x" in line.split()[1]]
            return failure, code_left

        os.rename(shared, shared + ".hidden")
        failed = pool.submit(attempt).result()
        os.rename(shared + ".hidden", shared)
        return failed, pool.submit(lambda: ctypes.CDLL(top).answer()).result()

    (failure, code_left), answer = in_pool(scenario)
    assert top in failure
    assert "needs libshared_gone.so, which is not found" in failure
    assert code_left == []
    assert answer == 6


def test_a_need_written_as_a_path_is_opened_as_that_path(workshop, answer_in):
    leaf = workshop.library("private_leaf", "int leaf(void) { return 8; }", soname=None, folder="deep")
    top = workshop.library(
        "private_top", "int leaf(void); int answer(void) { return leaf(); }", needs=(leaf,)
    )
    assert in_pool(answer_in(top)) == 8


def test_a_candidate_for_another_processor_is_passed_over(workshop, answer_in):
    leaf = workshop.library("private_leaf", "int leaf(void) { return 9; }", folder="right")
    foreign = workshop.folder / "wrong" / "libprivate_leaf.so"
    foreign.parent.mkdir()
    content = bytearray(Path(leaf).read_bytes())
    content[18] = 183  # e_machine: aarch64
    foreign.write_bytes(content)
    top = workshop.library(
        "private_top",
        "int leaf(void); int answer(void) { return leaf(); }",
        "-Wl,-rpath,$ORIGIN/wrong:$ORIGIN/right",
        needs=(leaf,),
    )
    assert in_pool(answer_in(top)) == 9


def test_the_library_path_of_the_process_start_is_searched(workshop, answer_in, monkeypatch):
    leaf = workshop.library("private_leaf", "int leaf(void) { return 3; }", folder="deep")
    top = workshop.library(
        "private_top",
        "int leaf(void); int answer(void) { return leaf(); }",
        "-Wl,-rpath,/nowhere",
        needs=(leaf,),
    )
    monkeypatch.setenv("LD_LIBRARY_PATH", str(workshop.folder / "deep"))
    assert in_pool(answer_in(top)) == 3


def test_a_library_found_by_the_system_is_shared(workshop, answer_in):
    top = workshop.library(
        "private_top", "double cos(double); int answer(void) { return (int)cos(0.0) + 1; }", needs=("-lm",)
    )
    assert in_pool(answer_in(top)) == 2


def test_a_symbol_of_a_library_that_is_not_listed_comes_from_the_closure(workshop, answer_in):
    provider = workshop.library("private_provider", "int provided(void) { return 4; }")
    user = workshop.library("private_user", "int provided(void); int user(void) { return provided(); }")
    top = workshop.library(
        "private_top", "int user(void); int answer(void) { return user(); }", needs=(user, provider)
    )
    assert in_pool(answer_in(top)) == 4
