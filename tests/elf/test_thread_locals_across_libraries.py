"""Thread-locals that several libraries share, in every model and dialect; limits of the static TLS block.

What the program that hosts the interpreters defines belongs to all of them: it has one copy per thread.
"""

from __future__ import annotations

import ctypes
import threading

import pytest
from isolated import in_pool

GNU, DESCRIPTORS = ("-mtls-dialect=gnu",), ("-mtls-dialect=gnu2",)
INITIAL_EXEC = ("-ftls-model=initial-exec",)

OWNER = """
__thread int padding = 1;
__thread int variable = 10;
static __thread int first = 20, second = 30;
int *of_owner(void) { padding++; return &variable; }
int inner(void) { return ++first * 100 + ++second; }
"""
MIDDLE = """
extern __thread int variable;
__thread int between = 5;
int inner(void);
int middle(void) { return ++between * 10000 + inner(); }
"""
USER = """
extern __thread int variable, between;
int *of_owner(void);
int middle(void);
int answer(void) {
  return ((&variable == of_owner()) * 10 + (++variable - 10) + between - 5) * 1000000 + middle();
}
"""


def on_two_threads(*libraries):
    """A scenario: `answer()` of each twice on the worker's thread, once on another, in every interpreter."""

    def scenario(pool):
        def use():
            handles = [ctypes.CDLL(library) for library in libraries]
            results = [[handle.answer(), handle.answer()] for handle in handles]

            def on_another():
                for handle, seen in zip(handles, results, strict=True):
                    seen.append(handle.answer())

            thread = threading.Thread(target=on_another)
            thread.start()
            thread.join()
            return results

        return [future.result() for future in pool.broadcast(use)]

    return scenario


EXPECTED = [11062131, 13072232, 11062131]
MODELS = ("global-dynamic", "local-dynamic", "initial-exec")


@pytest.mark.parametrize("owner", ["private_owner", "shared_owner"])
@pytest.mark.parametrize("dialect", [GNU, DESCRIPTORS], ids=["gnu", "descriptors"])
def test_an_owner_of_any_dialect_and_model_is_reached_from_two_libraries(workshop, owner, dialect):
    users = []
    for model in MODELS:  # of the owner's own access; the others cannot know where its variables lie
        needed = workshop.library(f"{owner}_{model}", OWNER, f"-ftls-model={model}", *dialect)
        middle = workshop.library(f"private_middle_{model}", MIDDLE, *GNU, needs=(needed,))
        users.append(workshop.library(f"private_user_{model}", USER, *GNU, needs=(middle, needed)))
    interpreters = 1 if owner == "shared_owner" else 2  # a shared owner has one copy per thread for all
    assert in_pool(on_two_threads(*users), interpreters=interpreters) == [[EXPECTED] * 3] * interpreters


@pytest.mark.parametrize("owner", ["private_owner", "shared_owner"])
def test_initial_exec_access_to_another_library_works_where_that_is_in_the_static_block(workshop, owner):
    needed = workshop.library(owner, OWNER, *INITIAL_EXEC)
    middle = workshop.library("private_middle", MIDDLE, *INITIAL_EXEC, needs=(needed,))
    user = workshop.library("private_user", USER, *INITIAL_EXEC, needs=(middle, needed))
    assert in_pool(on_two_threads(user)) == [[EXPECTED]]


OBJECTS = r"""
#include <atomic>
struct Object {
  int value;
  Object();
  ~Object();
};
extern thread_local Object object;
extern std::atomic<int> made, gone;
"""


def test_a_thread_local_object_of_another_library_is_made_and_destroyed_once_a_thread(workshop):
    owner = workshop.library(
        "private_owner",
        OBJECTS
        + """
        std::atomic<int> made{0}, gone{0};
        Object::Object() : value(++made * 10) {}
        Object::~Object() { ++gone; }
        thread_local Object object;
        """,
        cpp=True,
    )
    user = workshop.library(
        "private_user",
        OBJECTS
        + """
        #include <thread>
        extern "C" int answer() {
          int other = 0;
          std::thread thread([&] { other = ++object.value; });
          thread.join();
          return ++object.value * 10000 + other * 100 + made * 10 + gone;
        }
        """,
        "-pthread",
        needs=(owner,),
        cpp=True,
    )

    def scenario(pool):
        return [future.result() for future in pool.broadcast(lambda: ctypes.CDLL(user).answer())]

    assert in_pool(scenario, interpreters=2) == [211121] * 2


HOST = "__thread int of_host = 3; int host_counts(void) { return ++of_host; }"
GUEST = "extern __thread int of_host; int answer(void) { return ++of_host; }"


def with_the_host_s(library, host):
    """The guest counts up the host's variable, on the worker's thread and on another."""

    def scenario(pool):
        def use():
            guest, own = ctypes.CDLL(library), ctypes.CDLL(host)
            results = [guest.answer(), own.host_counts(), guest.answer()]
            thread = threading.Thread(target=lambda: results.append(guest.answer()))
            thread.start()
            thread.join()
            return results

        return [interpreter.submit(use).result() for interpreter in pool.interpreters]

    return scenario


@pytest.mark.parametrize("model", ["global-dynamic", "initial-exec"])
def test_a_thread_local_of_the_host_is_visible_to_a_private_library(workshop, monkeypatch, model):
    host = workshop.library("shared_host", HOST)
    guest = workshop.library("private_guest", GUEST, f"-ftls-model={model}")
    monkeypatch.setenv("LD_PRELOAD", host)
    assert in_pool(with_the_host_s(guest, host), interpreters=2) == [[4, 5, 6, 4]] * 2


def test_a_thread_local_that_the_host_offers_later_is_visible_to_a_private_library(workshop):
    host = workshop.library("shared_host", HOST)
    guest = workshop.library("private_guest", GUEST)
    visible = with_the_host_s(guest, host)

    def scenario(pool):
        ctypes.CDLL(host, ctypes.RTLD_GLOBAL)
        return visible(pool)

    assert in_pool(scenario, interpreters=2) == [[4, 5, 6, 4]] * 2


@pytest.mark.parametrize("attempt", range(3))
def test_it_is_found_while_the_host_opens_and_closes_libraries(workshop, attempt):
    """Each time in a new process: looking for it took locks of glibc in the wrong order, once."""
    host = workshop.library("shared_host", HOST)
    passing = workshop.library("passing", "int nothing;")
    guest = workshop.library("private_guest", GUEST)
    visible = with_the_host_s(guest, host)

    def scenario(pool):
        ctypes.CDLL(host, ctypes.RTLD_GLOBAL)
        libdl = ctypes.CDLL(None)
        libdl.dlclose.argtypes = [ctypes.c_void_p]
        done = threading.Event()

        def come_and_go():
            while not done.is_set():
                libdl.dlclose(ctypes.CDLL(passing)._handle)

        goer = threading.Thread(target=come_and_go)
        goer.start()
        try:
            return visible(pool)
        finally:
            done.set()
            goer.join()

    assert in_pool(scenario, interpreters=2) == [[4, 5, 6, 4]] * 2


# Limits of the static block --------------------------------------------------------------------------------

STATIC = 'static __thread char block[SIZE] = "x"; int answer(void) { return block[0] + ++block[1]; }'


def attempts(*paths, times=1):
    """A scenario: in each interpreter, `answer()` of each of `paths`, or the error; `times` over."""

    def scenario(pool):
        def attempt():
            results = []
            for path in paths * times:
                try:
                    results.append(ctypes.CDLL(path).answer())
                except OSError as error:
                    results.append(str(error))
            return results

        return [interpreter.submit(attempt).result() for interpreter in pool.interpreters]

    return scenario


@pytest.mark.parametrize("big", ["private_big", "shared_big"])
def test_a_block_too_large_for_the_static_one_is_refused_by_name(workshop, big):
    library = workshop.library(big, STATIC, "-DSIZE=4000000", *INITIAL_EXEC)
    needing = workshop.library(
        "private_needing", "int answer(void); int ask(void) { return answer(); }", needs=(library,)
    )
    other = workshop.library("private_other", STATIC, "-DSIZE=100")
    ((error, of_needing, answer),) = in_pool(attempts(library, needing, other))
    assert answer == ord("x") + 1
    for text in (error, of_needing):
        assert f"lib{big}.so" in text
        assert "static TLS block" in text


def test_images_that_use_up_the_static_block_are_refused_by_name_and_others_still_load(workshop):
    static = workshop.library("private_static", STATIC, "-DSIZE=600", *INITIAL_EXEC)
    usual = workshop.library("private_usual", STATIC, "-DSIZE=600")
    results = in_pool(attempts(static, usual), interpreters=12)
    assert [answer for _, answer in results] == [ord("x") + 1] * 12
    assert results[0][0] == ord("x") + 1
    error = results[-1][0]
    assert "libprivate_static.so" in error
    assert "static TLS block" in error


def test_libraries_that_do_not_load_give_the_static_block_back(workshop):
    broken = workshop.library(
        "private_broken", STATIC + "int absent(void); int (*use)(void) = absent;", "-DSIZE=600", *INITIAL_EXEC
    )
    good = workshop.library("private_good", STATIC, "-DSIZE=600", *INITIAL_EXEC)
    ((*errors, answer),) = in_pool(attempts(*[broken] * 40, good))
    assert all("undefined symbol" in error for error in errors)
    assert answer == ord("x") + 1
