"""Where glibc lists the images: apart from the host's libraries, or among them where unwinding asks for it.

The second is had by preloading an unwinder that does not ask `_dl_find_object`, as LLVM's or a sanitizer's.
"""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from isolated import in_pool

# Wherever it stands before libgcc's own, exceptions are raised through it.
UNWINDER = """
#include <dlfcn.h>
int _Unwind_RaiseException(void *exception) {
  static int (*libgcc)(void *);
  if (!libgcc) libgcc = dlsym(dlopen("libgcc_s.so.1", RTLD_NOW), "_Unwind_RaiseException");
  return libgcc(exception);
}
"""
# `listed` counts the entries whose name has `part` in it and keeps the last of them.
WALKER = r"""
#define _GNU_SOURCE
#include <link.h>
#include <pthread.h>
#include <string.h>

_Thread_local int here = 7;
static struct walk {
  const char *part;
  int entries, found, stop_after, own_order;
  struct dl_phdr_info kept;
} walk;

static int note(struct dl_phdr_info *entry, size_t size, void *data) {
  struct walk *at = data;
  if (size < sizeof *entry) return -1;
  if (++at->entries == at->stop_after) return 77;
  if (!strstr(entry->dlpi_name, at->part)) return 0;
  ++at->found;
  at->own_order = at->entries;
  at->kept = *entry;
  return 0;
}
static int start(const char *part, int stop_after) {
  memset(&walk, 0, sizeof walk);
  walk.part = part;
  walk.stop_after = stop_after;
  return dl_iterate_phdr(note, &walk);
}
int listed(const char *part) { return start(part, 0) == 0 ? walk.found : -1; }
int stopped_after(int entries) { return start("", entries) == 77 && walk.entries == entries; }
int entries(void) { start("", 0); return walk.entries; }
int order_of(const char *part) { start(part, 0); return walk.own_order; }
unsigned long long ever_loaded(const char *part) { start(part, 0); return walk.kept.dlpi_adds; }
int covers_itself(const char *part) {
  start(part, 0);
  int covers = 0;
  for (int i = 0; i < walk.kept.dlpi_phnum; ++i) {
    const ElfW(Phdr) *header = &walk.kept.dlpi_phdr[i];
    size_t offset = (size_t)&walk - walk.kept.dlpi_addr - header->p_vaddr;
    covers += header->p_type == PT_LOAD && offset < header->p_memsz;
  }
  return covers;
}
int has_its_thread_locals(const char *part) {
  start(part, 0);
  size_t offset = (size_t)&here - (size_t)walk.kept.dlpi_tls_data;
  return walk.kept.dlpi_tls_modid && walk.kept.dlpi_tls_data && offset < 4096;
}
static void *ask(void *part) { return (void *)(long)listed(part); }
int in_another_thread(const char *part) {
  pthread_t thread;
  void *found = 0;
  if (pthread_create(&thread, 0, ask, (void *)part) || pthread_join(thread, &found)) return -1;
  return (int)(long)found;
}
"""
TINY = "int tiny(void) { return 1; }"
THROWER = """
#include <stdexcept>
void raises(int n) { throw std::out_of_range(std::string(n, 'x')); }
"""
CATCHER = """
#include <cstring>
#include <stdexcept>
void raises(int n);
extern "C" int answer(int n) {
  try { raises(n); } catch (const std::out_of_range &error) { return (int)std::strlen(error.what()); }
  return -1;
}
"""


def unwinder_asks_glibc() -> bool:
    """Whether this system's libgcc finds the libraries of every link-map namespace."""
    libc, version = platform.libc_ver()
    if libc != "glibc" or tuple(map(int, version.split("."))) < (2, 35):
        return False
    ctypes.CDLL("libgcc_s.so.1")
    lines = Path("/proc/self/maps").read_text().splitlines()
    path = next(line.split()[-1] for line in lines if "libgcc_s" in line)
    return b"_dl_find_object" in Path(path).read_bytes()


APART = pytest.param(
    "apart", marks=pytest.mark.skipif(not unwinder_asks_glibc(), reason="libgcc walks the host's list")
)


@pytest.fixture(params=[APART, "among"])
def place(request, workshop, monkeypatch):
    """Where the processes that the test starts have their images."""
    if request.param == "among":
        monkeypatch.setenv("LD_PRELOAD", workshop.library("unwinder", UNWINDER, "-ldl"))
    return request.param


@pytest.fixture
def walker(workshop):
    return workshop.library("private_walker", WALKER, "-pthread")


def test_the_host_sees_images_only_where_its_unwinder_must(workshop, place, walker):
    def scenario(pool):
        for interpreter in pool.interpreters:
            interpreter.submit(lambda: ctypes.CDLL(walker).entries()).result()
        shutil.copy(walker, walker.replace("private", "shared"))
        host = ctypes.CDLL(walker.replace("private", "shared"))
        return host.listed(b"libprivate_walker"), host.listed(b"//"), host.listed(b"libshared_walker")

    images, any_image, own = in_pool(scenario, interpreters=2)
    assert (images, own) == ((2, 1) if place == "among" else (0, 1))
    assert (any_image > 2) == (place == "among")


def test_a_walk_inside_lists_the_process_and_then_what_the_interpreter_has(workshop, place, walker):
    def scenario(pool):
        def load():
            library = ctypes.CDLL(walker)
            own, libc = library.order_of(b"private_walker"), library.order_of(b"libc.so.6")
            inside = [library.listed(part) for part in (b"private_walker", b"libpython", b"libc.so.6")]
            return own > libc, inside[0], inside[2], inside[1] >= 1, library.covers_itself(b"private_walker")

        first, second = pool.interpreters
        return first.submit(load).result(), second.submit(load).result(), first.submit(load).result()

    assert in_pool(scenario, interpreters=2) == ((True, 1, 1, True, 1),) * 3


def test_an_entry_tells_of_loads_and_of_this_threads_variables(workshop, place, walker):
    tiny = workshop.library("private_tiny", TINY)

    def scenario(pool):
        def ask():
            library = ctypes.CDLL(walker)
            library.ever_loaded.restype = ctypes.c_ulonglong
            before = library.ever_loaded(b"private_walker"), library.ever_loaded(b"libc.so.6")
            ctypes.CDLL(tiny)
            after = library.ever_loaded(b"private_walker")
            ctypes.c_int.in_dll(library, "here").value = 8  # from now on this thread has its block
            return before[0] == before[1], after > before[0], library.has_its_thread_locals(b"private_walker")

        return pool.submit(ask).result()

    assert in_pool(scenario) == (True, True, 1)


def test_a_walk_ends_when_it_is_told_to(workshop, place, walker):
    def scenario(pool):
        def ask():
            library = ctypes.CDLL(walker)
            total = library.entries()
            return all(library.stopped_after(count) for count in range(1, total + 1))

        return pool.submit(ask).result()

    assert in_pool(scenario) is True


def test_a_walk_in_another_thread_does_not_wait_for_a_constructor(workshop, place, walker):
    # What unwinds there walks; a constructor that waits for the thread would wait for ever.
    waits = workshop.library(
        "private_waits",
        """
        int in_another_thread(const char *part);
        static int found;
        __attribute__((constructor)) static void wait(void) { found = in_another_thread("libc.so.6"); }
        int answer(void) { return found; }
        """,
        needs=(walker,),
    )

    def scenario(pool):
        return pool.submit(lambda: ctypes.CDLL(waits).answer()).result()

    assert in_pool(scenario) == 1


def test_exceptions_cross_images_wherever_they_are(workshop, place):
    thrower = workshop.library("private_thrower", THROWER, cpp=True)
    catcher = workshop.library("private_catcher", CATCHER, needs=(thrower,), cpp=True)
    shared = workshop.library("shared_thrower", THROWER, cpp=True)
    of_shared = workshop.library("private_of_shared", CATCHER, needs=(shared,), cpp=True)

    def scenario(pool):
        def use():
            return [ctypes.CDLL(path).answer(5) for path in (catcher, of_shared)]

        return [future.result() for future in pool.broadcast(use)]

    assert in_pool(scenario, interpreters=2) == [[5, 5], [5, 5]]


def test_a_thread_that_exits_unwinds_through_images(workshop, place):
    # glibc opens libgcc_s by itself for this.
    source = """
    #include <pthread.h>
    static int unwound;
    struct Guard { ~Guard() { ++unwound; } };
    static void *leave(void *) { Guard guard; pthread_exit(&unwound); }
    extern "C" int answer() {
      pthread_t thread;
      void *result = nullptr;
      pthread_create(&thread, nullptr, leave, nullptr);
      pthread_join(thread, &result);
      return result == &unwound ? unwound : -1;
    }
    """
    leaver = workshop.library("private_leaver", source, "-pthread", cpp=True)

    def scenario(pool):
        return [future.result() for future in pool.broadcast(lambda: ctypes.CDLL(leaver).answer())]

    assert in_pool(scenario, interpreters=2) == [1, 1]


def test_images_are_among_the_hosts_libraries_when_glibc_has_no_namespace_left(workshop):
    walker = workshop.library("private_walker", WALKER, "-pthread")
    tiny = workshop.library("tiny", TINY, "-nostdlib")
    thrower = workshop.library("private_thrower", THROWER, cpp=True)
    catcher = workshop.library("private_catcher", CATCHER, needs=(thrower,), cpp=True)
    program = f"""
import ctypes, shutil
dlmopen = ctypes.CDLL(None).dlmopen
dlmopen.restype = ctypes.c_void_p
taken = 0
while dlmopen(ctypes.c_long(-1), {tiny!r}.encode(), 2):
    taken += 1
import multipy_actors as multipy
def use(path, n):
    return ctypes.CDLL(path).answer(n)
with multipy.Pool(2, private=["libprivate_*"]) as pool:
    answers = multipy.get(pool.broadcast(use, {catcher!r}, 3))
host = ctypes.CDLL(shutil.copy({walker!r}, {str(workshop.folder / "libhost.so")!r}))
print(taken > 8, answers, host.listed(b"libprivate_catcher"))
"""
    (workshop.folder / "program.py").write_text(program)
    done = subprocess.run(
        [sys.executable, str(workshop.folder / "program.py")],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert (done.returncode, done.stdout) == (0, "True [3, 3] 2\n"), done.stderr


def test_failed_libraries_leave_room_for_others(workshop, place):
    broken = workshop.library("private_broken", "int absent(void); int answer(void) { return absent(); }")
    tiny = workshop.library("private_tiny", TINY)

    def scenario(pool):
        def use():
            failures = 0
            for _ in range(200):
                try:
                    ctypes.CDLL(broken)
                except OSError as error:
                    failures += "absent" in str(error)
            return failures, ctypes.CDLL(tiny).tiny()

        return [future.result() for future in pool.broadcast(use)]

    assert in_pool(scenario, interpreters=3) == [(200, 1)] * 3


def test_a_backtrace_names_the_functions_of_images_and_their_files(workshop, place):
    inner = """
    #include <execinfo.h>
    int inner_function(void) {
      void *addresses[20];
      char **names = backtrace_symbols(addresses, backtrace(addresses, 20));
      int found = 0;
      found += strstr(names[0], "libprivate_inner.so(inner_function+") != 0;
      found += strstr(names[1], "libprivate_outer.so(answer+") != 0;
      free(names);
      return found;
    }
    """
    library = workshop.library("private_inner", "#include <stdlib.h>\n#include <string.h>\n" + inner, "-O0")
    outer = "int inner_function(void); int answer(void) { return 1 + inner_function(); }"
    outer = workshop.library("private_outer", outer, needs=(library,))

    def scenario(pool):
        return [future.result() for future in pool.broadcast(lambda: ctypes.CDLL(outer).answer())]

    assert in_pool(scenario, interpreters=2) == [3, 3]


@pytest.mark.skipif(shutil.which("gdb") is None, reason="no gdb")
def test_a_debugger_finds_images_by_their_files(workshop, place):
    source = """
    #include <stdlib.h>
    #include <sys/prctl.h>
    int stop_here(const char *command) {
      prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
      return system(command) == 0;
    }
    """
    stops = workshop.library("private_stops", source, "-g")
    output = workshop.folder / "gdb.txt"

    def scenario(pool):
        debugger = f"gdb -q -batch -nx -p {os.getpid()} -iex 'set debuginfod enabled off'"
        commands = "-ex 'info sharedlibrary private_stops' -ex 'thread apply all bt 8'"
        command = f"{debugger} {commands} >{output} 2>&1 </dev/null"
        return pool.submit(lambda: ctypes.CDLL(stops).stop_here(command.encode())).result()

    assert in_pool(scenario) == 1
    said = output.read_text()
    if "ptrace: Operation not permitted" in said:
        pytest.skip("tracing is not permitted here")
    assert "//libprivate_stops.so" in said
    assert " in stop_here (" in said


@pytest.mark.skipif(shutil.which("gdb") is None, reason="no gdb")
def test_a_program_runs_under_a_debugger_that_is_told_of_each_image(workshop, place):
    tiny = workshop.library("private_tiny", TINY)
    script = workshop.folder / "script.py"
    script.write_text(
        "import ctypes, multipy_actors as multipy\n"
        "if __name__ == '__main__':\n"
        "    with multipy.Pool(2, private=['libprivate_*']) as pool:\n"
        f"        print(multipy.get(pool.broadcast(lambda: ctypes.CDLL({tiny!r}).tiny())))\n"
    )
    # gdb itself must not be preloaded with what the program is.
    preload = f"set environment LD_PRELOAD {os.environ.get('LD_PRELOAD', '')}"
    options = ["-iex", "set debuginfod enabled off", "-iex", "set startup-with-shell off"]
    done = subprocess.run(
        [
            "gdb",
            "-q",
            "-batch",
            "-nx",
            *options,
            "-ex",
            preload,
            "-ex",
            "run",
            "--args",
            sys.executable,
            script,
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        env={name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
        | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    if "ptrace: Operation not permitted" in done.stderr:
        pytest.skip("tracing is not permitted here")
    assert "[1, 1]" in done.stdout, done.stdout + done.stderr
