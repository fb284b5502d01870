"""Everything public at once, for as long as one likes: `SECONDS=600 SEED=1 python tests/soak/soak.py`.

Problem: what goes wrong when two features meet, or once in ten thousand times, no test of one feature
finds.

Model: several host threads do random operations (calls.py, actors.py, memory.py, pools.py) in pools that
have more interpreters than the machine has processors. Every result is checked by value, and many calls
note a key in a ledger, so that none is lost or run twice. At the end of each tenth of the time all threads
are at rest: nothing may be queued, the ledger must be as expected, and memory, descriptors, threads,
mappings and thread-specific keys as they were at the end of the first tenth (resources.py).

Guarantees: the operations of each thread follow from SEED alone (world.py). What fails is told with its
seed, thread and number, and with the stacks of all threads, those in interpreters as far as they answer; an
operation that takes more than a minute has failed. It exits with 1 then, and with 130 after Ctrl-C, which
ends it early.

In the environment: SECONDS; SEED; THREADS, by default 4; TORCH=1, with tensors as well; KINDS="streams
batches", those operations alone, as they would be drawn among all; FORKS=0, without children of the host,
in which a sanitizer would take the stacks of threads that are not there for used.
"""

from __future__ import annotations

import faulthandler
import gc
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from concurrent.futures import TimeoutError as WaitTimeout

import actors  # noqa: F401  enters its operations, as the next do
import calls  # noqa: F401
import memory  # noqa: F401
import numpy
import pools
import workers
from resources import Resources, settled
from world import OPERATIONS, PATIENCE, World

import multipy_actors as multipy

PHASES = 10
SECONDS = float(os.environ.get("SECONDS", "600"))
SEED = os.environ.get("SEED") or str(time.time_ns() % 1_000_000)
THREADS = int(os.environ.get("THREADS", "4"))
KINDS = os.environ.get("KINDS", "").split() or list(OPERATIONS)
PROGRESS_SECONDS = 30.0
WARM_UP = "warm-up"  # a key in the ledger


class Soak:
    """The pools, the threads' worlds, and whether they are to go on."""

    def __init__(self) -> None:
        processors = len(os.sched_getaffinity(0))
        main = multipy.Pool(2 * processors + 1, name="main", forward_logging=logging.WARNING)
        # Whoever waits for the ledger must not wait for something that waits for the ledger.
        self.pools = {
            "main": main,
            "side": multipy.Pool(2, name="side"),
            "ledger": multipy.Pool(1, name="ledger"),
        }
        self.ledger = workers.Ledger.options(pool=self.pools["ledger"]).remote()
        self.worlds = [
            World(SEED, number, self.pools, self.ledger) for number in range(THREADS + 1)
        ]  # one to warm up
        self.begin = time.monotonic()
        self.may_go_on = True
        self._failing = threading.Lock()

    def fail(self, what: str) -> None:
        """Say what was wrong, with all that may explain it, and end the process; only the first does."""
        if not self._failing.acquire(blocking=False):
            time.sleep(PATIENCE * 10)
        print(f"\nFAILED, SEED={SEED} THREADS={THREADS}: {what}", flush=True)
        for world in self.worlds:
            if world.doing is not None:
                kind, number, since = world.doing
                seconds = time.monotonic() - since
                print(f"thread {world.thread} is at operation {number}, {kind}, for {seconds:.1f} s")
        sys.stdout.flush()
        faulthandler.dump_traceback(all_threads=True, file=sys.stdout)
        self._show_interpreters()
        _show_native_stacks()
        sys.stdout.flush()
        os._exit(1)

    def _show_interpreters(self) -> None:
        """Print the stacks of the interpreters, as far as they answer."""
        for pool in self.pools.values():
            for interpreter in pool.interpreters:
                try:
                    text = interpreter.submit(_stacks).result(2)
                except Exception as error:
                    text = "does not answer" if isinstance(error, WaitTimeout) else repr(error)
                print(f"{interpreter}: {text}", flush=True)

    # A thread's part ---------------------------------------------------------------------------------------

    def work(self, world: World, until: float) -> None:
        """Do operations until the phase is over."""

        def operations() -> None:
            while self.may_go_on and time.monotonic() < until:
                world.step(KINDS)
            world.rest()

        self.attempt(world, operations)

    def attempt(self, world: World, operations: Callable[[], object]) -> None:
        """Have a world do operations; what they raise is told."""
        try:
            operations()
        except BaseException as error:
            kind = world.doing[0] if world.doing else "at rest"
            cause = f"\n{error.__cause__}" if error.__cause__ is not None else ""
            text = "".join(traceback.format_exception(error)) + cause
            self.fail(f"operation {world.number} of thread {world.thread}, {kind}\n{text}")

    def watch(self) -> None:
        """Look for operations that take too long, and tell of progress."""
        told = time.monotonic()
        while True:
            time.sleep(1)
            now = time.monotonic()
            for world in self.worlds:
                doing = world.doing
                if doing is not None and now - doing[2] > PATIENCE + 10:
                    self.fail(f"operation {doing[1]} of thread {world.thread}, {doing[0]}, does not end")
            if now - told > PROGRESS_SECONDS:
                told = now
                self.tell_progress()

    def stop(self, *_: object) -> None:
        """Have the threads come to an end: Ctrl-C."""
        print("stopping", flush=True)
        self.may_go_on = False

    def tell_progress(self) -> None:
        done = sum((world.counts for world in self.worlds), Counter())
        seconds = time.monotonic() - self.begin
        counts = ", ".join(f"{kind} {count}" for kind, count in sorted(done.items()))
        print(
            f"{seconds:.0f} s: {done.total()} operations ({done.total() / seconds:.0f}/s): {counts}",
            flush=True,
        )

    # The whole ---------------------------------------------------------------------------------------------

    def warm_up(self) -> None:
        """Have everything made that is made when first needed, in each interpreter."""
        world = self.worlds[THREADS]
        array = numpy.arange(10)
        for pool in self.pools.values():
            for kind in (workers.Actor, workers.AsyncActor):
                everywhere = kind.options(pool=pool, replicas="all").remote(0, self.ledger)
                for interpreter in everywhere.interpreters:
                    assert len(list(everywhere.on(interpreter).numbers.stream(500))) == 500
        echoer = workers.AsyncActor.options(pool=self.pools["ledger"]).remote()
        for pool in (self.pools["main"], self.pools["side"]):
            multipy.get(pool.broadcast(workers.tells_callback, self.ledger, WARM_UP), timeout=PATIENCE)
            multipy.get(pool.broadcast(workers.asks_async, echoer, [array]), timeout=PATIENCE)
        for kind in KINDS * 3:
            if self.may_go_on:
                world.number += 1
                world.do(kind, random.Random(f"{SEED}/{THREADS}/{world.number}"))
        world.rest()

    def check_at_rest(self) -> None:
        """Nothing is queued; each key was noted as often as it was to be."""
        gc.collect()
        for pool in self.pools.values():
            multipy.get(pool.broadcast(gc.collect), timeout=PATIENCE)
        noted = self.ledger.take()
        noted.pop(WARM_UP, None)
        for world in self.worlds:
            for key, (least, most) in world.expected.items():
                times = noted.pop(key, 0)
                if not least <= times <= most:
                    self.fail(f"{key} was noted {times} times, expected were {least} to {most}")
            world.expected.clear()
        if noted:
            self.fail(f"nobody expected {noted}")
        collected = Counter(pools.collected.numbers)
        twice = {number: count for number, count in collected.items() if count > 1}
        if twice:
            self.fail(f"records were handled twice: {twice}")
        pools.collected.numbers.clear()
        for name, pool in self.pools.items():
            waiting = [statistics["queued"] for statistics in pool.statistics()]
            if any(waiting):
                self.fail(f"calls are queued in {name} at rest: {waiting}")

    def run(self) -> bool:
        """Go through the phases; say whether all of them were gone through."""
        threading.Thread(target=self.watch, name="watch", daemon=True).start()
        self.attempt(self.worlds[THREADS], self.warm_up)
        self.check_at_rest()
        print(f"warmed up, in {time.monotonic() - self.begin:.0f} s", flush=True)
        self.begin = time.monotonic()
        before: Resources | None = None
        ended_before = 0
        for phase in range(1, PHASES + 1):
            until = self.begin + SECONDS * phase / PHASES
            threads = [
                threading.Thread(target=self.work, args=(world, until)) for world in self.worlds[:THREADS]
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.check_at_rest()
            ended = sum(world.interpreters_ended for world in self.worlds)
            now, complaints = settled(before, ended - ended_before)
            self.tell_progress()
            flat = "the first" if before is None else "flat" if not complaints else "GROWN"
            print(f"phase {phase} of {PHASES} at rest: {now}; {ended} interpreters ended; {flat}", flush=True)
            if complaints:
                self.fail("; ".join(complaints))
            if before is None:
                before, ended_before = now, ended
            if not self.may_go_on:
                return False
        return True


def _stacks():
    """Return what the threads of an interpreter do."""
    import sys
    import threading
    import traceback

    names = {thread.ident: thread.name for thread in threading.enumerate()}
    frames = sys._current_frames().items()
    return "\n".join(f"{names.get(i)}:\n{''.join(traceback.format_stack(frame))}" for i, frame in frames)


def _show_native_stacks() -> None:
    """Have gdb print the stacks of all threads, where there is one that may."""
    if shutil.which("gdb"):
        command = ["gdb", "--batch", "--nx", "-p", str(os.getpid()), "-ex", "thread apply all backtrace 24"]
        subprocess.run(command, stdout=sys.stdout, stderr=subprocess.DEVNULL, timeout=300, check=False)


def main() -> int:
    print(f"{SECONDS:.0f} s, SEED={SEED} THREADS={THREADS}, operations: {' '.join(KINDS)}", flush=True)
    faulthandler.enable()
    warnings.simplefilter("error", ResourceWarning)
    # Pools that do not wait for their calls give interpreters two seconds, which a busy machine may not have.
    warnings.simplefilter("always", multipy.LeftBehindWarning)
    warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
    logging.getLogger("soak").addHandler(pools.collected)
    logging.getLogger("soak").propagate = False
    soak = Soak()
    signal.signal(signal.SIGINT, soak.stop)
    whole = soak.run()
    warnings.simplefilter("error", multipy.LeftBehindWarning)
    for pool in soak.pools.values():
        pool.shutdown()
    print("all is well" if whole else "all was well", flush=True)
    return 0 if whole else 130


if __name__ == "__main__":
    sys.exit(main())
