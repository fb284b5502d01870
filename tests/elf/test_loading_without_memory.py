"""An interpreter loads a library while there is no memory, and then again."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from isolated import in_pool

SHIM = Path(__file__).parent.parent / "faults" / "shim.c"
COUNTER = "static int count = 10; int next(void) { return ++count; }"
OPENER = """
#include <dlfcn.h>
extern int fault_kind(const char*);
extern void fault_arm(int, long, int);
extern void fault_disarm(void);
extern long fault_failed(void);
int open_without_memory(const char* path, long call) {
  fault_arm(fault_kind("malloc"), call, 0);
  void* handle = dlopen(path, RTLD_NOW);
  fault_disarm();
  return (handle != 0) | (fault_failed() != 0) << 1;
}
int open_again(const char* path) { return dlopen(path, RTLD_NOW) != 0; }
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no compiler")
def test_a_library_that_did_not_load_for_lack_of_memory_is_private_all_the_same(workshop, monkeypatch):
    counter = Path(workshop.library("counter", COUNTER, folder="thing.libs"))
    opener = workshop.library("private_opener", OPENER)
    shim = workshop.folder / "shim.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(shim), str(SHIM)], check=True)
    monkeypatch.setenv("LD_PRELOAD", str(shim))

    def scenario(pool):
        def fail_each():
            import ctypes
            import shutil

            library = ctypes.CDLL(opener)
            opened = []
            call = 0
            failed = True
            while failed:
                call += 1
                # Each a file of its own: what has loaded once stays.
                copy = str(counter.with_name(f"libcounter_{call}.so"))
                shutil.copyfile(counter, copy)
                answer = library.open_without_memory(copy.encode(), call)
                failed = bool(answer & 2)
                if not answer & 1:
                    assert library.open_again(copy.encode())
                opened.append(copy)
            return opened

        opened = pool.submit(fail_each).result()
        private = {image.path for image in pool.images()[0] if image.private}
        return len(opened), [path for path in opened if path not in private]

    tried, shared = in_pool(scenario)
    assert tried > 20
    assert shared == []
