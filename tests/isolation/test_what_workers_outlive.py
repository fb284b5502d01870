"""What user code raises in an interpreter ends that call and nothing else; what follows if one ends."""

from __future__ import annotations

import threading

import pytest

import multipy_actors as multipy


class Unprintable(BaseException):
    def __str__(self):
        raise Unprintable()


class Streaming:
    def items(self):
        yield 1
        raise Unprintable()


class Asynchronous:
    async def fail(self):
        raise Unprintable()

    async def answer(self):
        return 1


class Batched:
    def double(self, items):
        if 0 in items:
            raise Unprintable()
        return [2 * item for item in items]


def test_an_item_of_a_stream_that_raises_what_cannot_be_told_ends_the_stream(pool):
    actor = multipy.remote(Streaming).options(pool=pool).remote()
    with pytest.raises((Unprintable, multipy.RemoteError)):
        list(actor.items.stream())
    assert next(iter(actor.items.stream())) == 1


def test_a_coroutine_that_raises_what_cannot_be_told_leaves_the_loop_running(pool):
    actor = multipy.remote(Asynchronous).options(pool=pool).remote()
    for _ in range(3):
        with pytest.raises((Unprintable, multipy.RemoteError)):
            actor.fail()
        assert actor.answer() == 1


def test_a_batch_that_raises_what_cannot_be_told_fails_and_the_next_runs(pool):
    actor = multipy.remote(Batched).options(pool=pool, max_batch_size=4).remote()
    futures = [actor.double.submit(item) for item in (0, 0, 0)]
    for future in futures:
        with pytest.raises((Unprintable, multipy.RemoteError)):
            future.result(timeout=60)
    assert actor.double(3) == 6


def test_a_callback_that_raises_leaves_others_theirs(pool, gate):
    told = threading.Event()

    def leave(_):
        raise SystemExit("from a callback")

    def refuse(_):
        raise Unprintable()

    future = pool.submit(gate.stop)
    for callback in (leave, refuse, lambda _: told.set()):
        future.add_done_callback(callback)
    gate.open()
    assert told.wait(60)
    later = threading.Event()
    pool.submit(abs, -1).add_done_callback(lambda _: later.set())
    assert later.wait(60)


def test_what_another_thread_raises_in_the_notifier_costs_no_callback(run_script):
    run_script(
        """
        import ctypes, threading
        import multipy_actors as multipy

        with multipy.Pool(1) as pool:
            pool.submit(abs, 1).result()
            notifier = next(t for t in threading.enumerate() if t.name == "multipy-notifier")
            for _ in range(200):
                told = [threading.Event() for _ in range(5)]
                for event in told:
                    future = pool.submit(abs, -1)
                    future.add_done_callback(lambda _, event=event: event.set())
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(notifier.ident), ctypes.py_object(TimeoutError)
                )
                later = threading.Event()
                pool.submit(abs, -1).add_done_callback(lambda _: later.set())
                assert later.wait(60)
            assert notifier.is_alive()
        """
    )


def test_what_waits_for_an_interpreter_that_ends_fails_and_names_it(run_script):
    run_script(
        """
        import threading
        import multipy_actors as multipy

        class Actor:
            def method(self):
                return 1

        def break_the_loop():
            '''Have the worker loop fail whatever it does, as no code of a user should.'''
            from multipy_actors.worker import serve

            def fail(*args):
                raise SystemError("broken")

            serve._execute = serve.run = fail
            type(serve._native.current_worker()).lost = fail

        with multipy.Pool(2, name="mortal") as pool:
            actor = multipy.remote(Actor).options(pool=pool, interpreter=0).remote()
            assert actor.method() == 1
            on_0 = pool.interpreters[0].submit
            on_0(break_the_loop).result(timeout=60)
            told = threading.Event()
            for submit in (actor.method.submit, actor.method.submit, lambda: on_0(abs, -1)):
                try:
                    future = submit()
                    future.add_done_callback(lambda _: told.set())
                    future.result(timeout=60)
                except multipy.InterpreterDiedError as error:
                    assert "mortal-0" in str(error) or "have ended" in str(error), error
                else:
                    raise AssertionError("an interpreter that has ended ran a call")
            assert told.wait(60)
            assert pool.submit(abs, -1).result(timeout=60) == 1
        """
    )
