"""Near vm.max_map_count: libraries and pools are refused, by the limit's name, and the host goes on."""

import ctypes
import mmap
import subprocess
import sys
import threading
import time
from pathlib import Path

import multipy_actors as multipy

LEFT = 900  # the loader leaves more to the host
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


def count():
    return Path("/proc/self/maps").read_bytes().count(b"\n")


def use_up(limit):
    """Have the process make mappings until LEFT are left; return what gives them back."""
    wanted = limit - LEFT - count()
    size = (wanted + 4) * mmap.PAGESIZE
    reserve = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000  # MAP_NORESERVE
    start = libc.mmap(None, size, 0, reserve, -1, 0)
    for page in range(0, wanted, 2):
        assert libc.mprotect(start + page * mmap.PAGESIZE, mmap.PAGESIZE, mmap.PROT_READ) == 0
    return lambda: libc.munmap(start, size)


def load():
    import _decimal

    return int(_decimal.Decimal(10))


def error_of(function):
    try:
        function()
    except (ImportError, multipy.InterpreterStartError) as error:
        return str(error)
    raise AssertionError("it was not refused")


limit = int(Path("/proc/sys/vm/max_map_count").read_text())
with multipy.Pool(1) as pool:
    assert pool.submit(count).result() > 0  # functions of the script arrive there
    give_back = use_up(limit)
    time.sleep(1.5)  # the loader counts once a second at most
    for refused in (lambda: pool.submit(load).result(), lambda: multipy.Pool(1)):
        text = error_of(refused)
        assert "vm.max_map_count" in text and str(limit) in text, text
    assert limit - count() > LEFT // 2, "the loader has taken what was the host's"
    assert pool.submit(pow, 2, 10).result() == 1024
    blocks = [bytearray(1 << 20) for _ in range(50)]
    thread = threading.Thread(target=blocks.clear)
    thread.start()
    thread.join()
    assert subprocess.run([sys.executable, "-c", ""]).returncode == 0
    give_back()
    assert pool.submit(load).result() == 10
    with multipy.Pool(1) as other:
        assert other.submit(load).result() == 10
