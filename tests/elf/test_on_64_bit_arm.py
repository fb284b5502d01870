"""What 64-bit Arm asks beyond relocations: descriptors that keep registers, resolvers with arguments."""

from __future__ import annotations

import ctypes
import platform
import threading

import pytest
from isolated import in_pool

pytestmark = pytest.mark.skipif(platform.machine() != "aarch64", reason="for Arm: make test-aarch64")

OWNER = "char padding[5]; __thread char more[3000] = {1}; __thread int variable = 10;"


def registers_source():
    """Assembly of `changed`: how many registers a descriptor's function changed, 1000 if its answer is wrong.

    x0 and x30 may change; x1 holds the function, as compilers have it.
    """
    general = [number for number in range(2, 29) if number != 18]
    lines = [f"mov x{n}, #{n}" for n in general if n != 28]
    lines += [f"fmov d{n}, x{2 + n % 16}\nmov v{n}.d[1], x{3 + n % 14}" for n in range(32)]
    lines += [
        "adrp x0, :tlsdesc:variable",
        "ldr x1, [x0, #:tlsdesc_lo12:variable]",
        "add x0, x0, #:tlsdesc_lo12:variable",
        "mov x28, x1",
        ".tlsdesccall variable",
        "blr x1",
        "mov x30, #0",
        "cmp x1, x28",
        "cinc x30, x30, ne",
    ]
    for n in general:
        if n != 28:
            lines += [f"cmp x{n}, #{n}", "cinc x30, x30, ne"]
    for n in range(32):
        for lane, expected in ((0, 2 + n % 16), (1, 3 + n % 14)):
            lines += [f"mov x1, v{n}.d[{lane}]", f"cmp x1, #{expected}", "cinc x30, x30, ne"]
    lines += ["mrs x1, tpidr_el0", "ldr w1, [x1, x0]", "cmp w1, #10", "mov x1, #1000"]
    lines += ["csel x1, xzr, x1, eq", "add x0, x30, x1"]
    saved = [(19, 20), (21, 22), (23, 24), (25, 26), (27, 28)]
    before = ["stp x29, x30, [sp, #-160]!"]
    before += [f"stp x{a}, x{b}, [sp, #{16 + 16 * i}]" for i, (a, b) in enumerate(saved)]
    before += [f"stp d{n}, d{n + 1}, [sp, #{96 + 8 * (n - 8)}]" for n in range(8, 16, 2)]
    after = [line.replace("stp", "ldp") for line in before[1:]] + ["ldp x29, x30, [sp], #160", "ret"]
    code = "\\n".join(line.replace("\n", "\\n") for line in before + lines + after)
    return f'__asm__(".text\\n.globl changed\\n.type changed,%function\\nchanged:\\n{code}\\n");'


@pytest.mark.parametrize("owner", ["private_owner", "shared_owner"])
def test_a_descriptor_of_another_library_s_thread_local_changes_no_other_register(workshop, owner):
    needed = workshop.library(owner, OWNER)
    library = workshop.library("private_user", registers_source(), needs=(needed,))

    def scenario(pool):
        def use():
            handle = ctypes.CDLL(library)
            seen = [handle.changed(), handle.changed()]
            # The first use on a thread allocates its block.
            thread = threading.Thread(target=lambda: seen.append(handle.changed()))
            thread.start()
            thread.join()
            return seen

        return [future.result() for future in pool.broadcast(use)]

    assert in_pool(scenario, interpreters=2) == [[0, 0, 0]] * 2


def test_a_descriptor_of_a_static_thread_local_of_another_library_reaches_it(workshop):
    owner = workshop.library(
        "private_owner",
        "__thread int variable = 10; int *of_owner(void) { return &variable; }",
        "-ftls-model=initial-exec",
    )
    source = """
    extern __thread int variable;
    int *of_owner(void);
    int answer(void) { return (&variable == of_owner()) * 100 + ++variable; }
    """
    library = workshop.library("private_user", source, needs=(owner,))

    def scenario(pool):
        return pool.submit(lambda: [ctypes.CDLL(library).answer() for _ in range(2)]).result()

    assert in_pool(scenario) == [111, 112]


def test_a_weak_thread_local_that_nobody_defines_lies_nowhere(workshop):
    source = """
    extern __thread int absent __attribute__((weak));
    int *volatile seen;
    int answer(void) { seen = &absent; return seen == 0; }
    """
    library = workshop.library("private_weak", source)

    def scenario(pool):
        return pool.submit(lambda: ctypes.CDLL(library).answer()).result()

    assert in_pool(scenario) == 1


RESOLVED = """
#include <sys/auxv.h>
#include <sys/ifunc.h>
static int wrong(void) { return 1; }
static int right(void) { return 42; }
static void *resolve(uint64_t hwcap, const __ifunc_arg_t *more) {
  if (!(hwcap & _IFUNC_ARG_HWCAP) || more->_size < 24) return wrong;
  return more->_hwcap == getauxval(AT_HWCAP) && more->_hwcap2 == getauxval(AT_HWCAP2) ? right : wrong;
}
VISIBILITY int chosen(void) __attribute__((ifunc("resolve")));
int answer(void) { return chosen(); }
"""


@pytest.mark.parametrize("visibility", ["", "static"])
def test_a_resolver_is_told_what_the_processor_can_do(workshop, visibility):
    library = workshop.library("private_ifunc", RESOLVED.replace("VISIBILITY", visibility))

    def scenario(pool):
        return pool.submit(lambda: ctypes.CDLL(library).answer()).result()

    assert in_pool(scenario) == 42


def test_a_resolver_that_dlsym_calls_is_told_as_well(workshop):
    library = workshop.library("private_ifunc", RESOLVED.replace("VISIBILITY", ""))

    def scenario(pool):
        return pool.submit(lambda: ctypes.CDLL(library).chosen()).result()

    assert in_pool(scenario) == 42
