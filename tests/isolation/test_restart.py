"""Interpreters that end while their pool is open, and those that take their places."""

from __future__ import annotations

import textwrap

import pytest

import multipy_actors as multipy

PRELUDE = textwrap.dedent(
    """
    import multipy_actors as multipy


    def end_this_interpreter():
        '''Have the worker loop fail whatever it does, as no code of a user should.'''
        from multipy_actors.worker import serve

        def fail(*args):
            raise SystemError("broken")

        serve._execute = serve.run = fail
        type(serve._native.current_worker()).lost = fail


    def end_in_the_middle_of_this_call():
        from multipy_actors.worker import serve

        end_this_interpreter()
        serve.leave_gpu = serve._execute


    def square(x):
        return x * x


    class Counter:
        def __init__(self, start):
            self.count = start

        def add(self):
            self.count += 1
            return self.count

        def end(self):
            end_this_interpreter()


    def died(function, *args):
        try:
            function(*args)
        except multipy.InterpreterDiedError as error:
            return str(error)
        raise AssertionError("that interpreter should have ended")
    """
)


@pytest.fixture
def run_with_prelude(run_script):
    return lambda script: run_script(PRELUDE + textwrap.dedent(script))


def test_another_interpreter_takes_the_place_and_is_set_up_alike(run_with_prelude):
    run_with_prelude(
        """
        import sys

        def initialise(value):
            global initialised
            initialised = value

        def state():
            return initialised, "/added/later" in sys.path, sys.modules.get("colorsys") is not None

        options = {"initializer": initialise, "initargs": (7,), "preload": ["colorsys"], "restart": True}
        with multipy.Pool(2, name="mortal", **options) as pool:
            on_0 = pool.interpreters[0].submit
            pool.register_module_source("made_up", "value = 3")
            sys.path.append("/added/later")
            assert on_0(state).result(timeout=60) == (7, True, True)
            on_0(end_this_interpreter).result(timeout=60)
            assert "mortal-0 has ended" in died(on_0(abs, -1).result, 60)
            assert on_0(state).result(timeout=60) == (7, True, True)
            assert on_0(eval, "__import__('made_up').value").result(timeout=60) == 3
            assert [figures["restarts"] for figures in pool.statistics()] == [1, 0]
            assert sorted(pool.map(abs, range(-20, 0), timeout=60)) == list(range(1, 21))
        """
    )


def test_actors_are_made_anew_as_often_as_they_may_be(run_with_prelude):
    run_with_prelude(
        """
        with multipy.Pool(1, name="mortal", restart=True) as pool:
            make = multipy.remote(Counter).options
            never = make(pool=pool).remote(0)
            once = make(pool=pool, max_restarts=1, name="once").remote(10)
            always = make(pool=pool, max_restarts=-1).remote(20)
            assert [never.add(), once.add(), always.add()] == [1, 11, 21]

            always.end()
            for waiting in [never.add.submit(), once.add.submit(), always.add.submit()]:
                assert "has ended" in died(waiting.result, 60)
            assert [once.add(), once.add(), always.add()] == [11, 12, 21]
            assert "not made anew" in died(never.add)
            assert multipy.get_actor("once") == once

            always.end()
            died(always.add)
            assert always.add() == 21
            assert "not made anew" in died(once.add)
            try:
                multipy.get_actor("once")
            except ValueError:
                pass
            else:
                raise AssertionError("a lost actor was found by its name")
        """
    )


def test_calls_that_may_be_tried_again_are_and_in_their_order(run_with_prelude):
    run_with_prelude(
        """
        with multipy.Pool(1, restart=True) as pool:
            make = multipy.remote(Counter).options
            counter = make(pool=pool, max_restarts=-1, max_task_retries=-1).remote(0)
            for _ in range(3):
                counter.end()
                calls = [counter.add.submit() for _ in range(50)]
                assert [call.result(timeout=60) for call in calls] == list(range(1, 51))
        """
    )


def test_replicas_of_existing_objects_come_back_and_share_memory(run_with_prelude):
    run_with_prelude(
        """
        import numpy

        class Model:
            def __init__(self):
                self.weights = numpy.arange(1000.0)

            def total(self):
                return float(self.weights.sum())

            def end(self):
                end_this_interpreter()

        model = Model()
        with multipy.Pool(2, restart=True) as pool:
            replicas = multipy.replicate(model, pool)
            on_0 = replicas.on(0)
            assert on_0.total() == 499500.0
            on_0.end()
            died(on_0.total)
            model.weights[0] = 1.0
            assert on_0.total() == 499501.0
        """
    )


def test_a_session_ends_with_its_interpreter(run_with_prelude):
    run_with_prelude(
        """
        with multipy.Pool(1, restart=True) as pool:
            with pool.acquire() as session:
                number = session.global_("builtins", "abs")
                assert number(-1).value() == 1
                session.interpreter.submit(end_this_interpreter).result(timeout=60)
                died(lambda: number(-1).value())
                assert "has ended" in died(lambda: number(-1).value())
            assert pool.submit(abs, -2).result(timeout=60) == 2
        """
    )


def test_a_successor_that_cannot_be_set_up_leaves_an_error_that_says_why(run_with_prelude):
    run_with_prelude(
        """
        import os, tempfile

        def initialise(path):
            if os.path.exists(path):
                raise OSError("only once")
            open(path, "x").close()

        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "initialised")
            options = {"initializer": initialise, "initargs": (path,)}
            with multipy.Pool(1, name="mortal", restart=True, **options) as pool:
                pool.submit(end_this_interpreter).result(timeout=60)
                waiting = pool.submit(abs, -1)
                text = died(waiting.result, 60)
                assert "mortal-0" in text and "could not be set up: OSError: only once" in text, text
                died(lambda: pool.submit(abs, -1).result(timeout=60))
        """
    )


def test_a_pool_that_closes_while_an_interpreter_is_replaced_ends(run_with_prelude):
    run_with_prelude(
        """
        for _ in range(20):
            with multipy.Pool(1, restart=True) as pool:
                pool.submit(end_this_interpreter).result(timeout=60)
                try:
                    pool.submit(abs, -1)
                except multipy.MultipyError:
                    pass
        """
    )


@pytest.mark.parametrize("interpreters", [1, 2])
@pytest.mark.parametrize("close", ["pool.shutdown()", "pool.shutdown(wait=False)", "with pool: pass"])
def test_what_is_queued_runs_though_its_interpreter_is_replaced_while_the_pool_closes(
    run_with_prelude, interpreters, close
):
    run_with_prelude(
        f"""
        for _ in range(5):
            pool = multipy.Pool({interpreters}, restart=True)
            pool.interpreters[0].submit(end_this_interpreter)
            futures = [pool.submit(square, i) for i in range(10)]
            {close}
            assert [future.result(timeout=60) for future in futures] == [i * i for i in range(10)]
        """
    )


def test_what_is_queued_runs_at_the_end_of_the_process_though_its_interpreter_is_replaced(run_with_prelude):
    finished = run_with_prelude(
        """
        pool = multipy.Pool(1, restart=True)
        pool.submit(end_this_interpreter)
        for i in range(3):
            pool.submit(print, i, flush=True)
        pool.shutdown(wait=False)
        """
    )
    assert finished.stdout.splitlines() == ["(pool-1-0) 0", "(pool-1-0) 1", "(pool-1-0) 2"]


def test_a_closed_pool_replaces_as_often_as_calls_are_left_and_says_why_others_failed(run_with_prelude):
    run_with_prelude(
        """
        with multipy.Pool(1, name="mortal", restart=True) as pool:
            futures = []
            for i in range(3):
                futures.append(pool.submit(end_in_the_middle_of_this_call))
                futures.append(pool.submit(square, i))
            alone = pool.interpreters[0].submit(square, 1)
        for i in range(3):
            assert "the interpreter mortal-0 has ended" in died(futures[2 * i].result, 60)
            assert futures[2 * i + 1].result(timeout=60) == i * i
        assert "the interpreter mortal-0 has ended" in died(alone.result, 60)
        assert pool.statistics()[0]["restarts"] == 3
        """
    )


def test_a_closed_pool_that_replaces_nothing_says_why_its_calls_failed(run_with_prelude):
    run_with_prelude(
        """
        with multipy.Pool(1, name="mortal") as pool:
            ends = pool.submit(end_in_the_middle_of_this_call)
            futures = [pool.submit(square, i) for i in range(3)]
        for future in [ends, *futures]:
            assert "the interpreter mortal-0 has ended" in died(future.result, 60)
        """
    )


@pytest.mark.parametrize("retries", [3, -1])
def test_a_closed_pool_comes_to_its_end_though_a_call_ends_every_interpreter(run_with_prelude, retries):
    run_with_prelude(
        f"""
        class Mortal:
            def square(self, x):
                return square(x)

            def end(self):
                end_in_the_middle_of_this_call()

        with multipy.Pool(1, restart=True) as pool:
            make = multipy.remote(Mortal).options
            mortal = make(pool=pool, max_restarts=-1, max_task_retries={retries}).remote()
            before, end, after = mortal.square.submit(2), mortal.end.submit(), mortal.square.submit(3)
            function = pool.submit(square, 4)
        assert before.result(timeout=60) == 4
        assert "has ended" in died(end.result, 60)
        assert after.result(timeout=60) == 9
        assert function.result(timeout=60) == 16
        assert pool.statistics()[0]["restarts"] >= 1
        """
    )


@pytest.mark.parametrize(
    "close",
    [
        "pool.shutdown(cancel_futures=True)",
        "pool.shutdown(interrupt=True)",
        "pool.__exit__(KeyError, KeyError(), None)",
        "del pool",
        "sys.exit()",
    ],
)
def test_a_pool_that_does_not_run_what_is_queued_ends_soon_though_its_interpreter_does(
    run_with_prelude, close
):
    run_with_prelude(
        f"""
        import sys, warnings

        warnings.simplefilter("ignore", ResourceWarning)
        for _ in range(3):
            pool = multipy.Pool(1, restart=True)
            pool.submit(end_in_the_middle_of_this_call)
            futures = [pool.submit(square, i) for i in range(100)]
            {close}
            for future in futures:
                multipy.wait([future], timeout=60)
                assert future.done()
        """
    )


def test_coroutines_fail_with_their_interpreter_or_are_tried_again(run_with_prelude):
    run_with_prelude(
        """
        import asyncio, tempfile, os

        class Sleeper:
            async def wait_for(self, path):
                while not os.path.exists(path):
                    await asyncio.sleep(0.01)
                return path

        with tempfile.TemporaryDirectory() as folder, multipy.Pool(1, restart=True) as pool:
            make = multipy.remote(Sleeper).options
            lost = make(pool=pool, max_restarts=1).remote()
            tried_again = make(pool=pool, max_restarts=1, max_task_retries=1).remote()
            path = os.path.join(folder, "ready")
            waiting = [lost.wait_for.submit(path), tried_again.wait_for.submit(path)]
            pool.submit(end_this_interpreter).result(timeout=60)
            assert pool.submit(abs, -1).result(timeout=60) == 1  # begun in the one, and run in the other
            died(waiting[0].result, 60)
            open(path, "x").close()
            assert waiting[1].result(timeout=60) == path
            assert lost.wait_for(path) == path
        """
    )


def test_calls_of_many_threads_are_right_while_interpreters_end(run_with_prelude):
    run_with_prelude(
        """
        import threading
        import numpy

        class Echo:
            async def echo(self, value):
                return value

        weights = numpy.arange(10000.0)
        with multipy.Pool(2, restart=True) as pool:
            options = {"pool": pool, "max_restarts": -1, "max_task_retries": -1}
            counters = [multipy.remote(Counter).options(**options).remote(0) for _ in range(4)]
            echo = multipy.remote(Echo).options(**options).remote()
            over = threading.Event()
            failures = []

            def call(thread):
                calls = 0
                try:
                    while not over.is_set():
                        assert counters[thread].add.submit().result(timeout=60) > 0
                        assert echo.echo.submit(calls).result(timeout=60) == calls
                        assert pool.submit(numpy.sum, weights).result(timeout=60) == 49995000.0
                        calls += 1
                    assert calls > 0
                except BaseException as error:
                    failures.append(error)

            threads = [threading.Thread(target=call, args=(thread,)) for thread in range(4)]
            for thread in threads:
                thread.start()
            for death in range(10):
                on = pool.interpreters[death % 2]
                on.submit(end_this_interpreter).exception(timeout=60)
                on.submit(abs, -1).exception(timeout=60)
            over.set()
            for thread in threads:
                thread.join()
            assert failures == []
            assert sum(figures["restarts"] for figures in pool.statistics()) == 10
        """
    )


def test_an_actor_that_is_to_be_made_anew_needs_a_pool_that_replaces_interpreters():
    actor = multipy.remote(type("Plain", (), {}))
    with multipy.Pool(1) as pool:
        with pytest.raises(ValueError, match=r"max_restarts needs .*Pool\(restart=True\)"):
            actor.options(pool=pool, max_restarts=1).remote()
        assert pool.submit(abs, -1).result(timeout=60) == 1
    with multipy.Pool(1, restart=True) as pool:
        with pytest.raises(ValueError, match="max_task_retries needs max_restarts"):
            actor.options(pool=pool, max_task_retries=1).remote()
        for bad in (-2, 1.5, True, "1"):
            with pytest.raises(ValueError, match="option 'max_restarts' must be"):
                actor.options(max_restarts=bad)
        assert actor.options(pool=pool, max_restarts=-1, max_task_retries=-1).remote() is not None
