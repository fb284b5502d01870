"""What the process has of what a leak would show in: memory, descriptors, threads, mappings, keys.

Libraries are never unloaded, so those of an interpreter stay when it has ended; that is allowed for. All else
must be as it was, but for some memory of allocators. What is made when first needed the warm-up has had made.
"""

from __future__ import annotations

import ctypes
import gc
import os
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

SETTLING_SECONDS = 20.0  # for what goes on a little after the calls: threads that end, releases
MEBIBYTE = 1 << 20

_libc = ctypes.CDLL(None)


@dataclass
class Resources:
    """What the process has at one moment."""

    memory: int  # resident, in MiB
    descriptors: Counter[str]
    threads: Counter[str]
    mappings: int
    keys: int

    @classmethod
    def now(cls) -> Resources:
        gc.collect()
        if hasattr(_libc, "malloc_trim"):
            _libc.malloc_trim(0)
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return cls(
            pages * os.sysconf("SC_PAGE_SIZE") // MEBIBYTE,
            _descriptors(),
            _threads(),
            Path("/proc/self/maps").read_text().count("\n"),
            _keys(),
        )

    def __str__(self) -> str:
        return (
            f"memory {self.memory} MiB, descriptors {self.descriptors.total()}, "
            f"threads {self.threads.total()}, mappings {self.mappings}, keys {self.keys}"
        )

    def growth(self, since: Resources, interpreters_ended: int) -> list[str]:
        """Say what there is more of than there may be; so many interpreters have ended since."""
        complaints = []
        if self.memory > since.memory * 1.1 + 32 + 20 * interpreters_ended:
            complaints.append(f"memory: {since.memory} MiB before")
        if self.descriptors.total() > since.descriptors.total():
            complaints.append(f"descriptors: {dict(self.descriptors - since.descriptors)}")
        if self.threads.total() > since.threads.total():
            complaints.append(f"threads: {dict(self.threads - since.threads)}")
        if self.mappings > since.mappings * 1.05 + 60 + 130 * interpreters_ended:
            complaints.append(f"mappings: {since.mappings} before")
        if self.keys > since.keys:
            complaints.append(f"keys: {since.keys} before")
        return complaints


def settled(since: Resources | None, interpreters_ended: int) -> tuple[Resources, list[str]]:
    """Return what there is when it has settled, and what there is too much of."""
    deadline = time.monotonic() + SETTLING_SECONDS
    while True:
        now = Resources.now()
        complaints = now.growth(since, interpreters_ended) if since is not None else []
        if not complaints or time.monotonic() > deadline:
            return now, complaints
        time.sleep(0.2)


def _descriptors() -> Counter[str]:
    names: Counter[str] = Counter()
    for number in os.listdir("/proc/self/fd"):
        try:
            names[os.readlink(f"/proc/self/fd/{number}").partition(":")[0]] += 1
        except OSError:  # that of the folder itself
            continue
    return names


def _threads() -> Counter[str]:
    names: Counter[str] = Counter()
    for number in os.listdir("/proc/self/task"):
        try:
            names[Path(f"/proc/self/task/{number}/comm").read_text().strip()] += 1
        except OSError:
            continue
    return names


def _keys() -> int:
    """Count the thread-specific keys that are taken, by taking the others for a moment."""
    key, taken = ctypes.c_uint(), []
    while _libc.pthread_key_create(ctypes.byref(key), None) == 0:
        taken.append(key.value)
    for number in taken:
        _libc.pthread_key_delete(number)
    return os.sysconf("SC_THREAD_KEYS_MAX") - len(taken)
