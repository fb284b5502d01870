"""dlopen, dlsym, dladdr and their kin, called from inside a private library, answer for its interpreter."""

from __future__ import annotations

import ctypes
import os

import pytest
from isolated import in_pool

ASKER = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <stdio.h>
#include <string.h>

const char *failure;
static void *keep(void *result) { failure = dlerror(); return result; }
void *ask_open(const char *name, int flags) { return keep(dlopen(name, flags)); }
void *ask_symbol(void *handle, const char *name) { return keep(dlsym(handle, name)); }
void *ask_version(void *handle, const char *name, const char *version) {
  return keep(dlvsym(handle, name, version));
}
void *ask_default(const char *name) { return keep(dlsym(RTLD_DEFAULT, name)); }
void *ask_next(const char *name) { return keep(dlsym(RTLD_NEXT, name)); }
void fail_silently(void) { dlopen("/no/such/silent.so", RTLD_NOW); }
int ask_close(void *handle) { return dlclose(handle); }
const char *pending(void) { return dlerror(); }
const char *last_failure(void) { return failure; }
int call(int (*function)(void)) { return function(); }

static Dl_info info;
int ask_address(void *address) { memset(&info, 0, sizeof info); return dladdr(address, &info); }
const char *address_file(void) { return info.dli_fname; }
const char *address_symbol(void) { return info.dli_sname; }
void *address_base(void) { return info.dli_fbase; }
void *address_start(void) { return info.dli_saddr; }

static char names[1 << 18];
static int segments_of_this;
extern const char here;
const char here = 'h';
static int note(struct dl_phdr_info *entry, size_t size, void *data) {
  snprintf(names + strlen(names), sizeof names - strlen(names), "%s\n", entry->dlpi_name);
  for (int i = 0; i < entry->dlpi_phnum; ++i) {
    const ElfW(Phdr) *header = &entry->dlpi_phdr[i];
    const char *first = (const char *)entry->dlpi_addr + header->p_vaddr;
    if (header->p_type == PT_LOAD && &here >= first && &here < first + header->p_memsz) ++segments_of_this;
  }
  return 0;
}
const char *libraries(void) { names[0] = 0; segments_of_this = 0; dl_iterate_phdr(note, 0); return names; }
int found_itself(void) { return segments_of_this; }
"""
COUNTER = "int count; int next(void) { return ++count; }"


@pytest.fixture
def asker(workshop):
    """A function for use inside an interpreter: the library with its functions typed."""
    path = workshop.library("private_asker", ASKER, "-Wl,-rpath,$ORIGIN")

    def opened():
        library = ctypes.CDLL(path)
        for name in ("ask_open", "ask_symbol", "ask_version", "ask_default", "ask_next"):
            getattr(library, name).restype = ctypes.c_void_p
        for name in ("address_base", "address_start"):
            getattr(library, name).restype = ctypes.c_void_p
        for name in ("last_failure", "pending", "address_file", "address_symbol", "libraries"):
            getattr(library, name).restype = ctypes.c_char_p
        library.ask_open.argtypes = [ctypes.c_char_p, ctypes.c_int]
        library.ask_symbol.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        library.ask_version.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p]
        for name in ("ask_close", "ask_address", "call"):
            getattr(library, name).argtypes = [ctypes.c_void_p]
        return library

    return opened


def inside(function, interpreters=1):
    """Return what `function` returns in each of the interpreters of a new process."""

    def scenario(pool):
        return [i.submit(function).result() for i in pool.interpreters]

    return in_pool(scenario, interpreters=interpreters)


def test_dlopen_by_path_and_by_a_name_on_the_caller_s_search_path_gives_the_interpreter_s_image(
    workshop, asker
):
    counter = workshop.library("private_counter", COUNTER)

    def ask():
        library = asker()
        handles = [
            library.ask_open(name, os.RTLD_NOW) for name in (counter.encode(), b"libprivate_counter.so")
        ]
        counts = [library.call(library.ask_symbol(handle, b"next")) for handle in handles]
        return counts, handles[0] == handles[1], ctypes.CDLL(counter).next()

    assert inside(ask, interpreters=2) == [([1, 2], True, 3)] * 2


def test_dlopen_of_a_shared_library_gives_the_process_s(workshop, asker):
    counter = workshop.library("shared_counter", COUNTER)

    def ask():
        library = asker()
        handle = library.ask_open(b"libshared_counter.so", os.RTLD_NOW)
        return library.call(library.ask_symbol(handle, b"next")), ctypes.CDLL(counter).next()

    assert inside(ask, interpreters=2) == [(1, 2), (3, 4)]


def test_rtld_noload_finds_only_what_the_interpreter_has(workshop, asker):
    counter = workshop.library("private_counter", COUNTER)

    def scenario(pool):
        def probe():
            return bool(asker().ask_open(counter.encode(), os.RTLD_NOW | os.RTLD_NOLOAD))

        first, second = pool.interpreters
        before = first.submit(probe).result()
        first.submit(lambda: ctypes.CDLL(counter).next()).result()
        ctypes.CDLL(counter)
        return before, first.submit(probe).result(), second.submit(probe).result()

    assert in_pool(scenario, interpreters=2) == (False, True, False)


def test_rtld_global_promotes_a_library_that_is_open_already(workshop, asker):
    counter = workshop.library("private_counter", COUNTER)

    def ask():
        library = asker()
        library.ask_open(counter.encode(), os.RTLD_NOW)
        hidden = library.ask_default(b"next")
        library.ask_open(counter.encode(), os.RTLD_NOW | os.RTLD_GLOBAL)
        shown = library.ask_default(b"next")
        return hidden, library.call(shown), ctypes.CDLL(counter).next()

    assert inside(ask) == [(None, 1, 2)]


def test_rtld_default_finds_the_private_libpython_and_the_caller_s_own_symbols(asker):
    def ask():
        library = asker()
        version = ctypes.CFUNCTYPE(ctypes.c_char_p)(library.ask_default(b"Py_GetVersion"))()
        own = ctypes.cast(library.call, ctypes.c_void_p).value
        private = ctypes.cast(ctypes.pythonapi.Py_GetVersion, ctypes.c_void_p).value
        return (
            version.decode().split()[0],
            library.ask_default(b"call") == own,
            library.ask_default(b"Py_GetVersion") == private,
            bool(library.ask_default(b"malloc")),
            library.ask_default(b"no_such_symbol"),
        )

    def scenario(pool):
        def address():
            return asker().ask_default(b"Py_GetVersion")

        host = ctypes.cast(ctypes.pythonapi.Py_GetVersion, ctypes.c_void_p).value
        answers = [i.submit(ask).result() for i in pool.interpreters]
        return answers, len({host, *(i.submit(address).result() for i in pool.interpreters)})

    answers, different = in_pool(scenario, interpreters=2)
    import platform

    assert answers == [(platform.python_version(), True, True, True, None)] * 2
    assert different == 3


def test_dlopen_of_nothing_is_the_program_as_the_interpreter_knows_it(asker):
    def ask():
        library = asker()
        program = library.ask_open(None, os.RTLD_NOW)
        private = ctypes.cast(ctypes.pythonapi.Py_GetVersion, ctypes.c_void_p).value
        through_ctypes = ctypes.cast(ctypes.CDLL(None).Py_GetVersion, ctypes.c_void_p).value
        found = library.ask_symbol(program, b"Py_GetVersion")
        closed = library.ask_close(program)
        return found == private == through_ctypes, bool(library.ask_symbol(program, b"strlen")), closed

    assert inside(ask, interpreters=2) == [(True, True, 0)] * 2


def test_rtld_next_skips_the_asking_library(workshop, asker):
    def ask():
        library = asker()
        libc = ctypes.cast(ctypes.CDLL("libc.so.6").qsort, ctypes.c_void_p).value
        return library.ask_next(b"qsort") == libc, library.ask_next(b"call")

    assert inside(ask) == [(True, None)]


def test_dlerror_tells_the_last_failure_once(workshop, asker):
    counter = workshop.library("private_counter", COUNTER)

    def ask():
        library = asker()
        texts = []
        for name in (b"/no/such/private.so", b"libprivate_no_such.so"):
            assert library.ask_open(name, os.RTLD_NOW) is None
            texts.append(library.last_failure().decode())
        handle = library.ask_open(counter.encode(), os.RTLD_NOW)
        texts.append(library.last_failure())
        library.ask_symbol(handle, b"absent_symbol")
        texts.append(library.last_failure().decode())
        return [*texts, library.pending()]

    ((path, name, success, symbol, pending),) = inside(ask)
    assert "/no/such/private.so" in path
    assert "libprivate_no_such.so" in name
    assert success is None
    assert counter in symbol
    assert "absent_symbol" in symbol
    assert pending is None


def test_a_success_forgets_a_failure_that_nobody_asked_about(workshop, asker):
    counter = workshop.library("private_counter", COUNTER)
    shared = workshop.library("shared_counter", COUNTER)

    def ask():
        library = asker()
        failures = []
        for path in (counter, shared):
            handle = library.ask_open(path.encode(), os.RTLD_NOW)
            library.fail_silently()
            library.ask_symbol(handle, b"next")
            failures.append(library.last_failure())
            library.fail_silently()
            library.ask_close(handle)
            failures.append(library.pending())
        return failures

    assert inside(ask) == [[None] * 4]


def test_a_symbol_absent_from_a_shared_library_is_reported_by_dlerror(workshop, asker):
    counter = workshop.library("shared_counter", COUNTER)

    def ask():
        library = asker()
        handle = library.ask_open(counter.encode(), os.RTLD_NOW)
        library.ask_symbol(handle, b"absent_symbol")
        return library.last_failure().decode(), library.pending()

    ((text, pending),) = inside(ask)
    assert "absent_symbol" in text
    assert pending is None


def test_dlvsym_picks_a_version(workshop, asker):
    script = workshop.folder / "versions"
    script.write_text("V1 { global: which; local: *; }; V2 { global: which; } V1;")
    source = """
    __asm__(".symver old_which, which@V1");
    __asm__(".symver new_which, which@@V2");
    int old_which(void) { return 1; }
    int new_which(void) { return 2; }
    """
    path = workshop.library("private_versioned", source, f"-Wl,--version-script={script}")

    def ask():
        library = asker()
        handle = library.ask_open(path.encode(), os.RTLD_NOW)
        found = [library.ask_version(handle, b"which", version) for version in (b"V1", b"V2")]
        found.append(library.ask_symbol(handle, b"which"))
        return [library.call(function) for function in found], library.ask_version(handle, b"which", b"V3")

    assert inside(ask) == [([1, 2, 2], None)]


def test_a_closed_library_stays_loaded_and_keeps_its_state(workshop, asker):
    counter = workshop.library("private_counter", COUNTER)

    def ask():
        library = asker()
        handle = library.ask_open(counter.encode(), os.RTLD_NOW)
        first = library.call(library.ask_symbol(handle, b"next"))
        closed = library.ask_close(handle)
        again = library.ask_open(counter.encode(), os.RTLD_NOW)
        return first, closed, again == handle, library.call(library.ask_symbol(again, b"next"))

    assert inside(ask) == [(1, 0, True, 2)]


def test_dladdr_names_the_original_file_its_base_and_the_nearest_symbol(workshop, asker):
    counter = workshop.library("private_counter", COUNTER)

    def ask():
        library = asker()
        address = ctypes.cast(ctypes.CDLL(counter).next, ctypes.c_void_p).value
        found = library.ask_address(address + 1)
        private = (
            found,
            library.address_file().decode(),
            library.address_symbol(),
            library.address_start() == address,
        )
        in_base = library.address_base() < address
        libc = ctypes.cast(ctypes.CDLL("libc.so.6").qsort, ctypes.c_void_p).value
        shared = library.ask_address(libc), os.path.basename(library.address_file()), library.address_symbol()
        return private, in_base, shared, library.ask_address(8)

    private = (1, counter, b"next", True)
    assert inside(ask, interpreters=2) == [(private, True, (1, b"libc.so.6", b"qsort"), 0)] * 2


def test_dl_iterate_phdr_shows_the_interpreter_its_own_images_under_their_names(workshop, asker):
    counter = workshop.library("private_counter", COUNTER)

    def scenario(pool):
        def listed(load):
            library = asker()
            if load:
                ctypes.CDLL(counter)
            names = library.libraries().decode().split("\n")
            return library.found_itself(), names

        first, second = pool.interpreters
        return first.submit(listed, True).result(), second.submit(listed, False).result()

    (found, names), (other_found, other_names) = in_pool(scenario, interpreters=2)
    asking = counter.replace("counter", "asker")
    assert (found, other_found) == (1, 1)
    assert (names.count(asking), other_names.count(asking)) == (1, 1)
    assert (names.count(counter), other_names.count(counter)) == (1, 0)
    assert any("libc.so.6" in name for name in names)
    assert not any("multipy-" in name for name in [*names, *other_names])
