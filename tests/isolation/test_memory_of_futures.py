"""Futures leave no memory behind, however they are asked, watched, given up or forgotten.

The script runs in a process of its own, whose memory nothing else moves. It makes futures by the thousand, so
that what a thousand of them take is there from the start; what is measured is what the later ones leave.
How much of a thousand is alive at once hangs on the scheduler, and the most there has been stays with malloc:
what is left behind is what each of several stretches adds, hence the least of them.
"""

from __future__ import annotations

import pytest

SCRIPT = """
import asyncio, concurrent.futures, gc, os, threading
import multipy_actors as multipy

AT_ONCE = 1000
ALLOWED = 4 << 20
STRETCHES = 3

def submit(pool):
    return [pool.submit(abs, -number) for number in range(AT_ONCE)]

def asked(pool):
    assert multipy.get(submit(pool)) == list(range(AT_ONCE))

def forgotten(pool):
    submit(pool)
    multipy.get(pool.broadcast(abs, 1))

def called_back(pool):
    futures, every_one = submit(pool), threading.Semaphore(0)
    for future in futures:
        future.add_done_callback(lambda _: every_one.release())
    for _ in futures:
        assert every_one.acquire(timeout=60)

def waited_for(pool):
    futures = submit(pool)
    assert not concurrent.futures.wait(futures, timeout=60).not_done
    assert len(list(concurrent.futures.as_completed(futures, timeout=60))) == AT_ONCE

def given_up(pool):
    for future in (futures := submit(pool)):
        concurrent.futures.wait([future], timeout=0)
        future.cancel()
    concurrent.futures.wait(futures, timeout=60)

def awaited(pool):
    async def every_one():
        await asyncio.gather(*submit(pool))
    asyncio.run(every_one())

def failed(pool):
    futures = [pool.submit(divmod, number, 0) for number in range(AT_ONCE)]
    assert all(isinstance(future.exception(), ZeroDivisionError) for future in futures)

def mapped(pool):
    assert sum(pool.map(abs, range(AT_ONCE), chunksize=7, buffersize=50)) == sum(range(AT_ONCE))

WAYS = [asked, forgotten, called_back, waited_for, given_up, awaited, failed, mapped]

def state(pool):
    multipy.get(pool.broadcast(gc.collect))
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE"), len(gc.get_objects())

with multipy.Pool(2) as pool:
    for way in WAYS:
        way(pool)
        way(pool)
        for _ in range(STRETCHES):
            memory, objects = state(pool)
            for _ in range(ROUNDS):
                way(pool)
            more_memory, more_objects = state(pool)
            growth = more_memory - memory, more_objects - objects
            print(way.__name__, growth[0] >> 10, "KiB,", growth[1], "objects", flush=True)
            if growth[0] < ALLOWED and growth[1] < AT_ONCE // 10:
                break
        else:
            raise AssertionError(f"each of {STRETCHES} stretches left something behind: {way.__name__}")
"""


def test_a_hundred_thousand_futures_leave_no_memory_behind(run_script):
    print(run_script(SCRIPT.replace("ROUNDS", "12")).stdout)


@pytest.mark.slow
def test_a_million_futures_leave_no_memory_behind(run_script):
    print(run_script(SCRIPT.replace("ROUNDS", "125"), timeout=500).stdout)
