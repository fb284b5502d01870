"""Closing a pool: under load, with calls waiting; each interpreter ends on its own thread."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import threading
import time

import pytest

import multipy_actors as multipy


@pytest.mark.parametrize("cancel", [False, True])
@pytest.mark.parametrize("wait", [False, True])
def test_a_pool_closed_under_load_forgets_no_call(cancel, wait):
    pool = multipy.Pool(2)
    futures, refused, unexpected = [], [], []
    busy = threading.Barrier(5)

    def submit():
        mine = [pool.submit(abs, -number) for number in range(20)]
        busy.wait()
        try:
            for number in range(20, 1_000_000):
                mine.append(pool.submit(abs, -number))
        except multipy.PoolClosedError:
            refused.append(1)
        except BaseException as error:
            unexpected.append(error)
        futures.append(mine)

    threads = [threading.Thread(target=submit) for _ in range(4)]
    for thread in threads:
        thread.start()
    busy.wait()
    pool.shutdown(wait=wait, cancel_futures=cancel)
    for thread in threads:
        thread.join()
    assert not unexpected and len(refused) == 4
    cancelled = 0
    for mine in futures:
        for number, future in enumerate(mine):
            try:
                assert future.result(timeout=60) == number
            except concurrent.futures.CancelledError:
                cancelled += 1
    assert cancel or cancelled == 0
    pool.shutdown()


def test_actors_called_while_the_pool_closes_answer_or_say_that_it_is_closed():
    @multipy.remote
    class Echo:
        def say(self, value):
            return value

    pool = multipy.Pool(2)
    echo = Echo.options(pool=pool, replicas="all").remote()
    answers, busy, unexpected = [], threading.Barrier(4), []

    def call():
        busy.wait()
        try:
            while True:
                answers.append(echo.say.submit(len(answers)))
        except (multipy.ActorClosedError, multipy.PoolClosedError):
            pass
        except BaseException as error:
            unexpected.append(error)

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    busy.wait()
    echo.say(0)
    pool.shutdown()
    for thread in threads:
        thread.join()
    assert not unexpected
    for future in answers:
        assert isinstance(future.result(timeout=60), int)


def test_many_threads_may_close_at_once():
    pool = multipy.Pool(2)
    futures = [pool.submit(abs, -number) for number in range(50)]
    threads = [threading.Thread(target=pool.shutdown) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert multipy.get(futures, timeout=0) == list(range(50))


def test_a_callback_may_close_the_pool():
    pool = multipy.Pool(1)
    closed = threading.Event()

    def close(_):
        pool.shutdown()
        closed.set()

    pool.submit(abs, 1).add_done_callback(close)
    assert closed.wait(60)


def test_waiters_of_cancelled_calls_are_told(gate):
    pool = multipy.Pool(1)
    running = pool.submit(gate.stop)
    gate.arrivals()
    queued = [pool.submit(abs, 1) for _ in range(5)]
    told, all_told = [], threading.Event()
    for future in queued:
        future.add_done_callback(lambda f: told.append(f) or (len(told) == 5 and all_told.set()))
    pool.shutdown(wait=False, cancel_futures=True)
    assert all_told.wait(60)
    done, rest = concurrent.futures.wait(queued, timeout=60)
    assert done == set(queued) and not rest and all(future.cancelled() for future in queued)
    gate.open()
    running.result()
    pool.shutdown()


# Ending an interpreter -------------------------------------------------------------------------------------


def test_atexit_handlers_of_each_interpreter_run_on_its_own_thread():
    reader, writer = os.pipe()

    def register(index, writer):
        import atexit

        def report():
            thread = threading.current_thread()
            main = thread is threading.main_thread()
            os.write(writer, f"{index} {threading.get_native_id()} {main}\n".encode())

        atexit.register(report)
        return threading.get_native_id()

    with multipy.Pool(2) as pool:
        threads = [
            interpreter.submit(register, interpreter.id, writer).result() for interpreter in pool.interpreters
        ]
    os.close(writer)
    with os.fdopen(reader) as file:
        lines = sorted(file)
    assert lines == [f"{index} {thread} True\n" for index, thread in enumerate(threads)]


def test_atexit_handlers_run_after_what_was_queued():
    reader, writer = os.pipe()

    def register():
        import atexit

        atexit.register(os.write, writer, b"exit")

    with multipy.Pool(1) as pool:
        pool.submit(register)
        for _ in range(20):
            pool.submit(os.write, writer, b".")
    assert os.read(reader, 100) == b"." * 20 + b"exit"
    os.close(reader)
    os.close(writer)


def test_threads_that_end_soon_are_waited_for():
    reader, writer = os.pipe()

    def start():
        def run():
            os.read(reader, 1)
            sum(range(100_000))
            os.write(writer, b"done")

        threading.Thread(target=run).start()

    with multipy.Pool(1) as pool:
        pool.submit(start).result()
        os.write(writer, b"x")
    assert os.read(reader, 10) == b"done"
    os.close(reader)
    os.close(writer)


def test_an_interpreter_can_be_replaced_many_times():
    for number in range(10):
        with multipy.Pool(2, preload=["json"]) as pool:
            assert multipy.get(pool.broadcast(abs, -number)) == [number, number]


def test_pools_live_beside_each_other():
    with multipy.Pool(2) as first, multipy.Pool(1) as second:
        assert first.submit(abs, -1).result() == 1
        with multipy.Pool(1) as third:
            assert third.submit(abs, -3).result() == 3
        assert second.submit(abs, -2).result() == 2
    with pytest.raises(multipy.PoolClosedError):
        first.submit(abs, 1)


def test_no_threads_are_left_of_a_closed_pool():
    def names():
        found = []
        for thread in os.listdir("/proc/self/task"):
            with contextlib.suppress(OSError), open(f"/proc/self/task/{thread}/comm") as file:
                found.append(file.read().strip())
        return sorted({name for name in found if name.startswith("leaving")})

    with multipy.Pool(3, name="leaving") as pool:
        multipy.get(pool.broadcast(abs, 1))
        assert names() == ["leaving-0", "leaving-1", "leaving-2"]
    # The last instructions of a thread come after it has reported its end.
    end = time.monotonic() + 60
    while names():
        assert time.monotonic() < end
        os.sched_yield()


def test_ten_torch_interpreters_can_be_opened_and_closed_in_a_row(run_script):
    run_script(
        """
        import multipy_actors as multipy

        def work():
            import torch
            return float(torch.ones(3).sum())

        for _ in range(10):
            with multipy.Pool(1) as pool:
                assert pool.submit(work).result() == 3.0
        """
    )


def test_a_forked_child_may_not_use_its_parents_pool_but_open_its_own(run_script):
    finished = run_script(
        """
        import os, threading
        import multipy_actors as multipy

        pool = multipy.Pool(2)
        future = pool.submit(abs, -1)
        future.add_done_callback(lambda _: None)
        future.result()
        child = os.fork()
        if child == 0:
            try:
                pool.submit(abs, 1)
            except multipy.PoolClosedError:
                print("closed", flush=True)
            pool.shutdown()
            with multipy.Pool(1) as own:
                done = own.submit(abs, -5)
                called = threading.Event()
                done.add_done_callback(lambda _: called.set())
                print(multipy.get(done), called.wait(60), flush=True)
            raise SystemExit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert pool.submit(abs, -1).result() == 1
        pool.shutdown()
        """
    )
    assert finished.stdout == "closed\n5 True\n"
