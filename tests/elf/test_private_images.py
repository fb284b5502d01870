"""Which data is whose: images, shared libraries and the host's own copy; constructors run once per image."""

from __future__ import annotations

import ctypes
import os
import shutil

import pytest
from building import EXTENSION
from isolated import in_pool

# A counter in initialised data, and an array that ends far outside the file's bytes.
COUNTER = "static int count = 10; int zeros[5000]; int next(void) { return ++count + zeros[4999]++ * 0; }"


def test_a_private_library_counts_separately_in_each_interpreter_and_the_host(workshop):
    library = workshop.library("private_counter", COUNTER)

    def scenario(pool):
        def count(times):
            return [ctypes.CDLL(library).next() for _ in range(times)]

        host = count(1)
        first = pool.interpreters[0].submit(count, 3).result()
        second = pool.interpreters[1].submit(count, 2).result()
        return host, first, second, count(1)

    assert in_pool(scenario, interpreters=2) == ([11], [11, 12, 13], [11, 12], [12])


def test_a_shared_library_counts_once_for_all(workshop):
    library = workshop.library("shared_counter", COUNTER)

    def scenario(pool):
        def count():
            return ctypes.CDLL(library).next()

        return [count(), *(interpreter.submit(count).result() for interpreter in pool.interpreters), count()]

    assert in_pool(scenario, interpreters=2) == [11, 12, 13, 14]


def test_a_shared_pattern_overrules_a_private_one_and_a_pattern_may_name_a_path(workshop):
    chosen = workshop.library("private_counter", COUNTER, folder="chosen")
    other = workshop.library("shared_counter", COUNTER, folder="other")

    def scenario(pool):
        def count(library):
            return ctypes.CDLL(library).next()

        return [pool.submit(count, library).result() or 0 for library in (chosen, other)] + [
            count(library) for library in (chosen, other)
        ]

    shared_after_all = in_pool(scenario, private=["*chosen/*"], shared=["libprivate_counter.so"])
    assert shared_after_all == [11, 11, 12, 12]
    private_by_path = in_pool(scenario, private=["*chosen/*", "*/other/*.so"])
    assert private_by_path == [11, 11, 11, 11]


def test_an_extension_module_has_its_own_data_in_each_interpreter(workshop):
    source = EXTENSION.replace("PyLong_FromLong(42)", "PyLong_FromLong(++count)")
    workshop.extension("counting", "static long count;" + source.replace("NAME", "counting"))
    folder = str(workshop.folder)

    def scenario(pool):
        def count():
            import sys

            sys.path.insert(0, folder)
            import counting

            return counting.answer(), counting.__file__

        return [
            interpreter.submit(count).result() for interpreter in (*pool.interpreters, *pool.interpreters)
        ]

    path = os.path.join(folder, "counting.so")
    assert in_pool(scenario, interpreters=2) == [(1, path), (1, path), (2, path), (2, path)]


def test_one_file_under_several_names_is_one_image(workshop):
    library = workshop.library("private_counter", COUNTER)
    link = os.path.join(os.path.dirname(library), "libprivate_link.so")
    os.symlink(library, link)

    def scenario(pool):
        def count():
            roundabout = library.replace("/libprivate", "/./libprivate")
            return [ctypes.CDLL(path).next() for path in (library, link, roundabout)]

        return pool.submit(count).result()

    assert in_pool(scenario) == [11, 12, 13]


def test_two_files_of_one_basename_are_two_images(workshop):
    libraries = [
        workshop.library(
            "private_twin", f"static int n = {n}; int next(void) {{ return ++n; }}", folder=name, soname=None
        )
        for n, name in ((100, "left"), (200, "right"))
    ]

    def scenario(pool):
        def count():
            return [ctypes.CDLL(path).next() for path in libraries * 2]

        return [interpreter.submit(count).result() for interpreter in pool.interpreters]

    assert in_pool(scenario, interpreters=2) == [[101, 201, 102, 202]] * 2


def test_constructors_run_once_per_image_dependencies_first(workshop):
    log = workshop.library(
        "shared_log",
        """
        static char text[99];
        static int n;
        void put(char c) { text[n++] = c; }
        char *get(void) { return text; }
        """,
    )

    def letter(name, c, *needs):
        source = f"void put(char); __attribute__((constructor)) static void start(void) {{ put('{c}'); }}"
        return workshop.library(name, source, needs=(*needs, log))

    base = letter("private_base", "a")
    left = letter("private_left", "b", base)
    right = letter("private_right", "c", base)
    top = letter("private_top", "d", left, right)

    def scenario(pool):
        def load():
            for _ in range(2):
                ctypes.CDLL(top)
                ctypes.CDLL(base)
            get = ctypes.CDLL(log).get
            get.restype = ctypes.c_char_p
            return get().decode()

        return [interpreter.submit(load).result() for interpreter in pool.interpreters]

    first, both = in_pool(scenario, interpreters=2)
    assert sorted(first) == ["a", "b", "c", "d"]
    assert first[0] == "a"
    assert first[-1] == "d"
    assert both == first * 2


def test_constructors_get_the_arguments_of_the_process_and_run_in_their_order(workshop):
    source = """
    #include <string.h>
    static int order, first, second, arguments;
    __attribute__((constructor(102))) static void later(void) { second = ++order; }
    __attribute__((constructor(101))) static void sooner(int argc, char **argv, char **envp) {
      first = ++order;
      arguments = argc > 0 && argv[argc] == 0 && strstr(argv[0], "python") != 0 && envp != 0;
    }
    void _init_by_hand(void) { order = order ? 99 : 10; }
    int state(void) { return first * 100 + second * 10 + arguments; }
    """
    library = workshop.library("private_arguments", source, "-Wl,-init=_init_by_hand")

    def scenario(pool):
        return pool.submit(lambda: ctypes.CDLL(library).state()).result()

    # DT_INIT runs before DT_INIT_ARRAY: 11 and 12.
    assert in_pool(scenario) == 11 * 100 + 12 * 10 + 1


def test_a_library_that_needs_itself_in_a_circle_is_loaded_once(workshop):
    first = workshop.library("private_first", "int one(void) { return 1; }")
    second = workshop.library(
        "private_second", "int one(void); int two(void) { return one() + 1; }", needs=(first,)
    )
    workshop.library(
        "private_first",
        "int two(void); int one(void) { return 1; } int three(void) { return two() + 1; }",
        needs=(second,),
    )

    def scenario(pool):
        return pool.submit(lambda: ctypes.CDLL(first).three()).result()

    assert in_pool(scenario) == 3


def test_a_constructor_may_open_further_private_libraries(workshop):
    inner = workshop.library("private_inner", "int n = 7; int get(void) { return n; }")
    outer = workshop.library(
        "private_outer",
        f"""
        #include <dlfcn.h>
        static int got;
        __attribute__((constructor)) static void start(void) {{
          void *handle = dlopen("{inner}", RTLD_NOW);
          got = ((int (*)(void))dlsym(handle, "get"))();
        }}
        int answer(void) {{ return got; }}
        """,
    )

    def scenario(pool):
        return pool.submit(
            lambda: (ctypes.CDLL(outer).answer(), ctypes.c_int.in_dll(ctypes.CDLL(inner), "n").value)
        ).result()

    assert in_pool(scenario) == (7, 7)


def test_a_file_replaced_on_disk_is_loaded_anew_by_the_next_interpreter(workshop):
    library = workshop.library("private_release", "int version(void) { return 1; }")
    newer = workshop.library("private_release", "int version(void) { return 2; }", folder="newer")

    def scenario(pool):
        def version():
            return ctypes.CDLL(library).version()

        before = pool.interpreters[0].submit(version).result()
        os.replace(newer, library)
        return before, pool.interpreters[1].submit(version).result()

    assert in_pool(scenario, interpreters=2) == (1, 2)


# Links of all kinds ----------------------------------------------------------------------------------------

EVERYTHING = """
#include <stdlib.h>
#include <string.h>
int numbers[3] = {1, 2, 3};
static int hidden = 4;
int *pointers[] = {&numbers[0], &numbers[1], &numbers[2], &hidden, 0};
const char *const names[] = {"one", "two", 0};
static int (*const comparer)(const char *, const char *) = strcmp;
int total(void) {
  int sum = 0;
  for (int **at = pointers; *at; ++at) sum += **at;
  char *copy = malloc(8);
  strcpy(copy, names[1]);
  sum += comparer(copy, "two") == 0 ? 100 : 0;
  free(copy);
  ++hidden;
  return sum;
}
"""


@pytest.mark.parametrize(
    "flags",
    [
        ("-Wl,-z,now",),
        ("-Wl,-z,lazy",),
        ("-Wl,-z,norelro",),
        ("-Wl,-z,relro,-z,now",),
        ("-Wl,-z,pack-relative-relocs",),
        ("-Wl,--hash-style=sysv",),
        ("-Wl,--hash-style=gnu",),
        ("-Wl,--hash-style=both",),
        ("-Wl,-z,noseparate-code",),
        ("-Wl,-z,max-page-size=0x200000",),
        ("-Wl,-z,combreloc",),
        ("-Wl,-z,nocombreloc",),
        ("-Wl,-Bsymbolic",),
        ("-fno-plt",),
        ("-fuse-ld=gold",),
        ("-nostartfiles",),
        ("-g", "-Wl,--compress-debug-sections=zlib"),
    ],
    ids=" ".join,
)
def test_a_library_linked_in_any_way_works(workshop, flags):
    if "-fuse-ld=gold" in flags and not shutil.which("ld.gold"):
        pytest.skip("no gold linker here")
    library = workshop.library("private_everything", EVERYTHING, *flags)

    def scenario(pool):
        def use():
            return [ctypes.CDLL(library).total() for _ in range(2)]

        return [interpreter.submit(use).result() for interpreter in pool.interpreters]

    assert in_pool(scenario, interpreters=2) == [[110, 111]] * 2


def test_text_relocations_are_written_and_the_text_is_protected_again(workshop):
    source = """
    static int value = 5;
    int *moved = &value;
    __asm__(".text\\n.globl where\\n.type where,%function\\n.p2align 3\\nwhere:\\n"
    #ifdef __aarch64__
            "ldr x0, 1f\\n ldr x0, [x0]\\n ret\\n .p2align 3\\n 1: .xword moved\\n");
    #else
            "movabs $moved, %rax\\n mov (%rax), %rax\\n ret\\n");
    #endif
    int *where(void);
    int get(void) { return ++*where(); }
    """
    library = workshop.library("private_text", source, "-Wl,-z,notext")

    def scenario(pool):
        def use():
            values = [ctypes.CDLL(library).get() for _ in range(2)]
            with open("/proc/self/maps") as maps:
                writable_code = [line for line in maps if "libprivate_text" in line and "wx" in line]
            return values, writable_code

        return [interpreter.submit(use).result() for interpreter in pool.interpreters]

    assert in_pool(scenario, interpreters=2) == [([6, 7], [])] * 2


def test_a_library_without_section_headers_works(workshop):
    library = workshop.library("private_bare", EVERYTHING)
    with open(library, "r+b") as file:
        header = bytearray(file.read(64))
        header[40:48] = bytes(8)  # e_shoff
        header[58:64] = bytes(6)  # e_shentsize, e_shnum, e_shstrndx
        file.seek(0)
        file.write(header)

    def scenario(pool):
        return pool.submit(lambda: ctypes.CDLL(library).total()).result()

    assert in_pool(scenario) == 110


def test_read_only_data_stays_read_only_in_an_image(workshop):
    library = workshop.library("private_constant", EVERYTHING, "-Wl,-z,relro,-z,now")

    def scenario(pool):
        def protections():
            handle = ctypes.CDLL(library)
            handle.total()

            def protection(address):
                with open("/proc/self/maps") as maps:
                    for line in maps:
                        low, high = (int(part, 16) for part in line.split()[0].split("-"))
                        if low <= address < high:
                            return line.split()[1]

            names = ("names", "numbers", "total")
            return [protection(ctypes.addressof(ctypes.c_char.in_dll(handle, name))) for name in names]

        return pool.submit(protections).result()

    assert in_pool(scenario) == ["r--p", "rw-p", "r-xp"]


@pytest.mark.parametrize("page", [0x1000, 0x10000, 0x200000])
def test_text_and_data_pages_belong_to_the_original_file(workshop, page):
    library = workshop.library("private_mapped", EVERYTHING, f"-Wl,-z,max-page-size={page:#x}")

    def scenario(pool):
        def mappings():
            ctypes.CDLL(library).total()
            with open("/proc/self/maps") as maps:
                return [line.split(None, 5)[5].strip() for line in maps if "libprivate_mapped" in line]

        return pool.submit(mappings).result()

    paths = in_pool(scenario)
    assert paths
    assert set(paths) == {library}
