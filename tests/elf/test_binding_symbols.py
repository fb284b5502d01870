"""Whose definition a reference is bound to: scopes, weak and unique symbols, versions, visibility, IFUNC."""

from __future__ import annotations

import ctypes

import pytest
from isolated import in_pool


def answers(library, interpreters=1, times=1):
    """What `answer()` of `library` returns in each of the interpreters, or the error."""

    def scenario(pool):
        def answer():
            try:
                return ctypes.CDLL(library).answer()
            except OSError as error:
                return str(error)

        return [i.submit(answer).result() for _ in range(times) for i in pool.interpreters]

    return in_pool(scenario, interpreters=interpreters)


def test_a_weak_reference_that_nobody_defines_is_null(workshop):
    library = workshop.library(
        "private_weak",
        """
        __attribute__((weak)) int absent(void);
        __attribute__((weak)) extern int missing;
        int (*pointer)(void) = absent;
        int answer(void) { return (absent == 0) + 10 * (&missing == 0) + 100 * (pointer == 0); }
        """,
    )
    assert answers(library) == [111]


def test_a_weak_reference_is_bound_where_somebody_defines_it(workshop):
    provider = workshop.library("private_provider", "int present(void) { return 6; }")
    library = workshop.library(
        "private_weak",
        "__attribute__((weak)) int present(void); int answer(void) { return present ? present() : 0; }",
        needs=(provider,),
    )
    assert answers(library) == [6]


def test_the_first_definition_in_breadth_first_order_wins_weak_or_not(workshop):
    deep = workshop.library("private_deep", "int which(void) { return 3; }")
    left = workshop.library("private_left", "int left(void) { return 0; }", needs=(deep,))
    right = workshop.library(
        "private_right",
        "__attribute__((weak)) int which(void) { return 2; } int right(void) { return which(); }",
    )
    top = workshop.library(
        "private_top",
        "int left(void), right(void), which(void); int answer(void) { return 10 * which() + right(); }",
        needs=(left, right),
    )
    assert answers(top) == [22]


def test_a_definition_of_the_opened_library_takes_precedence_over_those_of_its_needs(workshop):
    base = workshop.library(
        "private_base", "int which(void) { return 1; } int call(void) { return which(); }"
    )
    top = workshop.library(
        "private_top",
        "int call(void); int which(void) { return 2; } int answer(void) { return call(); }",
        needs=(base,),
    )
    assert answers(top) == [2]


@pytest.mark.parametrize("flag", ["-Wl,-Bsymbolic", "-fvisibility=protected"])
def test_a_library_bound_to_itself_keeps_its_own_definition(workshop, flag):
    base = workshop.library(
        "private_base", "int which(void) { return 1; } int call(void) { return which(); }", flag
    )
    top = workshop.library(
        "private_top",
        "int call(void); int which(void) { return 2; } int answer(void) { return call(); }",
        needs=(base,),
    )
    assert answers(top) == [1]


def test_a_hidden_definition_is_not_offered_to_others(workshop):
    hidden = workshop.library(
        "private_hidden", '__attribute__((visibility("hidden"))) int which(void) { return 1; }'
    )
    top = workshop.library(
        "private_top", "int which(void); int answer(void) { return which(); }", needs=(hidden,)
    )
    (error,) = answers(top)
    assert "libprivate_top.so" in error
    assert "undefined symbol" in error
    assert "which" in error


def test_private_definitions_come_before_those_of_the_host(workshop):
    host = workshop.library("shared_host", "int which(void) { return 1; }")
    base = workshop.library("private_base", "int which(void) { return 2; }")
    top = workshop.library(
        "private_top", "int which(void); int answer(void) { return which(); }", needs=(base,)
    )

    def scenario(pool):
        ctypes.CDLL(host, ctypes.RTLD_GLOBAL)
        return pool.submit(lambda: ctypes.CDLL(top).answer()).result()

    assert in_pool(scenario) == 2


def test_a_symbol_nobody_private_defines_may_come_from_the_global_scope_of_the_process(workshop):
    host = workshop.library("shared_host", "int which(void) { return 1; }")
    top = workshop.library("private_top", "int which(void); int answer(void) { return which(); }")

    def scenario(pool):
        ctypes.CDLL(host, ctypes.RTLD_GLOBAL)
        return pool.submit(lambda: ctypes.CDLL(top).answer()).result()

    assert in_pool(scenario) == 1


def test_a_library_opened_globally_offers_its_symbols_and_those_of_its_needs_to_later_ones(workshop):
    base = workshop.library("private_base", "int n; int deep(void) { return ++n; }")
    provider = workshop.library(
        "private_provider", "int deep(void); int which(void) { return 10 * deep(); }", needs=(base,)
    )
    user = workshop.library(
        "private_user", "int which(void), deep(void); int answer(void) { return which() + deep(); }"
    )

    def scenario(pool):
        def use(mode):
            ctypes.CDLL(provider, mode)
            try:
                return ctypes.CDLL(user).answer()
            except OSError as error:
                return str(error)

        first, second = pool.interpreters
        return first.submit(use, ctypes.RTLD_GLOBAL).result(), second.submit(use, ctypes.RTLD_LOCAL).result()

    seen, unseen = in_pool(scenario, interpreters=2)
    assert seen == 12
    assert "undefined symbol" in unseen


INLINE = """
struct Counter { int value; Counter() : value(START) {} };
inline Counter &counter() { static Counter instance; return instance; }
template <typename T> struct Holder { static int member; };
template <typename T> int Holder<T>::member = START;
extern "C" int NAME() { return ++counter().value + 1000 * ++Holder<int>::member; }
extern "C" void *NAME_address() { return &counter(); }
"""


def test_an_inline_function_s_static_is_one_object_per_interpreter_also_of_unrelated_libraries(workshop):
    libraries = [
        workshop.library(f"private_{name}", INLINE.replace("NAME", name).replace("START", start), cpp=True)
        for name, start in (("left", "10"), ("right", "50"))
    ]

    def scenario(pool):
        def count():
            left, right = (ctypes.CDLL(path) for path in libraries)
            left.left_address.restype = ctypes.c_void_p
            return [left.left(), right.right(), left.left()], left.left_address()

        results = [i.submit(count).result() for i in pool.interpreters]
        host, address = count()
        return [counts for counts, _ in results], host, len({address, *(a for _, a in results)})

    counts, host, objects = in_pool(scenario, interpreters=2)
    assert counts == [[11011, 12012, 13013]] * 2
    assert host == [11011, 12012, 13013]
    assert objects == 3


def test_unique_symbols_of_a_library_that_failed_to_load_are_forgotten(workshop):
    broken = (
        INLINE.replace("NAME", "broken").replace("START", "10")
        + 'extern "C" void absent(); extern "C" void call() { absent(); }'
    )
    bad = workshop.library("private_broken", broken, cpp=True)
    good = workshop.library("private_good", INLINE.replace("NAME", "good").replace("START", "50"), cpp=True)

    def scenario(pool):
        def attempt():
            for _ in range(2):
                try:
                    ctypes.CDLL(bad)
                except OSError as error:
                    failure = str(error)
            return failure, ctypes.CDLL(good).good()

        return pool.submit(attempt).result()

    failure, value = in_pool(scenario)
    assert "absent" in failure
    assert value == 51051


# Versions --------------------------------------------------------------------------------------------------

VERSIONED = """
__asm__(".symver old_which, which@V1");
__asm__(".symver new_which, which@@V2");
int old_which(void) { return 1; }
int new_which(void) { return 2; }
"""


@pytest.fixture(params=["private", "shared"])
def versioned(request, workshop):
    """A library with the first version of `which` alone, and one with two."""
    script = workshop.folder / "versions"
    script.write_text("V1 { global: which; local: *; }; V2 { global: which; } V1;")
    first = workshop.folder / "first"
    first.write_text("V1 { global: which; local: *; };")
    name = f"{request.param}_versioned"
    old = workshop.library(
        name, "int which(void) { return 1; }", f"-Wl,--version-script={first}", folder="old"
    )
    both = workshop.library(name, VERSIONED, f"-Wl,--version-script={script}")
    return old, both


def test_a_reference_is_bound_to_the_version_it_was_linked_against(workshop, versioned):
    old, both = versioned
    user = """
    int which(void);
    int (*pointer)(void) = which;
    int NAME(void) { return which(); }
    int through(void) { return pointer(); }
    """
    path = f"-Wl,-rpath,{workshop.folder}"
    early = workshop.library("private_early", user.replace("NAME", "early"), path, needs=(old,))
    late = workshop.library("private_late", user.replace("NAME", "late"), path, needs=(both,))

    def scenario(pool):
        def use():
            first, second = ctypes.CDLL(early), ctypes.CDLL(late)
            return first.early(), first.through(), second.late(), second.through(), ctypes.CDLL(both).which()

        return pool.submit(use).result()

    assert in_pool(scenario) == (1, 1, 2, 2, 2)


def test_a_version_that_the_library_does_not_have_is_an_error_naming_both(workshop, versioned):
    _, both = versioned
    user = workshop.library(
        "private_user",
        "int which(void); int answer(void) { return which(); }",
        "-Wl,-rpath,$ORIGIN/old",
        needs=(both,),
    )
    (error,) = answers(user)
    assert "libprivate_user.so" in error
    assert "which@V2" in error


# IFUNC -----------------------------------------------------------------------------------------------------

CHOOSING = """
static int offset = 40;
static int *moved = &offset;
static int plain(void) { return 1 + *moved; }
static int fancy(void) { return 2 + *moved; }
static int (*choose(void))(void) { return *moved == 40 ? fancy : plain; }
__attribute__((ifunc("choose"))) int chosen(void);
__attribute__((ifunc("choose"))) static int own(void);
int (*pointer)(void) = chosen;
int inside(void) { return chosen() + pointer() + own(); }
"""


def test_an_indirect_function_is_resolved_for_its_own_library_for_others_and_for_dlsym(workshop):
    provider = workshop.library("private_provider", CHOOSING)
    user = workshop.library(
        "private_user",
        """
        int chosen(void), inside(void);
        int (*elsewhere)(void) = chosen;
        int answer(void) { return inside() + chosen() + elsewhere() + (elsewhere == chosen ? 1000 : 0); }
        """,
        needs=(provider,),
    )
    assert answers(user, interpreters=2) == [1000 + 5 * 42] * 2

    def scenario(pool):
        return pool.submit(lambda: ctypes.CDLL(provider).chosen()).result()

    assert in_pool(scenario) == 42


def test_an_indirect_function_of_a_shared_library_is_resolved(workshop):
    provider = workshop.library("shared_provider", CHOOSING)
    user = workshop.library(
        "private_user",
        """
        int chosen(void);
        int (*elsewhere)(void) = chosen;
        int answer(void) { return chosen() + elsewhere(); }
        """,
        needs=(provider,),
    )
    assert answers(user) == [84]


def test_what_one_interpreter_found_is_not_taken_for_what_another_has_loaded(workshop):
    override = workshop.library("private_override", "int which(void) { return 2; }")
    base = workshop.library("private_base", "int which(void) { return 1; } int spare(void) { return 5; }")
    top = workshop.library(
        "private_top",
        "int which(void), spare(void); int answer(void) { return 10 * which() + spare(); }",
        needs=(base,),
    )

    def scenario(pool):
        def answer(overridden):
            if overridden:
                ctypes.CDLL(override, mode=ctypes.RTLD_GLOBAL)
            return ctypes.CDLL(top).answer()

        with_or_without = zip(pool.interpreters, [False, True, False, True], strict=True)
        return [
            interpreter.submit(answer, overridden).result() for interpreter, overridden in with_or_without
        ]

    assert in_pool(scenario, interpreters=4) == [15, 25, 15, 25]


def test_each_interpreter_is_bound_to_its_own_copy_of_what_another_found(workshop):
    base = workshop.library("private_base", "int count; int *counter(void) { return &count; }")
    top = workshop.library(
        "private_top",
        """
        extern int count;
        int *counter(void);
        int answer(void) { return counter() == &count ? ++count : -1; }
        """,
        needs=(base,),
    )
    assert answers(top, interpreters=3, times=2) == [1, 1, 1, 2, 2, 2]
