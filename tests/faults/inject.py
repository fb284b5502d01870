"""Has one call of the kernel or of libc fail, each in turn, and looks whether all goes on.

Problem: what a process runs out of, it runs out of anywhere: while an image is mapped, a thread is started, a
call is encoded. None of these places may end the process, hang, or leave half of something behind.

Model: a scenario uses the package; the k-th call of one function (mmap, malloc, …) that is made meanwhile,
by whichever thread, fails (shim.c, preloaded). Each k has a forked child of its own. Whatever the scenario
raises is an answer, so long as afterwards the same pool and a new one work, and no descriptor or thread is
left. What Python or nanobind does by itself where it has no memory (BEYOND_US) is counted apart.

`python tests/faults/inject.py` tries every k until the scenario no longer makes that many calls;
`--step N` every N-th, `--jobs N` N at once, `--functions mmap --scenarios boot` one function and scenario,
`--first 17 --last 17 --stack` one k, with what its process writes. Of a fault the stack of the call that
failed is told.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import faulthandler
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from itertools import count, islice
from pathlib import Path

import multipy_actors as multipy

FUNCTIONS = ("memfd_create", "ftruncate", "pwrite", "mremap", "mprotect", "pthread_create", "mmap", "malloc")
SECONDS = 120  # for one child, on a machine that may be busy
NANOBIND = "nanobind ends the process where it has no memory for its tables"
NO_PYTHON = "Python ends the process where it has no memory so early"
NO_THREAD = "Python ends the process without memory for a thread"
BEYOND_US = {
    r"Critical nanobind error": NANOBIND,
    r"Buffer::\w+\(\): out of memory": NANOBIND,
    # It allocates in functions that are noexcept.
    r"(/nanobind/|/robin_)\S*:\d+ allocates\n(?s:.*)'std::bad_alloc'": NANOBIND,
    r"PyExc_MemoryError is not initialized yet": NO_PYTHON,
    r"_heapq\.cpython.*\+0x": "the extension _heapq drops a reference to what there was no memory for",
    r"cannot allocate memory for thread-local data": "the C library ends the process without memory for them",
    r"failed to register TLS destructor": "the C library ends the process without memory for them",
    r"PyThread_allocate_lock\+.*\n.*_PyRuntimeState_Init\+": NO_PYTHON,
    r"Inconsistency detected by ld\.so: dl-open\.c": "dlopen ends the process where it had no memory before",
    # PyThreadState_New hands on, as the current one, what it has not made.
    r"[mc]alloc\+.*\n(.*/libpython.*\(\+0x.*\n)?.*\((PyThreadState_New|PyGILState_Ensure)\+": NO_THREAD,
    r"Exception ignored in thread started by": "threading waits for ever for a thread that could not begin",
}
HERE = Path(__file__).parent
# As it was linked; the one that is installed has no symbols.
UNSTRIPPED = f"build/cp{sys.version_info.major}{sys.version_info.minor}-*/native/_native.*.so"


@multipy.remote
class Counting:
    """An actor with plain and generator methods."""

    def __init__(self) -> None:
        self.count = 0

    def add(self) -> int:
        self.count += 1
        return self.count

    def upto(self, limit: int):
        yield from range(limit)

    def slowly(self, limit: int):
        """Takes its time over each item, so that a thread sends them."""
        for item in range(limit):
            time.sleep(0.004 * (item == 1))
            yield item


@multipy.remote
class Resting:
    """An actor that takes its time."""

    def rest(self) -> None:
        while True:
            time.sleep(0.001)


@multipy.remote
class Awaiting:
    """An actor whose methods are coroutines."""

    async def rest(self) -> None:
        await asyncio.sleep(1000)

    async def add(self, left: int, right: int) -> int:
        return left + right

    async def upto(self, limit: int):
        for item in range(limit):
            yield item


def use(pool: multipy.Pool) -> None:
    """Have the pool do a little of everything."""
    assert pool.submit(pow, 2, 10).result(timeout=20) == 1024
    assert list(pool.map(abs, [-1, -2, -3])) == [1, 2, 3]
    counting = Counting.options(pool=pool, replicas="all").remote()
    assert sorted(counting.broadcast.add()) == [1] * len(pool)
    assert list(counting.upto.stream(5)) == list(range(5))
    assert list(counting.slowly.stream(5)) == list(range(5))
    awaiting = Awaiting.options(pool=pool).remote()
    assert awaiting.add(1, 2) == 3
    assert list(awaiting.upto.stream(5)) == list(range(5))

    async def several() -> list[int]:
        return await asyncio.gather(*(awaiting.add.submit(i, i) for i in range(5)))

    assert asyncio.run(several()) == [0, 2, 4, 6, 8]
    with pool.acquire() as session:
        assert session.global_("builtins", "len")([1, 2]).value() == 2


def load(pool: multipy.Pool) -> None:
    """Have an interpreter load libraries."""

    def inside() -> str:
        import _ssl
        import bz2
        import ctypes
        import decimal
        import lzma
        import sqlite3

        for module in (_ssl, bz2, ctypes, lzma, sqlite3):
            assert module
        return str(decimal.Decimal("1.5"))

    assert pool.submit(inside).result(timeout=20) == "1.5"


def boot(pool: None) -> None:
    """Make a pool and close it."""
    with multipy.Pool(2):
        pass


def close(pool: multipy.Pool) -> None:
    """Close a pool that has been used."""
    pool.shutdown()


def kill(pool: multipy.Pool) -> None:
    """Kill actors whose calls run, wait and go on aside."""
    resting = Resting.options(pool=pool, replicas="all").remote()
    awaiting = Awaiting.options(pool=pool).remote()
    calls = []
    try:
        for method in (resting.on(0).rest, resting.rest, resting.rest, awaiting.rest):
            calls.append(method.submit())
        while not (calls[0].running() or calls[0].done()):
            time.sleep(0.001)
    finally:  # nobody could acquire an interpreter beside a call that never ends
        for handle in (resting, awaiting):
            try:
                multipy.kill(handle)
            except MemoryError:
                multipy.kill(handle)  # nothing had changed
    for call in calls:
        call.exception(timeout=20)


def lose(pool: multipy.Pool) -> None:
    """Have an interpreter end and another take its place."""
    on_first = pool.interpreters[0].submit
    counting = Counting.options(pool=pool, interpreter=0, max_restarts=-1).remote()
    calls = [
        counting.add.submit(),
        on_first(end_this_interpreter),
        on_first(pow, 2, 10),
        counting.add.submit(),
    ]
    for call in calls:
        call.exception(timeout=20)
    assert on_first(pow, 2, 10).result(timeout=20) == 1024
    assert counting.add() >= 1


def end_this_interpreter() -> None:
    """Have the worker loop fail whatever it does, as no code of a user should."""
    from multipy_actors.worker import serve

    def fail(*args: object) -> None:
        raise SystemError("broken")

    serve._execute = serve.run = fail
    type(serve._native.current_worker()).lost = fail


SCENARIOS: dict[str, Callable] = {
    "boot": boot,
    "load": load,
    "use": use,
    "close": close,
    "kill": kill,
    "lose": lose,
}


def threads() -> Counter[str]:
    """Count the process's threads by name."""
    names = Counter()
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError):
            names[Path(f"/proc/self/task/{task}/comm").read_text().strip()] += 1
    return names


def left_behind(threads_before: Counter[str], descriptors_before: int) -> str:
    """Say what is there now that was not before; waits for what is on its way out."""
    deadline = time.monotonic() + 10
    # The notifier and the timer stay. Before 3.14 Python names no threads; they are called as the process is.
    stay = Counter({Path("/proc/self/comm").read_text().strip(): 1, "multipy-timer": 1})
    while True:
        more = threads() - threads_before - stay
        descriptors = len(os.listdir("/proc/self/fd")) - descriptors_before
        if not more and descriptors <= 0:
            return ""
        if time.monotonic() > deadline:
            return f"left behind: threads {dict(more)}, {descriptors} descriptors"
        time.sleep(0.01)


def attempt(shim: ctypes.CDLL, function: str, scenario: str, call: int, stack: bool) -> dict[str, object]:
    """Have one call fail; in the child."""
    before = threads(), len(os.listdir("/proc/self/fd"))
    pool = None if scenario == "boot" else multipy.Pool(2, restart=scenario == "lose")
    if scenario in ("close", "kill", "lose"):
        use(pool)
    shim.fault_arm(shim.fault_kind(function.encode()), call, True)
    said = "ok"
    trouble = []
    try:
        SCENARIOS[scenario](pool)
    except BaseException as error:
        said = type(error).__name__
        if isinstance(error, TimeoutError):
            trouble.append("a call did not end")
        if stack:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
    reached = bool(shim.fault_failed())
    shim.fault_disarm()
    steps: list[tuple[str, Callable[[], None]]] = [("a new pool", with_new_pool)]
    if pool is not None:
        steps.insert(0, ("the same pool", partial(again, pool, scenario)))
    for what, step in steps:
        try:
            step()
        except BaseException as error:
            trouble.append(f"{what}: {type(error).__name__}: {str(error)[:200]}")
    trouble.append(left_behind(*before))
    return {"reached": reached, "said": said, "trouble": "; ".join(filter(None, trouble))}


def again(pool: multipy.Pool, scenario: str) -> None:
    """Use the pool once more, and close it."""
    try:
        if scenario == "lose":  # the first interpreter may be gone for good
            assert pool.submit(pow, 2, 10).result(timeout=20) == 1024
        elif scenario != "close":
            use(pool)
            load(pool)
    finally:
        pool.shutdown(interrupt=scenario == "kill")  # what it could not begin to kill


def with_new_pool() -> None:
    """Use a new pool."""
    with multipy.Pool(2) as pool:
        use(pool)


class Child:
    """A forked child that makes one attempt."""

    def __init__(self, shim: ctypes.CDLL, function: str, scenario: str, call: int, stack: bool) -> None:
        """Begin."""
        self.call = call
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - closed with its outcome
        reader, writer = os.pipe()
        self._process = os.fork()
        if self._process == 0:
            os.close(reader)
            if not stack:
                os.dup2(self._complaints.fileno(), 2)
            faulthandler.enable()
            signal.alarm(SECONDS)  # ends it
            outcome = attempt(shim, function, scenario, call, stack)
            os.write(writer, json.dumps(outcome).encode())
            os.close(writer)
            sys.exit(0)
        os.close(writer)
        self._reader = reader

    def outcome(self) -> dict[str, object]:
        """Wait for its end; what became of it."""
        with os.fdopen(self._reader, "rb") as pipe:
            told = pipe.read()
        status = os.waitstatus_to_exitcode(os.waitpid(self._process, 0)[1])
        with self._complaints as complaints:
            complaints.seek(0)
            text = complaints.read().decode(errors="replace")
        outcome = json.loads(told) if told else {"reached": True, "said": "", "trouble": ""}
        if status == 0 and not outcome["trouble"]:
            return outcome
        text = who_allocates(text) + text
        for mark, meaning in BEYOND_US.items():
            if re.search(mark, text):
                return {"reached": True, "said": meaning, "trouble": ""}
        ended = {0: "ended", -signal.SIGALRM: "hung"}.get(status, f"ended with {status}")
        outcome["trouble"] = f"{ended}; {outcome['trouble']}\n{text[-8000:]}"
        return outcome


def who_allocates(stack: str) -> str:
    """Say which line of the extension module called operator new, if it was that which failed.

    Where the C++ library is linked statically, operator new and the standard containers are in there, too.
    """
    unstripped = next(HERE.parent.parent.glob(UNSTRIPPED), None)
    failed = re.search(r"/shim\.so\(malloc\+.*\n(?:.*\(_Znwm\+.*\n)?((?:.*/_native\..*\n)+)", stack)
    if failed is None or unstripped is None:
        return ""
    addresses = re.findall(r"\(\+0x([0-9a-f]+)\)", failed[1])[:8]
    called = [hex(int(address, 16) - 1) for address in addresses]  # of the call, not of where it returns to
    command = ["addr2line", "-C", "-e", str(unstripped), *called]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")
    known = (line.split()[0] for line in lines if line and "?" not in line and "/c++/" not in line)
    return f"{next(known, 'nobody')} allocates\n"


def inject(options: argparse.Namespace) -> int:
    """Try what the options ask for; the number of calls whose failure was not survived."""
    shim = ctypes.CDLL(os.environ["LD_PRELOAD"])
    shim.fault_arm.argtypes = [ctypes.c_int, ctypes.c_long, ctypes.c_int]
    shim.fault_failed.restype = ctypes.c_long
    faults = 0
    for function in options.functions:
        for scenario in options.scenarios:
            said: Counter[str] = Counter()
            calls = count(options.first, options.step)
            if options.last is not None:
                calls = iter(range(options.first, options.last + 1, options.step))
            begin = partial(Child, shim, function, scenario, stack=options.stack)
            under_way = deque(begin(call) for call in islice(calls, options.jobs))
            while under_way:
                child = under_way.popleft()
                outcome = child.outcome()
                if not outcome["reached"]:
                    calls = iter(())
                    continue
                if outcome["trouble"]:
                    faults += 1
                    print(
                        f"{function} {scenario} call {child.call}: {outcome['said']}: {outcome['trouble']}",
                        flush=True,
                    )
                said[str(outcome["said"])] += 1
                under_way.extend(begin(call) for call in islice(calls, 1))
            print(f"{function} {scenario}: {said.total()} calls, {dict(said)}", flush=True)
    return faults


def main() -> None:
    """Build the shim, start anew with it preloaded, and go on in there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--functions", nargs="+", choices=FUNCTIONS, default=FUNCTIONS)
    parser.add_argument("--scenarios", nargs="+", choices=tuple(SCENARIOS), default=tuple(SCENARIOS))
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--last", type=int)
    parser.add_argument("--step", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1, help="children at once")
    parser.add_argument("--stack", action="store_true", help="show what the process writes")
    options = parser.parse_args()
    if "MULTIPY_FAULTS" in os.environ:
        sys.exit(1 if inject(options) else 0)
    with tempfile.TemporaryDirectory() as folder:
        shim = f"{folder}/shim.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", shim, str(HERE / "shim.c")], check=True)
        environment = {**os.environ, "LD_PRELOAD": shim, "MULTIPY_FAULTS": "1"}
        sys.exit(subprocess.run([sys.executable, *sys.argv], env=environment).returncode)


if __name__ == "__main__":
    main()
