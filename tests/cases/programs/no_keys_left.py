"""Near PTHREAD_KEYS_MAX: pools are refused, by the limit's name, before anything else needs a key in vain."""

import ctypes
import os
import subprocess
import sys
import threading

import multipy_actors as multipy

libc = ctypes.CDLL(None)
made = []
key = ctypes.c_uint()
while libc.pthread_key_create(ctypes.byref(key), None) == 0:
    made.append(key.value)
most = os.sysconf("SC_THREAD_KEYS_MAX")


def give_back(count):
    for _ in range(count):
        libc.pthread_key_delete(ctypes.c_uint(made.pop()))


for left in (0, 5, 25):
    give_back(left)
    try:
        multipy.Pool(2)
    except multipy.InterpreterStartError as error:
        assert "PTHREAD_KEYS_MAX" in str(error), error
    else:
        raise AssertionError(f"a pool came up with {left} more keys left")
    thread = threading.Thread(target=print, args=("a thread of the host",))
    thread.start()
    thread.join()
    assert subprocess.run([sys.executable, "-c", ""]).returncode == 0
give_back(200)
assert most >= 1024
with multipy.Pool(2) as pool:
    assert pool.submit(pow, 2, 10).result() == 1024
