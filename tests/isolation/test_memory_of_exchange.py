"""Memory that is handed over is given back: no growth over ten thousand hand-overs, in any direction.

Each script runs in a process of its own, whose memory nothing else moves. What is handed over is large enough
that keeping one in fifty would show.
"""

from __future__ import annotations

import pytest

SCRIPT = """
import gc, os
import multipy_actors as multipy

COUNT = 10_000
BYTES = 64 << 10
ALLOWED = 12 << 20

def make(kind, number):
    if kind == "torch":
        import torch
        return torch.full((BYTES // 4,), float(number))
    import numpy
    return numpy.full(BYTES // 4, number, dtype=numpy.float32)

def take(value):
    return float(value[-1])

def echo(value):
    return value

def memory():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def argument(pool, kind, number):
    assert pool.submit(take, make(kind, number)).result() == number

def result(pool, kind, number):
    assert take(pool.submit(make, kind, number).result()) == number

def through(pool, kind, number):
    first, second = pool.interpreters
    assert second.submit(take, first.submit(make, kind, number).result()).result() == number

def there_and_back(pool, kind, number):
    assert take(pool.submit(echo, make(kind, number)).result()) == number

def unasked(pool, kind, number):
    assert pool.submit(make, kind, number).exception() is None

def catch_up(pool, number):
    # Else the queue, and what waits in it, grows as long as we are faster than the interpreters.
    if number % 50 == 0:
        multipy.get(pool.broadcast(abs, 1))

def unwatched(pool, kind, number):
    pool.submit(make, kind, number)
    catch_up(pool, number)

def raised(pool, kind, number):
    def fail(value):
        raise ValueError(value)
    assert take(pool.submit(fail, make(kind, number)).exception().args[0]) == number

def cancelled(pool, kind, number):
    pool.submit(echo, make(kind, number)).cancel()
    catch_up(pool, number)

with multipy.Pool(2) as pool:
    multipy.get(pool.broadcast(take, make(KIND, 0)))  # imports it, even if all that follow are cancelled
    for number in range(COUNT // 10):
        DIRECTION(pool, KIND, number)
    multipy.get(pool.broadcast(gc.collect))
    before = memory()
    for number in range(COUNT):
        DIRECTION(pool, KIND, number)
    multipy.get(pool.broadcast(gc.collect))
    growth = memory() - before
print(growth >> 10, "KiB")
assert growth < ALLOWED, growth
"""


# What is released by NumPy needs its interpreter; the odd ways are tried with that alone.
BOTH = [(way, kind) for way in ("argument", "result", "through") for kind in ("torch", "numpy")]
ODD = [(way, "numpy") for way in ("there_and_back", "unasked", "unwatched", "cancelled")]


@pytest.mark.parametrize(("direction", "kind"), BOTH + ODD)
def test_ten_thousand_hand_overs_leave_nothing_behind(run_script, direction, kind):
    run_script(SCRIPT.replace("DIRECTION", direction).replace("KIND", repr(kind)))


def test_ten_thousand_tensors_in_exceptions_leave_nothing_behind(run_script):
    run_script(SCRIPT.replace("DIRECTION", "raised").replace("KIND", "'numpy'").replace("10_000", "2_000"))


def test_calls_futures_and_actors_leave_nothing_behind(run_script):
    run_script(
        """
        import gc, os
        import multipy_actors as multipy

        @multipy.remote
        class Small:
            def hello(self):
                return bytes(10_000)

        def memory():
            gc.collect()
            with open("/proc/self/statm") as file:
                return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

        def work(count):
            for number in range(count):
                small = Small.options(pool=pool, replicas=2).remote()
                small.hello.submit().add_done_callback(lambda _: None)
                assert len(small.hello()) == 10_000
                pool.submit(abs, 1).add_done_callback(lambda _: None)

        with multipy.Pool(2) as pool:
            work(500)
            before = memory()
            work(3000)
            multipy.get(pool.broadcast(gc.collect))
            growth = memory() - before
        assert growth < 8 << 20, growth
        """
    )
