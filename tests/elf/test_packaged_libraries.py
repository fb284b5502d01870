"""Libraries that come with Python packages: an interpreter's own, and what of them is shared all the same."""

from __future__ import annotations

import ctypes

import pytest
from building import EXTENSION
from isolated import in_pool

COUNTER = "static int count = 10; int next(void) { return ++count; }"
# Keeps a callback, as libraries keep those for log messages and errors.
HOOK = """
typedef int Callback(int);
static Callback* hook;
void set_hook(Callback* callback) { hook = callback; }
int call_hook(int value) { return hook ? hook(value) : -1; }
"""


def count_in_two_interpreters_and_the_host(library):
    def scenario(pool):
        def count():
            return ctypes.CDLL(library).next()

        found = [interpreter.submit(count).result() for interpreter in pool.interpreters]
        images = [image for image in pool.images()[0] if image.path == library]
        return [*found, count()], [image.private and image.reason for image in images]

    return in_pool(scenario, interpreters=2)


@pytest.mark.parametrize(
    "folder", ["site-packages/thing/lib", "dist-packages", "thing.libs", "thing/lib/deep"]
)
def test_a_library_that_comes_with_a_package_is_each_interpreters_own(workshop, folder):
    library = workshop.library("packaged", COUNTER, folder=folder)
    if folder.startswith("thing/"):
        (workshop.folder / "thing" / "__init__.py").write_text("")
    counts, reasons = count_in_two_interpreters_and_the_host(library)
    assert counts == [11, 11, 11]
    assert reasons == ["comes with a Python package"]


def test_an_openmp_runtime_and_what_needs_the_static_block_stay_shared(workshop):
    runtime = workshop.library("gomp-1234", COUNTER, folder="thing.libs")
    assert count_in_two_interpreters_and_the_host(runtime) == ([11, 12, 13], [False])
    source = "__thread int zero; static int count = 10; int next(void) { return ++count + zero; }"
    static = workshop.library("static", source, "-ftls-model=initial-exec", folder="thing.libs")
    assert count_in_two_interpreters_and_the_host(static) == ([11, 12, 13], [False])


def test_a_callback_that_an_interpreter_leaves_in_its_packages_library_is_never_called_by_others(workshop):
    library = workshop.library("hooked", HOOK, folder="site-packages/thing")

    def scenario(pool):
        def use(factor):
            hooked = ctypes.CDLL(library)
            callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(lambda value: factor * value)
            hooked.set_hook(callback)
            ctypes.kept = callback

        def call(value):
            return ctypes.CDLL(library).call_hook(value)

        found = [call(1)]
        for factor, interpreter in enumerate(pool.interpreters, 2):
            interpreter.submit(use, factor).result()
        found += [interpreter.submit(call, 10).result() for interpreter in pool.interpreters]
        pool.shutdown()
        return [*found, call(1)]

    assert in_pool(scenario, interpreters=2) == [-1, 20, 30, -1]


def test_a_shared_pattern_overrules_that_a_library_is_packaged(workshop):
    library = workshop.library("packaged", COUNTER, folder="site-packages")

    def scenario(pool):
        def count():
            return ctypes.CDLL(library).next()

        return [*(interpreter.submit(count).result() for interpreter in pool.interpreters), count()]

    assert in_pool(scenario, interpreters=2, shared=["libpackaged*"]) == [11, 12, 13]


def test_what_uses_the_cpython_api_cannot_be_shared_and_neither_can_what_needs_it(workshop):
    needed = workshop.library("api", "void* PyList_New(long); void* make(void) { return PyList_New(0); }")
    needing = workshop.library(
        "needing", "void* make(void); void* again(void) { return make(); }", needs=(needed,)
    )
    module = workshop.extension("sharedmodule", EXTENSION.replace("NAME", "sharedmodule"))
    folder = str(workshop.folder)

    def scenario(pool):
        def load():
            import sys

            sys.path.insert(0, folder)
            said = []
            for library in (needed, needing):
                try:
                    ctypes.CDLL(library)
                except OSError as error:
                    said.append(str(error))
            try:
                import sharedmodule  # noqa: F401
            except ImportError as error:
                said.append(str(error))
            return said

        return pool.submit(load).result()

    (first, second, third) = in_pool(scenario, shared=["libapi.so", "libneeding.so", "sharedmodule.so"])
    for path, text in ((needed, first), (module, third)):
        assert text.startswith(f'{path}: a "shared" pattern names it, but it uses the CPython API'), text
    assert text.endswith("so it can only be private")
    assert needing in second or needed in second
