"""Locks on files: those of an interpreter, as if it were a process."""

from __future__ import annotations

import pytest

# `ask(path, ...)` answers for a process of its own, `Locker` for an interpreter.
PREAMBLE = """
import fcntl, os, struct, subprocess, sys, tempfile, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads
import multipy_actors as multipy

path = os.path.join(tempfile.mkdtemp(dir="."), "file")
with open(path, "wb") as file: file.write(b"x" * 100)

class Locker:
    def __init__(self, path):
        self.path = path
        self.files = [open(path, "r+b", buffering=0)]
    def open(self):
        self.files.append(open(self.path, "r+b", buffering=0))
    def close(self, which):
        self.files[which].close()
    def lock(self, how, start=0, length=0, which=0, tell=None):
        import fcntl
        if tell is not None: os.write(tell, b"x")
        try: fcntl.lockf(self.files[which], how, length, start)
        except OSError as error: return type(error).__name__, error.errno
        return "had"
    def lock_for_ever(self, how, tell):
        self.lock(how, tell=tell)
        while True: pass
    def holder(self):
        import fcntl, struct
        asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0)
        kind, _, _, _, pid = struct.unpack("hhqqi4x", fcntl.fcntl(self.files[0], fcntl.F_GETLK, asked))
        return None if kind == fcntl.F_UNLCK else pid
    def duplicate(self, onto):
        os.dup2(self.files[0].fileno(), onto)
    def run(self, code):
        names = {"self": self}
        exec(code, names)
        return names.get("result")
import os

def elsewhere(path, how):
    code = (
        "import fcntl, sys\\nfile = open(sys.argv[1], 'r+b')\\n"
        "try: fcntl.lockf(file, int(sys.argv[2]))\\n"
        "except BlockingIOError: print('refused')\\nelse: print('had')"
    )
    arguments = [sys.executable, "-c", code, path, str(int(how))]
    return subprocess.run(arguments, capture_output=True, text=True).stdout.strip()

EX, SH, NB, UN = fcntl.LOCK_EX, fcntl.LOCK_SH, fcntl.LOCK_NB, fcntl.LOCK_UN
REFUSED = ("BlockingIOError", 11)
pool = multipy.Pool(2)
make = multipy.remote(Locker).options(pool=pool)
a, b = make.remote(path), make.remote(path)
"""


@pytest.fixture
def run_lockers(run_script):
    def run(code):
        run_script(PREAMBLE + code + "\npool.shutdown()\n")

    return run


def test_two_interpreters_keep_each_other_out(run_lockers):
    run_lockers(
        """
assert a.lock(EX | NB) == "had"
assert b.lock(EX | NB) == b.lock(SH | NB) == REFUSED
assert a.lock(EX | NB) == "had", "its own lock is in nobody's way"
assert b.holder() == os.getpid() and a.holder() is None
assert a.lock(UN) == "had" and b.lock(SH | NB) == a.lock(SH | NB) == "had"
assert a.lock(EX | NB) == REFUSED
"""
    )


def test_who_waits_has_the_lock_when_the_other_lets_go(run_lockers):
    run_lockers(
        """
ready, tell = os.pipe()
assert a.lock(EX) == "had"
waiting = b.lock.submit(EX, tell=tell)
os.read(ready, 1)
assert not waiting.done()
a.close(0)
assert waiting.result(60) == "had" and b.holder() is None
"""
    )


def test_an_interrupted_wait_ends_with_the_lock(run_lockers):
    run_lockers(
        """
ready, tell = os.pipe()
assert a.lock(EX) == "had"
waiting = b.lock_for_ever.submit(EX, tell)
os.read(ready, 1)
waiting.cancel(interrupt=True)
assert a.lock(UN) == "had"
try: waiting.result(60)
except multipy.Interrupted: pass
else: assert False
assert b.lock(UN) == "had"
"""
    )


def test_the_host_and_an_interpreter_keep_each_other_out(run_lockers):
    run_lockers(
        """
with open(path, "r+b") as file:
    fcntl.lockf(file, EX)
    assert a.lock(EX | NB) == REFUSED and a.holder() == os.getpid()
    fcntl.lockf(file, UN)
    assert a.lock(EX | NB) == "had"
    try: fcntl.lockf(file, EX | NB)
    except BlockingIOError: pass
    else: assert False
"""
    )


def test_another_process_and_an_interpreter_keep_each_other_out(run_lockers):
    run_lockers(
        """
assert a.lock(SH) == "had"
assert elsewhere(path, EX | NB) == "refused"
assert a.lock(UN) == "had" and elsewhere(path, EX | NB) == "had"
code = (
    "import fcntl, sys; file = open(sys.argv[1], 'r+b'); fcntl.lockf(file, fcntl.LOCK_EX); "
    "print(flush=True); sys.stdin.read()"
)
other = subprocess.Popen([sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
other.stdout.readline()
assert a.lock(SH | NB) == REFUSED and a.holder() == other.pid
waiting = b.lock.submit(EX)
other.communicate()
assert waiting.result(60) == "had"
"""
    )


def test_a_closed_descriptor_drops_the_locks_of_all_that_this_interpreter_has_of_the_file(run_lockers):
    run_lockers(
        """
a.open(); b.open()
CLOSE_RANGE = "import os; last = self.files[-1].fileno(); os.closerange(last, last + 1)"
for close in (
    lambda: a.close(1),
    lambda: a.duplicate(a.run("result = self.files[-1].fileno()")),
    lambda: a.run(CLOSE_RANGE),
):
    assert a.lock(EX | NB) == "had" and b.lock(EX | NB) == REFUSED
    b.close(-1)
    assert b.lock(EX | NB) == REFUSED, "another's closed descriptor drops nothing"
    close()
    assert b.lock(EX | NB) == "had" and b.lock(UN) == "had"
    a.open(); b.open()
"""
    )


def test_a_forked_child_has_no_lock_and_drops_none(run_lockers):
    run_lockers(
        """
FORKED = '''
import fcntl, os
child = os.fork()
if child == 0:
    try:
        try: fcntl.lockf(self.files[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError: status = 0
        else: status = 1
        self.files[0].close()
    finally: os._exit(status)
result = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
'''
assert a.lock(EX | NB) == "had"
assert a.run(FORKED) == 0
assert b.lock(EX | NB) == REFUSED
RUN = "import subprocess, sys; result = subprocess.run(['true'], close_fds=True).returncode"
assert a.run(RUN) == 0, "what comes before the exec of a program drops nothing either"
assert b.lock(EX | NB) == REFUSED
"""
    )


def test_a_circle_of_two_is_told(run_lockers):
    run_lockers(
        """
import errno
from concurrent.futures import FIRST_COMPLETED, wait
assert a.lock(EX, 0, 1) == b.lock(EX, 1, 1) == "had"
calls = {a.lock.submit(EX, 1, 1): a, b.lock.submit(EX, 0, 1): b}
done, waiting = wait(calls, 60, FIRST_COMPLETED)
(refused,), (other,) = done, waiting
assert refused.result()[1] == errno.EDEADLK
assert calls[refused].lock(UN) == "had" and other.result(60) == "had"
"""
    )


def test_the_locks_of_an_interpreter_end_with_it(run_lockers):
    run_lockers(
        """
with multipy.Pool(1) as short:
    kept = multipy.remote(Locker).options(pool=short).remote(path)
    # A descriptor that nobody closes.
    assert kept.run("import fcntl, os; fcntl.lockf(os.dup(self.files[0].fileno()), fcntl.LOCK_EX)") is None
    assert a.lock(EX | NB) == REFUSED
assert a.lock(EX | NB) == "had"
"""
    )


def test_lockf_of_posix_and_flock(run_lockers):
    run_lockers(
        """
assert a.run("import os; os.lockf(self.files[0].fileno(), os.F_TLOCK, 10)") is None
TEST = '''
import os
try: os.lockf(self.files[0].fileno(), os.F_TEST, 10)
except PermissionError: result = "taken"
else: result = "free"
'''
assert a.run(TEST) == "free" and b.run(TEST) == "taken"
assert a.run("import os; os.lockf(self.files[0].fileno(), os.F_ULOCK, 0)") is None and b.run(TEST) == "free"
FLOCK = '''
import fcntl
try: fcntl.flock(self.files[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError: result = "refused"
else: result = "had"
'''
assert a.run(FLOCK) == "had" and b.run(FLOCK) == "refused"
a.open(); a.close(1)
assert b.run(FLOCK) == "refused", "flock is of what was opened"
a.close(0)
assert b.run(FLOCK) == "had"
"""
    )
