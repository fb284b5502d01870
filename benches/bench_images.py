"""What many private images cost: memory, disk, the next interpreter, and the host they share a process with.

Everything here is measured in fresh processes, because images are never unmapped.
"""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import multipy_actors as multipy
from benches import workloads
from benches.bench_memory import private_bytes
from benches.workers import Workers, in_new_host, make_executor

# Compiled into a library of the host, as code that has never heard of interpreters. Times are in seconds.
PROBE = r"""
#include <chrono>
#include <dlfcn.h>
#include <link.h>

template <typename Action> static double time_of(int repeats, Action action) {
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < repeats; ++i) action();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() / repeats;
}

[[gnu::noinline]] static void raise(int value) { throw value; }
static int count(dl_phdr_info*, size_t, void* total) { return ++*static_cast<int*>(total), 0; }

extern "C" double open_and_close(int repeats, const char* path) {
  return time_of(repeats, [=] { if (dlclose(dlopen(path, RTLD_NOW)) != 0) __builtin_trap(); });
}
extern "C" double throw_and_catch(int repeats, const char*) {
  return time_of(repeats, [] { try { raise(1); } catch (int) {} });
}
extern "C" double walk(int repeats, const char*) {
  return time_of(repeats, [] { int total = 0; dl_iterate_phdr(count, &total); });
}
"""
TINY = "int answer(void) { return 42; }"
# A script of its own would be imported again by every process that multiprocessing spawns.
HOST = "import sys; sys.path[:] = eval(sys.argv[1]); from benches import bench_images as b; b.print_usage()"
NUMBERS = {"first": 1, "second": 2, "fifth": 5}
WORKERS = [1, 8, 32]


class Usage(NamedTuple):
    """What workers use together, in bytes."""

    private: int
    copied_text: int
    written: int


class Density:
    """Workers that have imported torch and run the small model, all alive at once; the figures are sums.

    Interpreters are measured with all of their host, processes (spawned by a ProcessPoolExecutor each)
    without their parent; all are told of the same number of threads. Private memory is anonymous pages, data
    pages of images among them, and shared-memory pages. Text is copied where code of a library lies in
    anonymous pages instead of the page cache, which all workers share.
    """

    param_names = ("worker", "workers")
    params = (["interpreter", "process"], WORKERS)
    timeout = 600

    def track_private(self, worker: str, count: int) -> float:
        return usage_of(worker, count).private / 1e6

    def track_copied_text(self, worker: str, count: int) -> float:
        return usage_of(worker, count).copied_text / 1e6

    def track_written(self, worker: str, count: int) -> float:
        return usage_of(worker, count).written / 1e6

    track_private.unit = track_copied_text.unit = track_written.unit = "MB"
    track_private.pretty_name = "private memory with torch"
    track_copied_text.pretty_name = "copied text"
    track_written.pretty_name = "written to disk"


class NextInterpreter:
    """How long an interpreter takes that is the first of its process, or has others beside it.

    The first reads and plans every library; the others map what is planned.
    """

    param_names = ("number",)
    params = (list(NUMBERS),)
    timeout = 300

    def track_first_result_of(self, number: str) -> float:
        return in_new_host(seconds_to_start, NUMBERS[number], None) * 1000

    def track_torch_of(self, number: str) -> float:
        """Start-up and `import torch`."""
        return in_new_host(seconds_to_start, NUMBERS[number], "torch")

    track_first_result_of.unit = "ms"
    track_torch_of.unit = "s"
    track_first_result_of.pretty_name = "bare interpreter, start to first result"
    track_torch_of.pretty_name = "interpreter with torch, start to first result"


class ManyImages:
    """What the host's own code pays for images in its process: copies of a tiny library, in two interpreters.

    A walk over all libraries (`dl_iterate_phdr`) is as long as their list, so it is shown and no goal.
    Exceptions do without it where glibc (2.35) and libgcc (12) know `_dl_find_object`.
    """

    param_names = ("images",)
    params = ([0, 1000, 3000],)
    timeout = 300

    def setup(self, images: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="bench-images-"))
        build(self.folder, images // 2)
        self.host = make_executor("process")
        self.host.submit(fill_with_images, str(self.folder), images // 2).result()

    def teardown(self, images: int) -> None:
        self.host.submit(empty).result()
        self.host.shutdown()
        shutil.rmtree(self.folder)

    def track_open_and_close(self, images: int) -> float:
        return self._measure("open_and_close", 300)

    def track_throw_and_catch(self, images: int) -> float:
        return self._measure("throw_and_catch", 3000)

    def track_walk(self, images: int) -> float:
        return self._measure("walk", 1000)

    def _measure(self, name: str, repeats: int) -> float:
        return self.host.submit(probe, str(self.folder), name, repeats).result() * 1e6

    track_open_and_close.unit = track_throw_and_catch.unit = track_walk.unit = "µs"
    track_open_and_close.pretty_name = "`dlopen` and `dlclose` of a tiny library"
    track_throw_and_catch.pretty_name = "C++ exception, thrown and caught"
    track_walk.pretty_name = "walk over all libraries"


# Density ---------------------------------------------------------------------------------------------------


@functools.cache
def usage_of(worker: str, count: int) -> Usage:
    """Of `count` workers with torch: measured once in a process, for three figures."""
    threads = str(max(1, len(os.sched_getaffinity(0)) // count))
    done = subprocess.run(
        [sys.executable, "-c", HOST, repr(sys.path), worker, str(count)],
        env={**os.environ, "OMP_NUM_THREADS": threads},
        stdout=subprocess.PIPE,
        check=True,
    )
    return Usage(*map(int, done.stdout.split()))


def print_usage() -> None:
    """The host's part of it."""
    worker, count = sys.argv[2], int(sys.argv[3])
    before = written_by(os.getpid())
    workers = Workers(worker, count)
    processes = set(workers.each(workloads.load_and_use, "torch"))
    private = sum(map(private_bytes, processes))
    copied = sum(map(copied_text, processes))
    written = sum(map(written_by, {os.getpid(), *processes})) - before
    workers.close()
    print(*Usage(private, copied, written))


def copied_text(pid: int) -> int:
    copied = 0
    is_text = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        words = line.split()
        if not words[0].endswith(":"):  # the head of a mapping: addresses, rights, ..., file
            is_text = "x" in words[1] and len(words) > 5 and words[5].startswith("/")
        elif is_text and words[0] == "Anonymous:":
            copied += int(words[1]) * 1024
    return copied


def written_by(pid: int) -> int:
    fields = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(fields["write_bytes"])


# NextInterpreter -------------------------------------------------------------------------------------------


def seconds_to_start(number: int, module: str | None) -> float:
    """Runs in a new host: start `number - 1` interpreters at once, and then time one."""
    before = multipy.Pool(number - 1) if number > 1 else None
    if before is not None and module is not None:
        multipy.get(before.broadcast(workloads.import_seconds, module))
    start = time.perf_counter()
    pool = multipy.Pool(1)
    if module is None:
        pool.submit(abs, 0.0).result()
    else:
        pool.submit(workloads.import_seconds, module).result()
    taken = time.perf_counter() - start
    pool.shutdown()
    if before is not None:
        before.shutdown()
    return taken


# ManyImages ------------------------------------------------------------------------------------------------


def build(folder: Path, copies: int) -> None:
    (folder / "probe.cpp").write_text(PROBE)
    (folder / "tiny.c").write_text(TINY)
    subprocess.run(
        ["g++", "-O2", "-shared", "-fPIC", "-o", "libprobe.so", "probe.cpp"], cwd=folder, check=True
    )
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", "libtiny.so", "tiny.c"], cwd=folder, check=True)
    for copy in range(copies):  # of one file an interpreter would have one image
        shutil.copy(folder / "libtiny.so", folder / f"libguest_{copy}.so")


_pools: list[multipy.Pool] = []


def fill_with_images(folder: str, copies: int) -> None:
    """Runs in a new host, which keeps two interpreters with `copies` images each."""
    if copies == 0:
        return
    pool = multipy.Pool(2, private=["libguest_*"])
    _pools.append(pool)
    paths = [f"{folder}/libguest_{copy}.so" for copy in range(copies)]
    multipy.get(pool.broadcast(workloads.load_libraries, paths))


def empty() -> None:
    while _pools:
        _pools.pop().shutdown()


def probe(folder: str, name: str, repeats: int) -> float:
    """Runs in the host; the least of five, as others only add to it."""
    function = getattr(ctypes.CDLL(f"{folder}/libprobe.so"), name)
    function.restype = ctypes.c_double
    tiny = f"{folder}/libtiny.so".encode()
    return min(function(repeats, tiny) for _ in range(5))
