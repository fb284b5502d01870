"""A shared library is one for all, but libc answers it for the interpreter whose thread asks."""

from __future__ import annotations

import ctypes
import os

from isolated import in_pool

READER = r"""
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <thread>
#include <time.h>
#include <unistd.h>
static char at_load[64];
static const char* read_variable() {
  const char* value = getenv("MULTIPY_SAMPLE");
  return value ? value : "none";
}
__attribute__((constructor)) static void load() { strcpy(at_load, read_variable()); }
extern "C" const char* read_it() { return read_variable(); }
extern "C" const char* read_at_load() { return at_load; }
extern "C" const char* read_in_a_thread() {
  const char* value = nullptr;
  std::thread([&] { value = read_variable(); }).join();
  return value;
}
extern "C" const char* read_environ() {
  for (char** entry = environ; entry && *entry; ++entry)
    if (strncmp(*entry, "MULTIPY_SAMPLE=", 15) == 0) return *entry + 15;
  return "none";
}
extern "C" void write_it(const char* value) { setenv("MULTIPY_SAMPLE", value, 1); }
extern "C" int hour() { time_t epoch = 0; tm out; localtime_r(&epoch, &out); return out.tm_hour; }
"""

WAYS = ("read_it", "read_in_a_thread", "read_at_load", "read_environ")


def test_variables_are_those_of_the_interpreter_and_for_the_host_its_own(workshop):
    needed = workshop.library("shared_reader", READER, cpp=True)
    # One that is loaded because another needs it, and one by its own name.
    top = workshop.library(
        "shared_top",
        "const char* read_it(void);\nconst char* pass(void) { return read_it(); }",
        needs=(needed,),
    )

    def scenario(pool):
        def look(path, value=None, name="read_it"):
            library = ctypes.CDLL(path)
            if value is not None:
                os.environ["MULTIPY_SAMPLE"] = value
            function = library[name]
            function.restype = ctypes.c_char_p
            return function().decode()

        os.environ["MULTIPY_SAMPLE"] = "hosts"
        one, other = pool.interpreters
        seen = [one.submit(look, top, "mine", "pass").result(), other.submit(look, needed).result()]
        seen += [
            [one.submit(look, needed, None, name).result() for name in WAYS],
            [look(needed, None, name) for name in WAYS],
        ]

        def write(path):
            ctypes.CDLL(path).write_it(b"written")
            return look(path)

        return [*seen, one.submit(write, needed).result(), look(needed)]

    own, others, mine, hosts, written, after = in_pool(scenario, interpreters=2)
    assert (own, others) == ("mine", "none")
    assert mine == ["mine", "mine", "hosts", "hosts"]
    assert hosts == ["hosts"] * 4
    assert (written, after) == ("written", "hosts")


def test_a_library_that_was_closed_and_opened_again_asks_the_seam(workshop):
    library = workshop.library("shared_reader", READER, cpp=True)

    def scenario(pool):
        def look(path):
            import _ctypes

            os.environ["MULTIPY_SAMPLE"] = "mine"
            seen = []
            for _ in range(3):
                handle = _ctypes.dlopen(path, 0)
                function = ctypes.CFUNCTYPE(ctypes.c_char_p)(_ctypes.dlsym(handle, "read_it"))
                seen.append(function().decode())
                _ctypes.dlclose(handle)
            return seen

        return pool.submit(look, library).result()

    assert in_pool(scenario) == ["mine"] * 3


def test_time_zones_are_those_of_the_interpreter_in_shared_libraries_too(workshop):
    library = workshop.library("shared_reader", READER, cpp=True)

    def scenario(pool):
        def hour(path):
            import time

            os.environ["TZ"] = "Asia/Tokyo"
            time.tzset()
            return ctypes.CDLL(path).hour()

        return pool.submit(hour, library).result(), ctypes.CDLL(library).hour() == __import__(
            "time"
        ).localtime(0).tm_hour

    assert in_pool(scenario) == (9, True)
