"""Thread-local variables of private libraries, in every model the compiler may choose."""

from __future__ import annotations

import ctypes
import platform
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from isolated import in_pool

OWN = """
#include <stdint.h>
__thread int exported = 10;
static __thread int local = 20;
static __thread _Alignas(64) char zeros[3000];
int answer(void) {
  ++exported; ++local;
  int clean = zeros[0] == 0 && zeros[2999] == 0 && (uintptr_t)zeros % 64 == 0;
  return clean * 10000 + local * 100 + exported;
}
"""
# Descriptors are what compilers for 64-bit Arm use unless told otherwise.
ARM = platform.machine() == "aarch64"
CALLS = "-mtls-dialect=trad" if ARM else "-mtls-dialect=gnu"
DESCRIPTORS = "-mtls-dialect=desc" if ARM else "-mtls-dialect=gnu2"
MODELS = {
    "general dynamic": (CALLS, "-ftls-model=global-dynamic"),
    "local dynamic": (CALLS, "-ftls-model=local-dynamic"),
    "initial exec": ("-ftls-model=initial-exec",),
    "descriptors": (DESCRIPTORS,),
    "descriptors bound at once": (DESCRIPTORS, "-Wl,-z,now"),
    "descriptors of local variables": (DESCRIPTORS, "-Wl,-Bsymbolic"),
    "optimised": ("-O2", "-Wl,-z,now"),
}


def per_thread(library):
    """A scenario: `answer()` thrice on the worker thread, twice on another, then on the first again."""

    def scenario(pool):
        def use():
            handle = ctypes.CDLL(library)
            results = [handle.answer() for _ in range(3)]
            thread = threading.Thread(target=lambda: results.extend(handle.answer() for _ in range(2)))
            thread.start()
            thread.join()
            return [*results, handle.answer()]

        return [i.submit(use).result() for i in pool.interpreters]

    return scenario


@pytest.mark.parametrize("model", MODELS)
def test_a_library_s_own_thread_locals_are_per_thread_and_interpreter(workshop, model):
    flags = MODELS[model]
    library = workshop.library("private_own", OWN, *flags)
    expected = [12111, 12212, 12313, 12111, 12212, 12414]
    assert in_pool(per_thread(library), interpreters=3) == [expected] * 3


SMALL = """
__thread long counter __attribute__((visibility("hidden")));
static __thread long other;
long count(void) { other += 2; return 1000 * other + ++counter; }
"""


@pytest.mark.parametrize("model", ["general dynamic", "local dynamic", "optimised"])
def test_small_thread_locals_are_right_with_and_without_room_in_the_static_block(workshop, model):
    library = workshop.library("private_small", SMALL, *MODELS[model])
    copies = [shutil.copy(library, f"{library}.{number}.so") for number in range(40)]  # room for some

    def scenario(pool):
        def use():
            handles = [ctypes.CDLL(copy) for copy in copies]
            results = [[handle.count() for _ in range(2)] for handle in handles]
            with ThreadPoolExecutor(1) as executor:
                return results + list(executor.map(lambda handle: [handle.count()], handles))

        return pool.submit(use).result()

    assert in_pool(scenario) == [[2001, 4002]] * 40 + [[2001]] * 40


@pytest.mark.parametrize("model", ["general dynamic", "initial exec", "descriptors"])
def test_threads_that_run_already_see_the_initial_values_of_a_library_loaded_later(workshop, model):
    library = workshop.library("private_own", OWN, *MODELS[model])

    def scenario(pool):
        def use():
            loaded, results = threading.Event(), []

            def early():
                loaded.wait()
                results.append(ctypes.CDLL(library).answer())

            thread = threading.Thread(target=early)
            thread.start()
            ctypes.CDLL(library).answer()
            loaded.set()
            thread.join()
            return results

        return pool.submit(use).result()

    assert in_pool(scenario) == [12111]


POINTERS = """
extern void *stdout;
static int variable;
__thread int *volatile own = &variable;
#ifdef FOREIGN
__thread void **volatile foreign = &stdout;
#else
static void **foreign = &stdout;
#endif
int answer(void) { return (own == &variable) + 2 * (foreign == &stdout); }
"""
PACKED = "-Wl,-z,pack-relative-relocs"


@pytest.mark.parametrize("model", ["general dynamic", "initial exec", "descriptors", "packed"])
def test_a_thread_that_runs_already_sees_pointers_among_the_initial_values(workshop, model):
    flags = ("-ftls-model=initial-exec", PACKED) if model == "packed" else MODELS[model]
    library = workshop.library("private_pointers", POINTERS, *flags)
    assert in_pool(per_thread(library), interpreters=2) == [[3] * 6] * 2


@pytest.mark.parametrize("model", ["general dynamic", "descriptors"])
def test_a_thread_that_runs_already_sees_pointers_into_other_libraries(workshop, model):
    library = workshop.library("private_pointers", POINTERS, "-DFOREIGN", *MODELS[model])
    assert in_pool(per_thread(library), interpreters=2) == [[3] * 6] * 2


def test_a_static_thread_local_that_begins_as_a_pointer_into_another_library_is_refused_by_name(workshop):
    error = refused(workshop.library("private_pointers", POINTERS, "-DFOREIGN", "-ftls-model=initial-exec"))
    assert "libprivate_pointers.so" in error
    assert "static TLS block" in error
    assert "stdout" in error


# Its constructor runs when it is opened for a library that needs it: that one is mapped then, but not bound.
EARLY = """
#include <pthread.h>
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static pthread_t thread;
static int (*asked)(void);
static void *wait(void *unused) {
  pthread_mutex_lock(&mutex);
  while (!asked) pthread_cond_wait(&changed, &mutex);
  pthread_mutex_unlock(&mutex);
  return (void *)(long)asked();
}
__attribute__((constructor)) static void start(void) { pthread_create(&thread, 0, wait, 0); }
int in_early_thread(int (*function)(void)) {
  void *result = 0;
  pthread_mutex_lock(&mutex);
  asked = function;
  pthread_cond_signal(&changed);
  pthread_mutex_unlock(&mutex);
  return pthread_join(thread, &result) == 0 ? (int)(long)result : -1;
}
"""
ASKS_EARLY = (
    POINTERS.replace("int answer", "static int right")
    + """
static __thread int number = 5;
static int seen(void) { return right() + 10 * number++; }
int in_early_thread(int (*function)(void));
int answer(void) { return in_early_thread(seen); }
"""
)


@pytest.mark.parametrize("model", ["general dynamic", "initial exec", "descriptors", "packed"])
def test_a_thread_that_starts_before_a_library_is_bound_sees_its_initial_values(workshop, model):
    early = workshop.library("shared_early", EARLY, "-pthread")
    flags = ("-ftls-model=initial-exec", PACKED) if model == "packed" else MODELS[model]
    library = workshop.library("private_late", ASKS_EARLY, *flags, needs=(early,))
    assert in_pool(lambda pool: pool.submit(lambda: ctypes.CDLL(library).answer()).result()) == 53


def test_a_static_thread_local_that_begins_as_a_pointer_to_what_comes_before_its_own_is_refused(workshop):
    pointing = workshop.library(
        "private_pointing",
        "int variable; __thread int *volatile own = &variable; int pointing(void) { return *own; }",
        "-ftls-model=initial-exec",
    )
    top = workshop.library(
        "private_top",
        "int variable = 4; int pointing(void); int answer(void) { return pointing(); }",
        needs=(pointing,),
    )
    error = refused(top)
    assert "libprivate_pointing.so" in error
    assert "static TLS block" in error
    assert "variable" in error


OWNER = """
__thread int padding = 1;
__thread int variable = 10;
int *of_owner(void) { padding++; return &variable; }
"""
USER = """
extern __thread int variable;
int *of_owner(void);
int answer(void) { return (&variable == of_owner()) * 1000 + ++variable; }
"""


@pytest.mark.parametrize("model", ["general dynamic", *(["descriptors"] if ARM else [])])
@pytest.mark.parametrize("owner", ["private_owner", "shared_owner"])
def test_a_thread_local_of_another_library_is_reached(workshop, owner, model):
    needed = workshop.library(owner, OWNER)
    user = workshop.library("private_user", USER, *MODELS[model], needs=(needed,))
    assert in_pool(per_thread(user), interpreters=1) == [[1011, 1012, 1013, 1011, 1012, 1014]]


def test_a_thread_local_of_another_private_library_is_separate_in_each_interpreter(workshop):
    user = workshop.library("private_user", USER, needs=(workshop.library("private_owner", OWNER),))
    assert in_pool(per_thread(user), interpreters=2) == [[1011, 1012, 1013, 1011, 1012, 1014]] * 2


def test_initial_exec_access_to_a_library_with_static_thread_locals_works(workshop):
    owner = workshop.library("private_owner", OWNER, "-ftls-model=initial-exec")
    user = workshop.library("private_user", USER, "-ftls-model=initial-exec", needs=(owner,))
    assert in_pool(per_thread(user)) == [[1011, 1012, 1013, 1011, 1012, 1014]]


def refused(user):
    """The error of loading `user`, and that the interpreter works on."""

    def scenario(pool):
        def attempt():
            try:
                ctypes.CDLL(user)
            except OSError as error:
                return str(error)

        return pool.submit(attempt).result(), pool.submit(sum, [1, 2]).result()

    error, three = in_pool(scenario)
    assert three == 3
    return error


@pytest.mark.parametrize("owner", ["private_owner", "shared_owner"])
def test_initial_exec_access_outside_the_static_block_is_refused_by_name(workshop, owner):
    # Not by descriptors: glibc may find small blocks that are reached by these room in the static one.
    needed = workshop.library(owner, OWNER, CALLS)
    error = refused(workshop.library("private_user", USER, "-ftls-model=initial-exec", needs=(needed,)))
    assert "libprivate_user.so" in error
    assert "initial-exec" in error
    assert "variable" in error


@pytest.mark.skipif(ARM, reason="works on 64-bit Arm, and is tested above")
@pytest.mark.parametrize("owner", ["private_owner", "shared_owner"])
def test_a_descriptor_of_another_library_s_thread_local_is_refused_by_name(workshop, owner):
    needed = workshop.library(owner, OWNER)
    error = refused(workshop.library("private_user", USER, DESCRIPTORS, needs=(needed,)))
    assert "libprivate_user.so" in error
    assert "TLS descriptor" in error
    assert "variable" in error


def test_an_undefined_thread_local_is_refused_by_name(workshop):
    error = refused(
        workshop.library(
            "private_user", "extern __thread int variable; int answer(void) { return ++variable; }"
        )
    )
    assert "undefined symbol" in error
    assert "variable" in error


@pytest.mark.parametrize("model", ["general dynamic", "initial exec"])
def test_a_thread_local_that_became_a_plain_variable_is_refused_by_name(workshop, model):
    owner = workshop.library("private_owner", OWNER)
    user = workshop.library("private_user", USER, *MODELS[model], needs=(owner,))
    workshop.library("private_owner", OWNER.replace("__thread", ""))
    error = refused(user)
    assert "libprivate_user.so" in error
    assert "not a thread-local" in error
    assert "variable" in error


def test_a_plain_variable_that_became_a_thread_local_is_refused_by_name(workshop):
    owner = workshop.library("private_owner", OWNER.replace("__thread", ""))
    user = workshop.library("private_user", USER.replace("__thread", ""), needs=(owner,))
    workshop.library("private_owner", OWNER)
    error = refused(user)
    assert "libprivate_user.so" in error
    assert "is a thread-local" in error
    assert "variable" in error


def test_a_thread_local_is_found_by_dlsym_in_the_asking_thread(workshop):
    library = workshop.library("private_owner", OWNER)

    def scenario(pool):
        def use():
            handle = ctypes.CDLL(library)
            handle.of_owner.restype = ctypes.c_void_p

            def same():
                return ctypes.addressof(ctypes.c_int.in_dll(handle, "variable")) == handle.of_owner()

            results = [same()]
            thread = threading.Thread(target=lambda: results.append(same()))
            thread.start()
            thread.join()
            return results

        return pool.submit(use).result()

    assert in_pool(scenario) == [True, True]


OBJECTS = r"""
#include <atomic>
static std::atomic<int> alive{0}, destroyed{0};
struct Object {
  int value;
  Object() : value(7) { ++alive; }
  ~Object() { --alive; ++destroyed; value = -1; }
};
thread_local Object object;
static thread_local Object other;
extern "C" int touch() { return ++object.value + 0 * other.value; }
extern "C" int state() { return 100 * alive + destroyed; }
"""


def test_thread_local_objects_are_constructed_anew_in_each_thread(workshop):
    library = workshop.library("private_objects", OBJECTS, cpp=True)

    def scenario(pool):
        def use():
            handle = ctypes.CDLL(library)
            seen = [handle.touch(), handle.touch()]
            for _ in range(2):
                thread = threading.Thread(target=lambda: seen.append(handle.touch()))
                thread.start()
                thread.join()
            return seen

        return [i.submit(use).result() for i in pool.interpreters]

    # Python joins a thread shortly before its thread-locals are destroyed; the next test counts natively.
    for seen in in_pool(scenario, interpreters=2):
        assert seen == [8, 9, 8, 8]


def test_destructors_of_thread_locals_have_run_when_the_thread_is_joined(workshop):
    source = (
        OBJECTS
        + r"""
    #include <thread>
    extern "C" int in_a_thread() { std::thread thread(touch); thread.join(); return state(); }
    """
    )
    library = workshop.library("private_objects", source, "-pthread", cpp=True)

    def scenario(pool):
        def use():
            return [ctypes.CDLL(library).in_a_thread() for _ in range(3)]

        return [i.submit(use).result() for i in pool.interpreters]

    assert in_pool(scenario, interpreters=2) == [[2, 4, 6]] * 2


def test_many_images_with_thread_locals_leave_room_for_more(workshop):
    library = workshop.library("private_own", OWN.replace("3000", "100"), *MODELS["descriptors"])

    def scenario(pool):
        return {i.submit(lambda: ctypes.CDLL(library).answer()).result() for i in pool.interpreters}

    assert in_pool(scenario, interpreters=16) == {12111}
