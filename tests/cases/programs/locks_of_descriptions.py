"""An interpreter's locks of flock and of open file descriptions end when a process's would.

They end with the last duplicate of their descriptor, whoever has record locks on the file meanwhile, and
whatever is opened and closed besides.
"""

import contextlib
import fcntl
import os
import struct
import subprocess
import sys
import tempfile
import warnings
from concurrent.futures import ProcessPoolExecutor

import multipy_actors as multipy

path = os.path.join(tempfile.mkdtemp(), "file")
BYTES = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 50, 10, 0)
descriptors = []


def lock_file(path):
    descriptors.append(os.open(path, os.O_RDWR))
    fcntl.flock(descriptors[0], fcntl.LOCK_EX | fcntl.LOCK_NB)


def lock_description(path):
    descriptors.append(os.open(path, os.O_RDWR))
    fcntl.fcntl(descriptors[0], fcntl.F_OFD_SETLK, BYTES)


def duplicate_and_close(path):
    os.close(os.dup(descriptors[0]))


def read_once(path):
    with open(path, "rb") as file:
        file.read()


def lock_records_and_close(path):
    with open(path, "r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 5)


def duplicate_onto_another_and_close_a_range(path):
    spare = os.open(os.devnull, os.O_RDONLY)
    os.dup2(descriptors[0], spare)
    os.closerange(spare, spare + 1)


def start_a_child(path):
    subprocess.run([sys.executable, "-c", ""], pass_fds=[descriptors[0]], check=True)


def move(path):
    old = descriptors.pop()
    descriptors.append(os.dup(old))
    os.close(old)


def unlock(path):
    while descriptors:
        os.close(descriptors.pop())


def another_gets(lock):
    """Say whether another process gets what `lock` locks."""
    code = (
        "import fcntl, sys\n"
        "file = open(sys.argv[1], 'r+b')\n"
        "if sys.argv[2] == 'lock_file': fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "else: fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, 50)\n"
    )
    tried = subprocess.run([sys.executable, "-c", code, path, lock.__name__], capture_output=True, text=True)
    assert tried.returncode == 0 or "BlockingIOError" in tried.stderr, tried.stderr
    return tried.returncode == 0


@contextlib.contextmanager
def nobody_else():
    yield


@contextlib.contextmanager
def another_process():
    """Have another process lock a byte of the file."""
    code = (
        "import fcntl, sys\n"
        "file = open(sys.argv[1], 'r+b')\n"
        "fcntl.lockf(file, fcntl.LOCK_EX, 1, 0)\n"
        "print(flush=True)\n"
        "sys.stdin.read()\n"
    )
    arguments = [sys.executable, "-c", code, path]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        yield
        process.kill()


@contextlib.contextmanager
def the_host():
    """Have this process lock a byte of the file, and look that it still has it."""
    with open(path, "r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX, 1, 0)
        yield
        child = os.fork()
        if child == 0:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 0)
            except BlockingIOError:
                os._exit(0)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0, "the host's lock is gone"


def story(executor, lock, other):
    """Return whether another process gets the lock, after each step that is taken."""
    with open(path, "wb") as file:
        file.write(b"x" * 100)
    steps = [lock, duplicate_and_close, read_once, lock_records_and_close, move, read_once]
    steps += [duplicate_onto_another_and_close_a_range, start_a_child, unlock]
    free = []
    with executor(1) as pool, other():
        for step in steps:
            pool.submit(step, path).result()
            free.append((step.__name__, another_gets(lock)))
    free.append(("the end", another_gets(lock)))
    return free


if __name__ == "__main__":
    warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads
    for lock in (lock_file, lock_description):
        for other in (nobody_else, another_process, the_host):
            expected = story(ProcessPoolExecutor, lock, other)
            got = story(multipy.Pool, lock, other)
            assert got == expected, f"{lock.__name__}, {other.__name__}: {got} instead of {expected}"
            assert [step for step, is_free in got if is_free] == ["unlock", "the end"], got
