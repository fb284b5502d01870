"""What a private library registers for the end, and the environment variables it sees."""

from __future__ import annotations

import ctypes
import os

from isolated import in_pool, in_pool_and_output

ENDING = r"""
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
static void say(const char *text) { (void)!write(2, text, __builtin_strlen(text)); }
struct Named {
  const char *text;
  explicit Named(const char *t) : text(t) {}
  ~Named() { say(text); }
};
static Named first("[static one]"), second("[static two]");
static void registered() { say("[atexit]"); }
static void registers_more() { say("[registers]"); atexit(registered); }
extern "C" void enrol() { atexit(registers_more); }
__attribute__((destructor)) static void last() { say("[destructor]"); }
"""


def test_exit_functions_and_static_destructors_run_when_their_interpreter_ends(workshop):
    library = workshop.library("private_ending", ENDING, cpp=True)

    def scenario(pool):
        def enrol():
            ctypes.CDLL(library).enrol()
            os.write(2, b"[enrolled]")

        for interpreter in pool.interpreters:
            interpreter.submit(enrol).result()
        pool.shutdown()
        os.write(2, b"[closed]")

    _, output = in_pool_and_output(scenario, interpreters=1)
    # Registered last, run first; what it registers then runs before what was there earlier.
    assert output == "[enrolled][registers][atexit][static two][static one][destructor][closed]"
    _, output = in_pool_and_output(scenario, interpreters=3)
    assert output.startswith("[enrolled]" * 3)
    assert output.endswith("[closed]")
    for text, count in {"[atexit]": 3, "[static one]": 3, "[static two]": 3, "[destructor]": 3}.items():
        assert output.count(text) == count


def test_destructors_run_dependents_first(workshop):
    source = """
    #include <unistd.h>
    __attribute__((constructor)) static void start(void) { (void)!write(2, "+NAME", 2); }
    __attribute__((destructor)) static void stop(void) { (void)!write(2, "-NAME", 2); }
    """
    base = workshop.library("private_base", source.replace("NAME", "b"))
    middle = workshop.library("private_middle", source.replace("NAME", "m"), needs=(base,))
    top = workshop.library("private_top", source.replace("NAME", "t"), needs=(middle,))

    def scenario(pool):
        pool.submit(lambda: ctypes.CDLL(top) and None).result()

    assert in_pool_and_output(scenario)[1] == "+b+m+t-t-m-b"


def test_a_destructor_may_use_the_libraries_it_needs(workshop):
    base = workshop.library(
        "private_base",
        "int alive = 1; __attribute__((destructor)) static void stop(void) { alive = 0; }",
    )
    top = workshop.library(
        "private_top",
        """
        #include <unistd.h>
        extern int alive;
        __attribute__((destructor)) static void stop(void) { (void)!write(2, alive ? "y" : "n", 1); }
        """,
        needs=(base,),
    )

    def scenario(pool):
        pool.submit(lambda: ctypes.CDLL(top) and None).result()

    assert in_pool_and_output(scenario)[1] == "y"


VARIABLES = r"""
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
extern char **environ;
const char *get(const char *name) { return getenv(name); }
const char *get_secure(const char *name) { return secure_getenv(name); }
int set(const char *name, const char *value) { return setenv(name, value, 1); }
int set_new(const char *name, const char *value) { return setenv(name, value, 0); }
int put(char *entry) { return putenv(entry); }
int unset(const char *name) { return unsetenv(name); }
int clear(void) { return clearenv(); }
int count(void) { int n = 0; while (environ && environ[n]) ++n; return n; }
const char *scan(const char *name) {
  size_t length = strlen(name);
  for (char **at = environ; at && *at; ++at) {
    if (strncmp(*at, name, length) == 0 && (*at)[length] == '=') return *at + length + 1;
  }
  return 0;
}
int run(const char *program) {
  pid_t child = fork();
  char *arguments[] = {"sh", "-c", (char *)program, 0};
  if (child == 0) { execv("/bin/sh", arguments); _exit(99); }
  int status = 0;
  waitpid(child, &status, 0);
  return (status >> 8) & 255;
}
"""


def opened_by(path):
    """A function for use inside an interpreter: the library with its functions typed."""

    def opened():
        library = ctypes.CDLL(path)
        for name in ("get", "get_secure", "scan"):
            getattr(library, name).restype = ctypes.c_char_p
        return library

    return opened


def test_variables_set_by_a_private_library_are_its_interpreter_s_alone(workshop):
    opened = opened_by(workshop.library("private_variables", VARIABLES))

    def scenario(pool):
        def use(value):
            library = opened()
            inherited = library.get(b"MULTIPY_TEST_INHERITED")
            library.set(b"MULTIPY_TEST", value)
            library.set_new(b"MULTIPY_TEST", b"ignored")
            return (
                inherited,
                library.get(b"MULTIPY_TEST"),
                library.scan(b"MULTIPY_TEST"),
                library.get_secure(b"MULTIPY_TEST"),
            )

        def look():
            return opened().get(b"MULTIPY_TEST")

        first, second = pool.interpreters
        results = [
            first.submit(use, b"one").result(),
            second.submit(look).result(),
            second.submit(use, b"two").result(),
        ]
        return [
            *results,
            first.submit(look).result(),
            opened().get(b"MULTIPY_TEST"),
            os.environ.get("MULTIPY_TEST"),
        ]

    os.environ["MULTIPY_TEST_INHERITED"] = "yes"
    try:
        one, unset, two, still, host, python = in_pool(scenario, interpreters=2)
    finally:
        del os.environ["MULTIPY_TEST_INHERITED"]
    assert one == (b"yes", b"one", b"one", b"one")
    assert two == (b"yes", b"two", b"two", b"two")
    assert (unset, still, host, python) == (None, b"one", None, None)


def test_a_shared_library_sees_the_variables_of_the_interpreter_that_calls_it(workshop):
    private = opened_by(workshop.library("private_variables", VARIABLES))
    shared = opened_by(workshop.library("shared_variables", VARIABLES))

    def scenario(pool):
        def use():
            private().set(b"MULTIPY_TEST", b"private")
            return shared().get(b"MULTIPY_TEST")

        os.environ["MULTIPY_TEST"] = "process"
        return pool.submit(use).result(), shared().get(b"MULTIPY_TEST")

    assert in_pool(scenario) == (b"private", b"process")


def test_variables_are_removed_replaced_and_cleared(workshop):
    opened = opened_by(workshop.library("private_variables", VARIABLES))

    def scenario(pool):
        def use():
            library = opened()
            results = []
            entry = ctypes.create_string_buffer(b"MULTIPY_TEST=put")
            library.put(entry)
            results.append(library.get(b"MULTIPY_TEST"))
            entry[13] = b"P"  # putenv: the buffer itself is the entry
            results.append(library.get(b"MULTIPY_TEST"))
            library.unset(b"MULTIPY_TEST")
            results += [library.get(b"MULTIPY_TEST"), library.set(b"", b"x"), library.set(b"a=b", b"x")]
            library.clear()
            results += [library.count(), library.get(b"PATH")]
            library.set(b"MULTIPY_TEST", b"again")
            results += [library.count(), library.scan(b"MULTIPY_TEST")]
            return results

        return pool.submit(use).result(), "PATH" in os.environ

    results, host_kept = in_pool(scenario)
    assert results == [b"put", b"Put", None, -1, -1, 0, None, 1, b"again"]
    assert host_kept


def test_python_and_c_of_one_interpreter_see_the_same_variables(workshop):
    opened = opened_by(workshop.library("private_variables", VARIABLES))

    def scenario(pool):
        def use():
            library = opened()
            os.environ["MULTIPY_TEST"] = "python"
            return library.get(b"MULTIPY_TEST"), library.scan(b"MULTIPY_TEST")

        return pool.submit(use).result()

    assert in_pool(scenario) == (b"python", b"python")


def test_a_child_process_gets_the_variables_of_the_interpreter_that_started_it(workshop):
    opened = opened_by(workshop.library("private_variables", VARIABLES))

    def scenario(pool):
        def use(code):
            import subprocess

            library = opened()
            library.set(b"MULTIPY_TEST", str(code).encode())
            os.environ["MULTIPY_TEST_PYTHON"] = str(code + 1)
            shell = "exit $MULTIPY_TEST_PYTHON"
            return library.run(b"exit $MULTIPY_TEST"), subprocess.run(["sh", "-c", shell]).returncode

        return [i.submit(use, 10 * (i.id + 1)).result() for i in pool.interpreters]

    assert in_pool(scenario, interpreters=2) == [(10, 11), (20, 21)]


def test_interpreters_change_their_variables_at_the_same_time(workshop):
    opened = opened_by(workshop.library("private_variables", VARIABLES))

    def scenario(pool):
        def use():
            library = opened()
            for n in range(3000):
                name, value = f"MULTIPY_TEST_{n % 97}".encode(), b"%d" % n
                library.set(name, value)
                if library.get(name) != value or library.scan(name) != value:
                    return n
                if n % 5 == 0:
                    library.unset(name)
            return "all"

        return [future.result() for future in pool.broadcast(use)]

    assert in_pool(scenario, interpreters=3) == ["all"] * 3
