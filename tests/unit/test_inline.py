"""Inline mode: the same code in the host, on the thread that calls, for debuggers."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import traceback

import numpy
import pytest

import multipy_actors as multipy

calls_here = []


@pytest.fixture
def inline():
    with multipy.Pool(2, inline=True) as pool:
        yield pool


@multipy.remote
class Counter:
    def __init__(self, start=0):
        if start < 0:
            raise ValueError("starts below zero")
        self.total = start

    def add(self, amount=1):
        calls_here.append(threading.get_ident())
        self.total += amount
        return self.total

    def fail(self):
        raise LookupError(self.total)

    def echo(self, value):
        return value

    def add_and_wait(self, other):
        return other.add.submit(10).result() + self.total

    def add_later(self, other):
        return other.add.submit(100)

    def where(self):
        return multipy.current_interpreter().id, len(multipy.default_pool())

    def count(self, end):
        try:
            yield from range(end)
            raise EOFError("all counted")
        finally:
            self.total += end

    @property
    def double(self):
        return 2 * self.total

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.total = -1


@multipy.remote
class Async:
    def __init__(self):
        self.loop = asyncio.get_running_loop()

    async def twice(self, value):
        await asyncio.sleep(0)
        return 2 * value

    def on_its_loop(self):
        return asyncio.get_running_loop() is self.loop

    async def count(self, end):
        for number in range(end):
            await asyncio.sleep(0)
            yield number


@multipy.remote
class Batched:
    @multipy.batch
    def lengths(self, texts):
        return [len(text) for text in texts]

    @multipy.batch(max_batch_size=4)
    def rows(self, array: numpy.ndarray):
        assert array.shape == (1, 3)
        return array * 2

    def length(self, text):
        return len(text)


@multipy.remote
def triple(value):
    return 3 * value


def test_no_interpreter_is_started(run_script):
    finished = run_script(
        """
        import os
        import multipy_actors as multipy
        with multipy.Pool(3, inline=True) as pool:
            assert pool.submit(pow, 2, 5).result() == 32 and pool.images() == [[], [], []]
            assert len(os.listdir("/proc/self/task")) == 2  # this thread and the notifier
        """
    )
    assert finished.stdout == ""


def test_a_future_is_done_when_submit_returns_and_the_call_ran_on_this_thread(inline):
    counter = Counter.options(pool=inline).remote(5)
    calls_here.clear()
    future = counter.add.submit(2)
    assert calls_here == [threading.get_ident()]
    assert future.done() and not future.cancel() and future.result() == 7


def test_functions_maps_and_broadcasts_work(inline):
    assert inline.submit(lambda x: x + 1, 1).result() == 2
    assert list(inline.map(abs, [-1, -2, -3], chunksize=2)) == [1, 2, 3]
    assert multipy.get(inline.broadcast(len, "abc")) == [3, 3]
    assert triple.options(pool=inline).submit(4).result() == 12
    assert [interpreter.submit(abs, -1).result() for interpreter in inline.interpreters] == [1, 1]


def test_replicas_have_their_own_state(inline):
    counter = Counter.options(pool=inline, replicas="all").remote()
    assert counter.broadcast.add(1) == [1, 1]
    assert counter.on(0).add(5) == 6 and counter.on(1).add(0) == 1
    counter.unload(0)
    assert counter.replicas == 1 and counter.add(0) == 1


def test_names_properties_context_managers_and_statistics_work(inline):
    counter = Counter.options(pool=inline, name="inline-counter").remote(2)
    assert multipy.get_actor("inline-counter") == counter and counter.double == 4
    with pytest.raises(ValueError, match="inline-counter"):
        Counter.options(pool=inline, name="inline-counter").remote()
    with counter as entered:
        assert entered == counter
    assert counter.double == -2
    assert counter.statistics() == {"replicas": 1, "queued": 0, "done": 4, "failed": 0}
    assert "inline-counter" in repr(counter)
    del counter, entered
    with pytest.raises(ValueError, match="no actor"):
        multipy.get_actor("inline-counter")


def test_an_error_is_raised_as_it_is_with_its_own_traceback(inline):
    counter = Counter.options(pool=inline).remote(3)
    error = counter.fail.submit().exception()
    assert type(error) is LookupError and error.args == (3,) and error.__cause__ is None
    assert traceback.extract_tb(error.__traceback__)[0].name == "fail"
    with pytest.raises(ValueError, match="below zero"):
        Counter.options(pool=inline).remote(-1).add()


def test_values_are_copies_tensors_are_shared_and_what_cannot_travel_fails(inline):
    counter = Counter.options(pool=inline).remote()
    sent = [1, {"a": (2, 3)}]
    received = counter.echo(sent)
    assert received == sent and received is not sent
    array = numpy.zeros(3)
    counter.echo(array)[1] = 5.0
    assert array[1] == 5.0
    with pytest.raises(multipy.SerializationError, match="argument 0"):
        counter.echo(threading.Lock())
    with pytest.raises(multipy.SerializationError, match="result"):
        inline.submit(threading.Lock).result()


def test_classes_of_the_program_stay_the_hosts_own(run_script):
    finished = run_script(
        """
        import multipy_actors as multipy

        calls = 0

        class Point:
            def touch(self):
                global calls
                calls += 1

        @multipy.remote
        class Keeper:
            def keep(self, point):
                global calls
                calls += 10
                point.touch()
                return point

        with multipy.Pool(1, inline=True) as pool:
            touch = Point.touch
            point = Keeper.options(pool=pool).remote().keep(Point())
            point.touch()
            assert type(point) is Point and Point.touch is touch
        print(calls)
        """
    )
    assert finished.stdout == "12\n"


def test_handles_and_futures_are_arguments_as_elsewhere(inline):
    first, second = (Counter.options(pool=inline, interpreter=index).remote(1) for index in range(2))
    assert first.add_and_wait(second) == 12
    assert first.echo(second) == second and first.echo([second])[0] == second
    assert first.echo(second.add.submit(1)) == 12
    assert first.echo([second.add.submit(1)])[0].result() == 13
    assert first.where() == (0, 2) and multipy.current_interpreter() is None


def test_a_call_on_an_actor_that_is_busy_runs_when_it_is_free(inline):
    counter = Counter.options(pool=inline).remote()
    assert counter.add_later(counter).result() == 100


def test_a_wait_that_would_never_end_is_an_error(inline):
    counter = Counter.options(pool=inline).remote()
    with pytest.raises(multipy.DeadlockError, match="Counter"):
        counter.add_and_wait(counter)
    assert counter.add(0) == 10


def test_threads_wait_for_an_actor_that_another_thread_is_in(inline):
    entered, leave = threading.Event(), threading.Event()
    gates.append((entered, leave))
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        inside = threads.submit(lambda: inline.interpreters[0].submit(stop_at_gate).result())
        assert entered.wait(60)
        waiting = inline.interpreters[0].submit(abs, -3)
        assert not waiting.done()
        told = threading.Event()
        waiting.add_done_callback(lambda _: told.set())
        leave.set()
        assert waiting.result(60) == 3 and inside.result(60) == "through" and told.wait(60)


gates = []


def stop_at_gate():
    entered, leave = gates.pop()
    entered.set()
    leave.wait(60)
    return "through"


def test_a_killed_actor_is_closed(inline):
    counter = Counter.options(pool=inline).remote()
    multipy.kill(counter)
    with pytest.raises(multipy.ActorClosedError):
        counter.add()


def test_a_closed_pool_takes_nothing(inline):
    counter = Counter.options(pool=inline).remote()
    inline.shutdown()
    with pytest.raises(multipy.PoolClosedError):
        inline.submit(abs, -1)
    with pytest.raises(multipy.ActorClosedError):
        counter.add()


def test_waiting_for_several_and_awaiting_work(inline):
    counter = Counter.options(pool=inline).remote()
    futures = [counter.add.submit() for _ in range(3)]
    assert multipy.wait(futures, 2) == (futures[:2], futures[2:])
    assert {future.result() for future in concurrent.futures.as_completed(futures)} == {1, 2, 3}

    async def gather():
        return await asyncio.gather(*futures, counter.add.submit())

    assert asyncio.run(gather()) == [1, 2, 3, 4]


def test_coroutines_run_on_a_loop_of_their_own_wherever_they_are_called_from(inline):
    actor = Async.options(pool=inline).remote()
    assert actor.twice(2) == 4 and actor.on_its_loop()

    async def call():
        task = asyncio.current_task()
        value = await actor.twice.submit(3)
        return value, asyncio.current_task() is task, [number async for number in actor.count.stream(3)]

    assert asyncio.run(call()) == (6, True, [0, 1, 2])


def test_streams_yield_raise_and_close(inline):
    counter = Counter.options(pool=inline).remote()
    numbers = []
    with pytest.raises(EOFError, match="all counted"):
        for number in counter.count.stream(2):
            numbers.append(number)
    assert numbers == [0, 1] and counter.echo([]) == [] and counter.add(0) == 2
    with counter.count.stream(10) as stream:
        assert next(stream) == 0
    assert counter.add(0) == 12 and list(stream) == []


def test_a_batched_method_gets_batches_of_one_and_the_others_single_values(inline):
    actor = Batched.options(pool=inline).remote()
    assert actor.lengths("four") == actor.length("four") == 4
    assert actor.rows(numpy.ones(3)).tolist() == [2.0, 2.0, 2.0]


def test_ctrl_c_goes_through_to_who_submitted(inline):
    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        inline.submit(interrupt)
    assert inline.submit(abs, -1).result() == 1
    future = inline.submit(exit_with, 3)
    with pytest.raises(SystemExit):
        future.result()


def exit_with(code):
    raise SystemExit(code)


def test_preload_initializer_and_the_default_pool_work_inline(run_script):
    finished = run_script(
        """
        import sys
        import multipy_actors as multipy

        @multipy.remote
        class Actor:
            def method(self):
                return "colorsys" in sys.modules

        options = dict(preload=["colorsys"], initializer=print, initargs=("ready",))
        multipy.init(interpreters=2, inline=True, **options)
        print(Actor.remote().method())
        multipy.shutdown()
        """
    )
    assert finished.stdout == "ready\nready\nTrue\n"


def test_breakpoint_stops_in_the_users_method(run_script):
    finished = run_script(
        """
        import io, sys
        import multipy_actors as multipy

        @multipy.remote
        class Actor:
            def method(self, value):
                breakpoint()
                return value + 1

        sys.stdin = io.StringIO("p 'value is', value\\nvalue = 41\\nc\\n")
        multipy.init(inline=True)
        print("result", Actor.remote().method(1))
        multipy.shutdown()
        """
    )
    assert "('value is', 1)" in finished.stdout and "result 42" in finished.stdout


def test_what_is_inline_cannot_leave_the_host_and_the_error_says_so(pool):
    with multipy.Pool(1, inline=True) as inline:
        handle = Counter.options(pool=inline).remote()
        future = inline.submit(abs, -1)
        counter = Counter.options(pool=pool).remote()
        handle_refused = r"cannot serialize \S+\.ReplicatedObj: it is of an inline pool"
        for path, attempt in (
            (r"argument 0\[0\]", lambda: pool.submit(len, [handle])),
            (r"argument 'a'\['x'\]", lambda: pool.submit(dict, a={"x": handle})),
            (r"argument 0", lambda: pool.broadcast(print, handle)),
            (r"argument 0", lambda: counter.add.submit(handle)),
            (r"argument 0", lambda: counter.broadcast.add(handle)),
            (r"argument 0", lambda: Counter.options(pool=pool).remote(handle)),
            (r"function captured variable 'handle'", lambda: pool.submit(lambda: handle)),
        ):
            with pytest.raises(multipy.SerializationError, match=f"{path}: {handle_refused}"):
                attempt()
        with pytest.raises(multipy.SerializationError, match=r"futures\.Future: it is of an inline pool"):
            pool.submit(abs, future)
        assert counter.add() == 1
        # The other way round is fine: the host may call whom it likes.
        assert inline.submit(lambda other: other.add(), counter).result() == 2
