"""Actors with `async def` methods: what runs at once, in which order it begins, and how it is made to end."""

import asyncio
import gc
from concurrent.futures import TimeoutError as FutureTimeoutError

import pytest
from gates import Gate

import multipy_actors as multipy

PATIENCE = 60


@multipy.remote
class Desk:
    """Notes what happens to it; its visitors wait at gates, off the loop."""

    def __init__(self, fail=False):
        import threading

        if fail:
            raise ValueError("no desk")
        self.thread = threading.get_ident()
        self.entries = []
        self.visitors = [0]
        self.opened = asyncio.Event()

    async def visit(self, name, gate):
        self.entries.append(name)
        self.visitors.append(self.visitors[-1] + 1)
        await asyncio.to_thread(gate.stop)
        self.visitors.append(self.visitors[-1] - 1)
        return name

    def most(self):
        return max(self.visitors)

    async def wait(self, gate=None):
        if gate is not None:
            gate.report()
        try:
            await self.opened.wait()
        except asyncio.CancelledError:
            self.entries.append("cancelled")
            raise
        return "opened"

    async def stubborn(self, gate):
        gate.report()
        try:
            await self.opened.wait()
        except asyncio.CancelledError:
            return "stayed"

    async def open(self):
        self.opened.set()

    def note(self, name):
        self.entries.append(name)

    def read(self):
        return self.entries

    def on_one_thread(self):
        import threading

        return threading.get_ident() == self.thread

    async def on_one_thread_later(self):
        await asyncio.sleep(0)
        return self.on_one_thread()

    async def raise_it(self, error):
        await asyncio.sleep(0)
        raise error

    async def echo(self, value):
        await asyncio.sleep(0)
        return value

    async def unsendable(self):
        return (item for item in ())

    def give(self, value):
        return self.echo(value)

    @property
    def count(self):
        return len(self.entries)

    def __enter__(self):
        self.entries.append("entered")
        return self

    def __exit__(self, *_):
        self.entries.append("left")

    async def __call__(self, value):
        return value + 1

    async def ask(self, other, value):
        return [
            await other.echo.submit(value),
            *await asyncio.gather(*(other.echo.submit(i) for i in range(3))),
        ]

    async def spawn_exit(self):
        async def leave():
            raise SystemExit(3)

        task = asyncio.get_running_loop().create_task(leave())
        await asyncio.wait({task})
        return type(task.exception()).__name__


@multipy.remote
class Worker:
    def echo(self, value):
        return value

    def ask_async(self, desk, value):
        return desk.echo(value)

    def stop(self, gate):
        return gate.stop("stopped")


@pytest.fixture
def desk(pool):
    return Desk.options(pool=pool).remote()


def test_coroutines_of_one_actor_run_at_the_same_time(desk):
    with Gate() as gate:
        visits = [desk.visit.submit(name, gate) for name in range(3)]
        gate.arrivals(3)
        assert not any(visit.done() for visit in visits)
        gate.open()
        assert multipy.get(visits, timeout=PATIENCE) == [0, 1, 2]


def test_one_coroutine_lets_another_one_go_on(desk):
    waiting = desk.wait.submit()
    desk.open()
    assert waiting.result(PATIENCE) == "opened"


def test_all_methods_and_the_constructor_run_on_one_thread(desk):
    assert desk.on_one_thread()
    assert desk.on_one_thread_later()


def test_calls_begin_in_the_order_they_were_submitted(desk):
    with Gate() as gate:
        gate.open()
        futures = [desk.visit.submit(i, gate) if i % 3 else desk.note.submit(i) for i in range(60)]
        multipy.get(futures, timeout=PATIENCE)
    assert desk.read() == list(range(60))


def test_other_actors_of_the_interpreter_go_on_meanwhile(pool):
    desk = Desk.options(pool=pool, interpreter=0).remote()
    worker = Worker.options(pool=pool, interpreter=0).remote()
    waiting = desk.wait.submit()
    assert worker.echo(1) == 1
    assert not waiting.done()
    desk.open()
    assert waiting.result(PATIENCE) == "opened"


def test_at_most_max_concurrency_coroutines_are_under_way(pool):
    desk = Desk.options(pool=pool, max_concurrency=2).remote()
    with Gate() as gate:
        visits = [desk.visit.submit(name, gate) for name in range(5)]
        gate.arrivals(2)
        gate.open()
        assert multipy.get(visits, timeout=PATIENCE) == list(range(5))
    assert desk.most() == 2


def test_a_call_that_waits_for_others_can_be_interrupted(pool):
    desk = Desk.options(pool=pool, max_concurrency=1).remote()
    with Gate() as gate:
        first = desk.visit.submit("first", gate)
        gate.arrivals()
        second = desk.visit.submit("second", gate)
        while not second.running():
            assert not second.done()
        assert second.cancel(interrupt=True)
        with pytest.raises(multipy.Interrupted):
            second.result(PATIENCE)
        gate.open()
        assert first.result(PATIENCE) == "first"
    assert desk.read() == ["first"]


def test_with_a_concurrency_of_one_calls_run_one_after_the_other(pool):
    desk = Desk.options(pool=pool, max_concurrency=1).remote()
    with Gate() as gate:
        first = desk.visit.submit("first", gate)
        gate.arrivals()
        second = desk.read.submit()
        assert not second.done()
        gate.open()
        assert first.result(PATIENCE) == "first"
        assert second.result(PATIENCE) == ["first"]


def test_an_interrupt_cancels_the_coroutine_and_leaves_the_actor_usable(desk):
    with Gate() as gate:
        waiting = desk.wait.submit(gate)
        gate.arrivals()
        assert waiting.cancel(interrupt=True)
        with pytest.raises(multipy.Interrupted):
            waiting.result(PATIENCE)
    assert desk.read() == ["cancelled"]


def test_a_coroutine_that_catches_its_cancellation_has_its_own_result(desk):
    with Gate() as gate:
        waiting = desk.stubborn.submit(gate)
        gate.arrivals()
        waiting.cancel(interrupt=True)
        assert waiting.result(PATIENCE) == "stayed"


def test_a_call_that_takes_too_long_times_out_and_is_cancelled(pool):
    desk = Desk.options(pool=pool, timeout=0.2).remote()
    waiting = desk.wait.submit()
    with pytest.raises(FutureTimeoutError):
        waiting.result(PATIENCE)
    while desk.read() != ["cancelled"]:
        pass


@pytest.mark.parametrize(
    "error",
    [ValueError("v"), SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError("c"), StopAsyncIteration()],
)
def test_whatever_a_coroutine_raises_fails_its_call_alone(desk, error):
    waiting = desk.wait.submit()
    with pytest.raises(type(error)) as raised:
        desk.raise_it(error)
    assert "raise_it" in str(raised.value.__cause__)
    desk.open()
    assert waiting.result(PATIENCE) == "opened"


def test_a_task_of_the_users_that_exits_does_not_end_the_loop(desk):
    assert desk.spawn_exit() == "SystemExit"
    assert desk.echo(1) == 1


def test_what_the_constructor_raises_the_calls_raise(pool):
    desk = Desk.options(pool=pool).remote(fail=True)
    for _ in range(2):
        with pytest.raises(ValueError, match="no desk"):
            desk.echo(1)


def test_a_result_that_cannot_be_sent_fails_its_call(desk):
    with pytest.raises(multipy.SerializationError, match=r"result.*generator"):
        desk.unsendable()


def test_a_plain_method_may_return_a_coroutine(desk):
    assert desk.give(5) == 5


def test_properties_call_and_with_work_as_for_any_actor(desk):
    assert desk(1) == 2
    with desk as entered:
        assert entered == desk
        assert desk.count == 1
    assert desk.read() == ["entered", "left"]


def test_a_future_that_is_an_argument_is_awaited_on_the_loop(pool):
    desk = Desk.options(pool=pool, interpreter=0).remote()
    worker = Worker.options(pool=pool, interpreter=1).remote()
    with Gate() as gate:
        stopped = worker.stop.submit(gate)
        gate.arrivals()
        echo = desk.echo.submit(stopped)
        assert desk.echo(1) == 1  # neither the loop nor the worker waits for it
        assert not echo.done()
        gate.open()
        assert echo.result(PATIENCE) == "stopped"


@pytest.mark.parametrize("interpreter", [0, 1])
def test_a_coroutine_awaits_calls_of_other_actors_and_of_its_own(pool, interpreter):
    desk = Desk.options(pool=pool, interpreter=0).remote()
    worker = Worker.options(pool=pool, interpreter=interpreter).remote()
    assert desk.ask(worker, "x") == ["x", 0, 1, 2]
    assert desk.ask(desk, "x") == ["x", 0, 1, 2]


def test_a_plain_actor_of_the_same_interpreter_may_wait_for_a_coroutine_that_runs(pool):
    desk = Desk.options(pool=pool, interpreter=0).remote()
    worker = Worker.options(pool=pool, interpreter=0).remote()
    with Gate() as gate:
        visit = desk.visit.submit("v", gate)
        gate.arrivals()
        echo = worker.echo.submit(visit)
        while not echo.running():
            assert not echo.done()
        gate.open()
        assert echo.result(PATIENCE) == "v"


def test_a_call_may_wait_for_a_coroutine_of_its_own_interpreter(pool):
    desk = Desk.options(pool=pool, interpreter=0).remote()
    worker = Worker.options(pool=pool, interpreter=0).remote()
    assert worker.ask_async(desk, 7) == 7


def test_a_killed_actors_callers_get_actor_closed_error(desk):
    with Gate() as gate:
        waiting = [desk.wait.submit(gate) for _ in range(3)]
        gate.arrivals(3)
        multipy.kill(desk)
        for future in waiting:
            with pytest.raises(multipy.ActorClosedError):
                future.result(PATIENCE)


def test_killing_does_not_wait_for_the_interpreters_worker(pool):
    desk = Desk.options(pool=pool, interpreter=0).remote()
    worker = Worker.options(pool=pool, interpreter=0).remote()
    with Gate() as gate:
        waiting = desk.wait.submit(gate)
        gate.arrivals()
        busy = worker.stop.submit(gate)
        gate.arrivals()
        multipy.kill(desk)
        with pytest.raises(multipy.ActorClosedError):
            waiting.result(PATIENCE)
        gate.open()
        assert busy.result(PATIENCE) == "stopped"


def test_a_dropped_actor_ends_when_its_calls_have(pool):
    desk = Desk.options(pool=pool).remote()
    with Gate() as gate:
        visit = desk.visit.submit("last", gate)
        gate.arrivals()
        del desk
        gc.collect()
        gate.open()
        assert visit.result(PATIENCE) == "last"


def test_statistics_count_coroutines_once(pool):
    desk = Desk.options(pool=pool).remote()
    desk.echo(1)
    with pytest.raises(ValueError, match="v"):
        desk.raise_it(ValueError("v"))
    figures = desk.statistics()
    assert (figures["done"], figures["failed"]) == (2, 1)


def test_a_pool_ends_when_its_coroutines_have():
    with Gate() as gate:
        with multipy.Pool(1) as pool:
            desk = Desk.options(pool=pool).remote()
            visits = [desk.visit.submit(i, gate) for i in range(3)]
            gate.arrivals(3)
            gate.open()
        assert [visit.result(0) for visit in visits] == [0, 1, 2]


def test_a_pool_that_is_left_by_an_exception_cancels_its_coroutines():
    def leave():
        with Gate() as gate, multipy.Pool(1) as pool:
            desk = Desk.options(pool=pool).remote()
            waiting.append(desk.wait.submit(gate))
            gate.arrivals()
            raise LookupError

    waiting = []
    with pytest.raises(LookupError):
        leave()
    with pytest.raises(multipy.Interrupted):
        waiting[0].result(PATIENCE)


def test_thousands_of_calls_leave_nothing_behind(pool):
    desk = Desk.options(pool=pool).remote()
    multipy.get([desk.echo.submit(i) for i in range(200)])
    count = pool.submit(_count_tasks).result(PATIENCE)
    assert [desk.echo(i) for i in range(2000)] == list(range(2000))
    assert pool.submit(_count_tasks).result(PATIENCE) <= count + 20


def _count_tasks():
    gc.collect()
    return sum(1 for item in gc.get_objects() if type(item).__name__ in ("Task", "_Job"))
