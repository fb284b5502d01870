"""Interrupts and time limits reach whatever a call runs, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from pathlib import Path

import pytest
from sample_actors import Friend, Spinner

import multipy_actors as multipy

PATIENCE = 15
LIMIT = 1  # seconds; what is to be done within it takes milliseconds


def spin():
    while True:
        pass


def report_and_spin(gate):
    gate.report()
    while True:
        pass


class SpinsWhenRead:
    """Its bytes cannot be decoded in finite time."""

    def __init__(self, gate):
        self.gate = gate

    def __reduce__(self):
        return report_and_spin, (self.gate,)


class SpinsWhenSent:
    """It cannot be encoded in finite time."""

    def __init__(self, gate):
        self.gate = gate

    def __reduce__(self):
        report_and_spin(self.gate)


class SpinningError(Exception):
    def __init__(self, gate):
        super().__init__()
        self.gate = gate

    def __str__(self):
        report_and_spin(self.gate)


@multipy.remote
class Plain:
    def __init__(self, gate=None):
        if gate is not None:
            report_and_spin(gate)

    def take(self, value):
        return 1

    def give(self, gate):
        return SpinsWhenSent(gate)

    def fail(self, gate):
        raise SpinningError(gate)

    def swallow(self, gate):
        gate.report()
        while True:
            try:
                while True:
                    pass
            except Exception:
                pass

    def finalise(self, gate):
        class Slow:
            def __del__(self):
                report_and_spin(gate)

        Slow()
        spin()

    def stop(self, gate):
        gate.stop()

    def steps(self, gate):
        try:
            yield 1
            yield 2
        finally:
            report_and_spin(gate)

    def clean_up_for_ever(self, gate):
        try:
            yield 1
            report_and_spin(gate)
        finally:
            spin()

    def ok(self):
        return "ok"


@multipy.remote
class Asynchronous:
    def __init__(self, gate=None):
        self.opened = asyncio.Event()
        if gate is not None:
            report_and_spin(gate)

    def plain(self, gate):
        report_and_spin(gate)

    async def spinning(self, gate):
        report_and_spin(gate)

    async def in_a_task(self, gate):
        await asyncio.create_task(self.spinning(gate))

    async def swallow(self, gate):
        gate.report()
        while True:
            try:
                while True:
                    pass
            except Exception:
                pass

    async def steps(self, gate):
        yield 1
        report_and_spin(gate)

    async def block(self, friend, gate):
        return friend.call("spin", gate)

    async def wait(self, gate):
        gate.report()
        await self.opened.wait()
        return "waited"

    async def open(self):
        self.opened.set()

    async def ok(self):
        return "ok"


def ends_as_interrupted(future):
    assert future.cancel(interrupt=True)
    assert type(future.exception(PATIENCE)) is multipy.Interrupted


# Where interrupts come -------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["argument", "result", "error", "finaliser", "retries"])
def test_one_interrupt_ends_whatever_a_call_runs(pool, gate, what):
    plain = Plain.options(pool=pool).remote()
    future = {
        "argument": lambda: plain.take.submit(SpinsWhenRead(gate)),
        "result": lambda: plain.give.submit(gate),
        "error": lambda: plain.fail.submit(gate),
        "finaliser": lambda: plain.finalise.submit(gate),
        "retries": lambda: plain.swallow.submit(gate),
    }[what]()
    gate.arrivals()
    assert future.cancel(interrupt=True)
    assert type(future.exception(PATIENCE)) is multipy.Interrupted
    assert plain.ok.submit().result(PATIENCE) == "ok"


@pytest.mark.parametrize("what", ["argument", "result", "error", "retries"])
def test_a_time_limit_ends_whatever_a_call_runs(pool, gate, what):
    limited = Plain.options(pool=pool, interpreter=0, timeout=LIMIT).remote()
    with pytest.raises(TimeoutError):
        {
            "argument": lambda: limited.take(SpinsWhenRead(gate)),
            "result": lambda: limited.give(gate),
            "error": lambda: limited.fail(gate),
            "retries": lambda: limited.swallow(gate),
        }[what]()
    assert pool.interpreters[0].submit(abs, -1).result(PATIENCE) == 1


def test_an_interrupt_while_arguments_are_packed_is_no_serialization_error(pool, gate):
    def pack(friend, gate):
        rows = [(i, i) for i in range(3000)]
        gate.report()
        while True:
            friend.look.submit(len, rows)

    friend = Friend.options(pool=pool, interpreter=1).remote()
    for _ in range(5):
        future = pool.interpreters[0].submit(pack, friend, gate)
        gate.arrivals()
        ends_as_interrupted(future)


def test_it_is_to_the_code_what_ctrl_c_is(pool, gate):
    def names(gate):
        try:
            report_and_spin(gate)
        except BaseException as error:
            return (
                isinstance(error, KeyboardInterrupt),
                isinstance(error, multipy.Interrupted),
                isinstance(error, Exception),
                isinstance(error, multipy.MultipyError),
                type(error).__name__,
            )

    future = pool.submit(names, gate)
    gate.arrivals()
    assert future.cancel(interrupt=True)
    assert future.result(PATIENCE) == (True, True, False, False, "Interrupted")


def test_an_interrupt_is_raised_though_python_has_32_calls_pending(pool, gate):
    def fill(gate):
        import ctypes

        # Not of Python: ctypes would drop an interrupt that is raised in a callback.
        nothing = ctypes.cast(ctypes.CDLL(None).abs, ctypes.c_void_p)
        add = ctypes.pythonapi.Py_AddPendingCall

        def keep_full():
            while going:
                add(nothing, None)

        going = [True]
        threads = [threading.Thread(target=keep_full) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            report_and_spin(gate)
        finally:
            going.clear()
            for thread in threads:
                thread.join()

    future = pool.submit(fill, gate)
    gate.arrivals()
    ends_as_interrupted(future)


def test_a_module_that_is_being_imported_is_imported_to_its_end(tmp_path, gate):
    (tmp_path / "slowly_imported.py").write_text(
        "import builtins, time\nbuiltins.gate.report()\n"
        "end = time.monotonic() + 0.5\nwhile time.monotonic() < end: pass\nwhole = True\n"
    )

    def load(gate):
        import builtins

        builtins.gate = gate
        import slowly_imported

        assert slowly_imported.whole
        while True:
            pass

    def look():
        import sys

        return sys.modules["slowly_imported"].whole

    with multipy.Pool(1, env=multipy.PathEnvironment(tmp_path)) as pool:
        future = pool.submit(load, gate)
        gate.arrivals()
        ends_as_interrupted(future)
        assert pool.submit(look).result(PATIENCE)


# Event loops -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["plain", "spinning", "in_a_task", "swallow"])
def test_what_does_not_await_is_interrupted_on_the_event_loop(pool, gate, method):
    actor = Asynchronous.options(pool=pool).remote()
    other = actor.wait.submit(gate)
    gate.arrivals()
    future = getattr(actor, method).submit(gate)
    gate.arrivals()
    ends_as_interrupted(future)
    actor.open()
    assert other.result(PATIENCE) == "waited" and actor.ok.submit().result(PATIENCE) == "ok"


@pytest.mark.parametrize("method", ["plain", "spinning", "in_a_task", "swallow"])
def test_a_time_limit_leaves_an_actor_with_coroutines_usable(pool, gate, method):
    actor = Asynchronous.options(pool=pool, timeout=LIMIT).remote()
    with pytest.raises(TimeoutError):
        getattr(actor, method)(gate)
    free = Asynchronous.options(pool=pool).remote()
    assert free.ok.submit().result(PATIENCE) == "ok"


def test_a_coroutine_that_spins_is_interrupted_while_other_calls_outlive_their_limits(pool, gate):
    for _ in range(4):
        actor = Asynchronous.options(pool=pool, interpreter=0, timeout=0.05).remote()
        assert isinstance(actor.spinning.submit(gate).exception(PATIENCE), TimeoutError)
        end = time.monotonic() + PATIENCE
        while actor.ok.submit().exception(PATIENCE) is not None:
            assert time.monotonic() < end


def test_a_coroutine_behind_one_that_spins_is_not_hit_in_its_place(pool, gate):
    actor = Asynchronous.options(pool=pool).remote()
    spinning = actor.spinning.submit(gate)
    gate.arrivals()
    behind = [actor.ok.submit() for _ in range(3)]
    meant = actor.ok.submit()
    while not meant.running():  # the worker thread has handed it over
        pass
    assert meant.cancel(interrupt=True)
    assert not spinning.done()
    ends_as_interrupted(spinning)
    assert multipy.get(behind, timeout=PATIENCE) == ["ok"] * 3
    assert type(meant.exception(PATIENCE)) is multipy.Interrupted


def test_an_asynchronous_generator_that_does_not_await_is_interrupted(pool, gate):
    actor = Asynchronous.options(pool=pool, timeout=LIMIT).remote()
    stream = actor.steps.stream(gate)
    assert next(stream) == 1
    with pytest.raises(TimeoutError):
        next(stream)
    assert actor.ok.submit().result(PATIENCE) == "ok"


def test_a_coroutine_that_blocks_in_another_call_is_interrupted(pool, gate):
    spinner = Spinner.options(pool=pool, interpreter=1).remote()
    friend = Friend.options(pool=pool, interpreter=0).remote(spinner)
    actor = Asynchronous.options(pool=pool, interpreter=1).remote()
    future = actor.block.submit(friend, gate)
    gate.arrivals()
    ends_as_interrupted(future)
    assert actor.ok.submit().result(PATIENCE) == "ok"
    # What it waited for was given up with it, in turn.
    assert spinner.ok.submit().result(PATIENCE) == "ok"


def test_killing_an_actor_ends_its_coroutine_that_spins(pool, gate):
    actor = Asynchronous.options(pool=pool, interpreter=0).remote()
    future = actor.spinning.submit(gate)
    gate.arrivals()
    multipy.kill(actor)
    with pytest.raises(multipy.ActorClosedError):
        future.result(PATIENCE)
    other = Asynchronous.options(pool=pool, interpreter=0).remote()
    assert other.ok.submit().result(PATIENCE) == "ok"


# What belongs to calls -------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [Plain, Asynchronous])
def test_a_time_limit_bounds_init_and_its_calls_say_so(pool, gate, cls):
    actor = cls.options(pool=pool, interpreter=0, timeout=LIMIT).remote(gate)
    gate.arrivals()
    with pytest.raises(TimeoutError, match="outlived"):
        actor.ok()
    assert pool.interpreters[0].submit(abs, -1).result(PATIENCE) == 1
    with pytest.raises(TimeoutError, match="__init__ has outlived"):
        actor.ok()


def test_a_time_limit_bounds_the_end_of_a_generator(pool, gate):
    actor = Plain.options(pool=pool, interpreter=0, timeout=LIMIT).remote()
    for stream in (actor.steps.stream(gate), actor.clean_up_for_ever.stream(gate)):
        assert next(stream) == 1
        with pytest.raises(TimeoutError):
            list(stream)
        assert pool.interpreters[0].submit(abs, -1).result(PATIENCE) == 1


def test_a_time_limit_bounds_the_closing_of_a_stream(pool, gate):
    stream = Closing.options(pool=pool, interpreter=0, timeout=LIMIT).remote().endless.stream(gate)
    assert next(stream) == 1
    with pytest.raises(TimeoutError):
        stream.close()
    assert pool.interpreters[0].submit(abs, -1).result(PATIENCE) == 1


@multipy.remote
class Closing:
    def endless(self, gate):
        try:
            while True:
                yield 1
        finally:
            report_and_spin(gate)


def test_kill_answers_the_callers_of_what_is_blocked_in_c_at_once(gate):
    with multipy.Pool(1) as pool:
        actor = Plain.options(pool=pool).remote()
        future = actor.stop.submit(gate)
        gate.arrivals()
        multipy.kill(actor)
        with pytest.raises(multipy.Interrupted):
            future.result(PATIENCE)
        gate.open()
        assert pool.submit(abs, -1).result(PATIENCE) == 1


def test_one_call_of_a_batch_ends_alone_and_all_of_them_end_what_runs(pool, gate):
    actor = Batched.options(pool=pool).remote()
    futures = [actor.spin.submit(gate) for _ in range(3)]
    gate.arrivals()
    ends_as_interrupted(futures[1])
    assert not futures[0].done() and not futures[2].done()
    ends_as_interrupted(futures[0])
    ends_as_interrupted(futures[2])
    assert actor.ok.submit().result(PATIENCE) == "ok"


@multipy.remote
class Batched:
    @multipy.batch(max_batch_size=3, batch_wait=PATIENCE)
    def spin(self, gates):
        report_and_spin(gates[0])

    def ok(self):
        return "ok"


# Giving up a wait ------------------------------------------------------------------------------------------


def test_ctrl_c_in_a_call_that_is_waited_for_interrupts_it(run_script):
    finished = run_script(
        """
        import os, signal, threading
        import multipy_actors as multipy

        class Spinner:
            def spin(self, ready):
                os.write(ready, b"x")
                while True: pass
            def stream(self, ready):
                yield 1
                os.write(ready, b"x")
                while True: pass
            def ok(self): return "ok"

        read, write = os.pipe()

        def ctrl_c():
            os.read(read, 1)
            os.kill(os.getpid(), signal.SIGINT)

        def spin(ready):
            os.write(ready, b"x")
            while True: pass

        with multipy.Pool(1) as pool:
            spinner = multipy.remote(Spinner).options(pool=pool).remote()
            waits = (
                lambda: spinner.spin(write),
                lambda: spinner.broadcast.spin(write),
                lambda: list(spinner.spin.map([write])),
                lambda: list(pool.map(spin, [write])),
                lambda: list(spinner.stream.stream(write)),
            )
            for wait in waits:
                threading.Thread(target=ctrl_c).start()
                try:
                    wait()
                except KeyboardInterrupt:
                    print(spinner.ok.submit().result(60))
        """
    )
    assert finished.stdout == "ok\n" * 5 and finished.stderr == ""


WAITS = {
    "the future": lambda call, loop: call(),
    "a gathering": lambda call, loop: asyncio.gather(call()),
    "what asyncio wraps": lambda call, loop: asyncio.wrap_future(call(), loop=loop),
}


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_a_wait_in_asyncio_that_is_cancelled_interrupts_the_call(pool, gate, wait):
    spinner = Spinner.options(pool=pool).remote()

    async def main():
        loop = asyncio.get_running_loop()
        waiting = asyncio.ensure_future(wait(lambda: spinner.spin.submit(gate), loop))
        await asyncio.to_thread(gate.arrivals)
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
        return await asyncio.wait_for(spinner.ok.submit(), PATIENCE)

    assert asyncio.run(main()) == "ok"


def test_an_executor_of_asyncio_is_interrupted_with_its_wait(pool, gate):
    async def main():
        loop = asyncio.get_running_loop()
        waiting = [loop.run_in_executor(pool, report_and_spin, gate) for _ in range(2)]
        await asyncio.to_thread(gate.arrivals, 2)
        for future in waiting:
            future.cancel()
        return await loop.run_in_executor(pool, abs, -1)

    assert asyncio.run(main()) == 1


def test_a_shield_leaves_the_call_alone(pool, gate):
    async def main():
        future = pool.submit(gate.stop)
        waiting = asyncio.ensure_future(asyncio.shield(future))
        await asyncio.to_thread(gate.arrivals)
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting
        gate.open()
        return await future

    assert asyncio.run(main()) is None


# At random moments -----------------------------------------------------------------------------------------


def test_interrupts_at_random_moments_hit_whom_they_should(run_script):
    """A short round of `make interrupts`."""
    script = Path(__file__).parents[1] / "faults" / "interrupts.py"
    run_script(None, arguments=[str(script)], ROUNDS="150", SEED="1", timeout=300)
