# What C's popen starts has the environment of the job, and blocks no signals.
import ctypes
import os

import multipy_actors as multipy


def look():
    os.environ["MINE"] = "1"
    libc = ctypes.CDLL(None)
    libc.popen.restype = ctypes.c_void_p
    text = []
    for command in (b"echo MINE=$MINE", b"grep SigBlk /proc/self/status"):
        stream = ctypes.c_void_p(libc.popen(command, b"r"))
        line = ctypes.create_string_buffer(200)
        libc.fgets(line, 200, stream)
        assert libc.pclose(stream) == 0
        text.append(line.value.decode().split())
    return text


with multipy.Pool(1) as pool:
    assert pool.submit(look).result() == [["MINE=1"], ["SigBlk:", "0" * 16]]
