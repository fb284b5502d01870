"""What the process puts before libc holds in private libraries too; fork handlers are one interpreter's."""

from __future__ import annotations

import ctypes
import os

from isolated import in_pool

COUNTING = """
#include <pthread.h>
static int prepared, in_parent, in_child;
static void prepare(void) { prepared++; }
static void parent(void) { in_parent++; }
static void child(void) { in_child++; }
void enrol(void) { pthread_atfork(prepare, parent, child); }
int counted(void) { return 100 * prepared + 10 * in_parent + in_child; }
"""


def test_a_preloaded_definition_without_version_interposes_in_private_libraries(workshop, monkeypatch):
    # As jemalloc and tcmalloc interpose malloc and free; libc's own definitions have versions.
    preloaded = workshop.library("preloaded", "int getppid(void) { return 4242; }")
    asks = workshop.library("private_asks", "#include <unistd.h>\nint asks(void) { return getppid(); }")
    monkeypatch.setenv("LD_PRELOAD", preloaded)

    def scenario(pool):
        return pool.submit(lambda: ctypes.CDLL(asks).asks()).result(), os.getppid()

    assert in_pool(scenario) == (4242, 4242)


def test_fork_handlers_run_when_their_own_interpreter_forks(workshop):
    library = workshop.library("private_counting", COUNTING)

    def scenario(pool):
        def enrol():
            ctypes.CDLL(library).enrol()

        def counted():
            return ctypes.CDLL(library).counted()

        def forked():
            child = os.fork()
            if child == 0:
                os._exit(ctypes.CDLL(library).counted())
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

        for future in pool.broadcast(enrol):
            future.result()
        host_child = os.fork()
        if host_child == 0:
            os._exit(0)
        os.waitpid(host_child, 0)
        after_the_host = [future.result() for future in pool.broadcast(counted)]
        first, second = pool.interpreters
        return (
            after_the_host,
            first.submit(forked).result(),
            first.submit(counted).result(),
            second.submit(counted).result(),
        )

    assert in_pool(scenario, interpreters=2) == ([0, 0], 101, 110, 0)
