"""Processes made by a host with a live pool: forked children say that it is closed; multiprocessing works."""

from __future__ import annotations

import pytest

PREAMBLE = """
import os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads
import multipy_actors as multipy

@multipy.remote
class Counter:
    def __init__(self): self.value = 0
    def add(self, gate=None):
        self.value += 1
        return self.value
    @property
    def total(self): return self.value
    def __call__(self): return self.value
    def __enter__(self): return self
    def __exit__(self, *_): pass

def in_child(work):
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""


def test_in_a_forked_child_handles_and_pools_say_that_they_are_closed(run_script):
    finished = run_script(
        PREAMBLE
        + """
with multipy.Pool(2, name="parents") as pool:
    counter = Counter.options(pool=pool, replicas=2, name="counter").remote()
    counter.broadcast.add()
    done = pool.submit(abs, -1)
    done.result()

    def work():
        attempts = {
            "call": lambda: counter.add(),
            "submit": lambda: counter.add.submit(),
            "on": lambda: counter.on(0).add(),
            "broadcast": lambda: counter.broadcast.add(),
            "map": lambda: list(counter.add.map([])) or list(counter.add.map([1])),
            "property": lambda: counter.total,
            "__call__": lambda: counter(),
            "with": lambda: counter.__enter__(),
            "found": lambda: multipy.get_actor("counter").add(),
            "pool.submit": lambda: pool.submit(abs, 1),
            "pool.map": lambda: pool.map(abs, [1]),
            "pool.broadcast": lambda: pool.broadcast(abs, 1),
            "interpreter": lambda: pool.interpreters[0].submit(abs, 1),
            "remote": lambda: Counter.options(pool=pool).remote(),
        }
        for name, attempt in attempts.items():
            try:
                print(name, "returned", attempt())
            except Exception as error:
                print(name, type(error).__name__)
        print("closed" in repr(counter), "closed" in repr(pool), counter.replicas, done.result())
        multipy.kill(counter)
        counter.unload()
        counter.statistics()
        pool.shutdown()

    in_child(work)
    assert counter.add() == 2 and counter.statistics()["replicas"] == 2
"""
    )
    lines = finished.stdout.splitlines()
    told = dict(line.split() for line in lines[:-1])
    closed = {"pool.submit", "pool.map", "pool.broadcast", "interpreter", "remote"}
    assert {name for name, error in told.items() if error == "PoolClosedError"} == closed
    told_otherwise = {name: error for name, error in told.items() if name not in closed}
    assert set(told_otherwise.values()) == {"ActorClosedError"}, told
    assert lines[-1] == "True True 0 1" and finished.stderr == ""


def test_in_a_forked_child_futures_that_were_pending_end_as_their_pool_has(run_script):
    finished = run_script(
        PREAMBLE
        + """
import asyncio, concurrent.futures, threading

with multipy.Pool(2) as pool:
    entrance, way = os.pipe(), os.pipe()

    def stop(entrance, way):
        os.write(entrance, b".")
        os.read(way, 1)

    running = pool.interpreters[0].submit(stop, entrance[1], way[0])
    watched = pool.interpreters[0].submit(abs, -1)
    queued = pool.interpreters[0].submit(abs, -2)
    told = threading.Event()
    watched.add_done_callback(lambda _: told.set())
    os.read(entrance[0], 1)
    futures = [running, watched, queued]
    watched._condition.acquire()  # as the notifier may at any moment

    def work():
        async def main():
            return await asyncio.gather(*futures, return_exceptions=True)

        for future in futures:
            print(future.done(), future.cancel(), type(future.exception()).__name__)
        calls = []
        watched.add_done_callback(lambda future: calls.append(future))
        print(calls == [watched])
        print(len(concurrent.futures.wait(futures).done), len(list(concurrent.futures.as_completed(futures))))
        print(len(multipy.wait(futures, 3)[0]), {type(error).__name__ for error in asyncio.run(main())})
        try:
            multipy.get(futures)
        except multipy.PoolClosedError as error:
            print(error)

    in_child(work)
    watched._condition.release()
    os.write(way[1], b".")
    assert multipy.get(futures) == [None, 1, 2] and told.wait(60)
"""
    )
    assert finished.stdout.splitlines() == [
        *["True False PoolClosedError"] * 3,
        "True",
        "3 3",
        "3 {'PoolClosedError'}",
        "the interpreter ended before the call was done",
    ]
    assert finished.stderr == ""


def test_children_forked_from_a_busy_host_can_drop_handles_and_end(run_script):
    """The locks of the core may be held by its threads at the moment of the fork."""
    finished = run_script(
        PREAMBLE
        + """
import threading

with multipy.Pool(2) as pool:
    stopped = threading.Event()
    counter = Counter.options(pool=pool, replicas=2).remote()

    def load():
        while not stopped.is_set():
            multipy.get([counter.add.submit() for _ in range(50)])

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for number in range(100):
            handles = [Counter.options(pool=pool).remote() for _ in range(3)]
            child = os.fork()
            if child == 0:
                handles.clear()
                repr(counter), counter.statistics()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        stopped.set()
        for thread in threads:
            thread.join()
    print(counter.add() > 0)
""",
        timeout=60,
    )
    assert finished.stdout == "True\n"


def test_a_forked_child_uses_a_pool_of_its_own_and_its_timeouts(run_script):
    finished = run_script(
        PREAMBLE
        + """
def spin():
    while True:
        pass

@multipy.remote
class Spinner:
    def spin(self): spin()

with multipy.Pool(1) as pool:
    early = Spinner.options(pool=pool, timeout=0.05).remote()
    try:
        early.spin()
    except TimeoutError:
        print("timed out")

    def work():
        with multipy.Pool(1) as own:
            late = Spinner.options(pool=own, timeout=0.05, name="late").remote()
            try:
                late.spin()
            except TimeoutError:
                print("timed out")
            found = multipy.get_actor("late")
            print(found == late, Counter.options(pool=own).remote().add())

    sys.stdout.flush()
    in_child(work)
"""
    )
    assert finished.stdout == "timed out\ntimed out\nTrue 1\n" and finished.stderr == ""


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_multiprocessing_works_beside_a_live_pool(run_script, method):
    finished = run_script(
        f"""
import multiprocessing, warnings
warnings.simplefilter("ignore", DeprecationWarning)
import concurrent.futures
import multipy_actors as multipy

def work(number):
    # The children may have pools of their own.
    if number == 3:
        with multipy.Pool(1) as pool:
            return pool.submit(abs, -number).result()
    return number

def talk(connection):
    connection.send(connection.recv() + 1)

if __name__ == "__main__":
    context = multiprocessing.get_context({method!r})
    with multipy.Pool(2) as pool:
        futures = [pool.submit(abs, -number) for number in range(20)]
        with context.Pool(2) as processes:
            print(processes.map(work, range(5)))
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as processes:
            print(sum(processes.map(abs, range(-10, 0))))
        here, there = context.Pipe()
        process = context.Process(target=talk, args=(there,))
        process.start()
        here.send(4)
        print(here.recv())
        process.join()
        print(process.exitcode, sum(multipy.get(futures)), pool.submit(abs, -1).result())
""",
        timeout=110,
    )
    assert finished.stdout == "[0, 1, 2, 3, 4]\n55\n5\n0 190 1\n", finished.stderr
    assert "Traceback" not in finished.stderr
