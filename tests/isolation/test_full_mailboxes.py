"""`max_pending`: who waits for room, who is refused, and what ends the wait."""

from __future__ import annotations

import asyncio
import signal
import threading

import pytest
from gates import Gate
from sample_actors import Counter, Friend

import multipy_actors as multipy

PATIENCE = 60


@multipy.remote
class Feeder:
    """An actor that submits to another one."""

    def feed(self, other, times):
        return len([other.add.submit() for _ in range(times)])

    def flood(self, gate, other):
        gate.stop()
        return [other.feed.submit(None, 0) for _ in range(3)]

    def report_and_feed(self, gate, other, times):
        gate.report()
        return self.feed(other, times)


@pytest.fixture
def full(pool, gate):
    """Return a function that makes an actor with a full mailbox of two, in interpreter 0."""

    def make(pool=pool, **options):
        counter = Counter.options(pool=pool, interpreter=0, max_pending=2, **options).remote()
        make.held = counter.on(0).stop.submit(gate, "ran")
        gate.arrivals()
        make.queued = [counter.add.submit() for _ in range(2)]
        return counter

    return make


def sleeping(thread):
    """Wait until a thread of the host sleeps in the core."""
    while True:
        with open(f"/proc/self/task/{thread.native_id}/stat") as file:
            if file.read().rpartition(")")[2].split()[0] == "S":
                return


class Submitter(threading.Thread):
    """Submits in a thread of its own and keeps what came of it."""

    def __init__(self, method, *args):
        super().__init__(daemon=True)
        self._submit = lambda: method.submit(*args)
        self.future = self.error = None
        self.start()

    def run(self):
        try:
            self.future = self._submit()
        except BaseException as error:
            self.error = error

    def is_stuck(self):
        sleeping(self)
        return self.is_alive()


# Being refused ---------------------------------------------------------------------------------------------


def test_a_full_mailbox_raises_and_names_the_actor(full, gate):
    counter = full(on_full="raise")
    for attempt in (counter.add.submit, counter.add, lambda: list(counter.add.map([1]))):
        with pytest.raises(multipy.MailboxFullError, match="Counter: there are 2 calls waiting"):
            attempt()
    assert counter.statistics()["queued"] == 2
    gate.open()
    assert multipy.get(full.queued) == [1, 2] and counter.add() == 3


def test_an_actor_is_refused_as_well(pool, full, gate):
    counter = full(on_full="raise")
    feeder = Feeder.options(pool=pool, interpreter=1).remote()
    with pytest.raises(multipy.MailboxFullError, match="Counter"):
        feeder.feed(counter, 1)
    gate.open()


def test_map_that_is_refused_takes_back_what_it_has_submitted(pool, gate):
    counter = Counter.options(pool=pool, interpreter=0, max_pending=3, on_full="raise").remote()
    held = counter.on(0).stop.submit(gate)
    gate.arrivals()
    with pytest.raises(multipy.MailboxFullError):
        counter.add.map(range(10))
    gate.open()
    held.result()
    assert counter.on(0).add(0) == 0


def test_the_limit_is_of_what_waits_not_of_what_runs(pool, gate):
    counter = Counter.options(pool=pool, replicas=2, max_pending=1, on_full="raise").remote()
    held = [counter.on(index).stop.submit(gate) for index in range(2)]
    gate.arrivals(2)
    waiting = counter.add.submit()
    with pytest.raises(multipy.MailboxFullError):
        counter.add.submit()
    gate.open()
    multipy.get([*held, waiting])


@pytest.mark.parametrize(
    "options",
    [{"max_pending": 0}, {"max_pending": 1.5}, {"max_pending": True}, {"on_full": "drop"}, {"timeout": 0}],
)
def test_options_that_make_no_sense_are_refused(pool, options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Counter.options(pool=pool, **options)


def test_calls_for_one_replica_have_a_limit_of_their_own(pool, gate):
    counter = Counter.options(pool=pool, replicas=2, max_pending=1, on_full="raise").remote()
    held = [counter.on(index).stop.submit(gate) for index in range(2)]
    gate.arrivals(2)
    first = counter.on(0).add.submit()
    with pytest.raises(multipy.MailboxFullError, match="Counter: there are 1 calls waiting"):
        counter.on(0).add.submit()
    second = counter.on(1).add.submit()
    anywhere = counter.add.submit()
    gate.open()
    assert multipy.get([*held, first, second])[2:] == [1, 1]
    assert anywhere.result() in (1, 2)


def test_a_broadcast_that_is_refused_takes_back_what_it_has_submitted(pool, gate):
    counter = Counter.options(pool=pool, replicas=2, max_pending=1, on_full="raise").remote()
    held = [counter.on(index).stop.submit(gate) for index in range(2)]
    gate.arrivals(2)
    waiting = counter.on(1).add.submit(10)
    with pytest.raises(multipy.MailboxFullError):
        counter.broadcast.add.submit(100)
    gate.open()
    multipy.get([*held, waiting])
    assert counter.broadcast.add(0) == [0, 10]


def test_a_broadcast_waits_for_room_at_each_replica(pool, gate):
    counter = Counter.options(pool=pool, replicas=2, max_pending=1).remote()
    held = [counter.on(index).stop.submit(gate) for index in range(2)]
    gate.arrivals(2)
    multipy.wait(first := counter.broadcast.add.submit(), timeout=0)
    submitter = Submitter(counter.broadcast.add, 10)
    assert submitter.is_stuck()
    gate.open()
    submitter.join(PATIENCE)
    assert multipy.get([*held, *first, *submitter.future], PATIENCE)[2:] == [1, 1, 11, 11]


def test_a_call_that_was_cancelled_or_timed_out_makes_room_at_once(full, gate):
    counter = full(on_full="raise")
    assert full.queued[0].cancel() and counter.statistics()["queued"] == 1
    again = counter.add.submit(10)
    with pytest.raises(multipy.MailboxFullError):
        counter.add.submit()
    for _ in range(1000):
        assert again.cancel()
        again = counter.add.submit(10)
    assert counter.statistics()["queued"] == 2
    gate.open()
    assert multipy.get([full.queued[1], again], PATIENCE) == [1, 11]


def test_a_stream_is_read_on_while_the_mailbox_is_full(pool, gate):
    @multipy.remote
    class Source:
        def items(self):
            yield from range(1000)

        def stop(self, gate):
            gate.stop()

    source = Source.options(pool=pool, max_pending=1, on_full="raise").remote()
    stream = source.items.stream()
    assert next(stream) == 0
    held = source.stop.submit(gate)
    gate.arrivals()
    waiting = source.stop.submit(gate)
    with pytest.raises(multipy.MailboxFullError):
        source.items.stream()
    gate.open()
    assert list(stream) == list(range(1, 1000))
    multipy.get([held, waiting], PATIENCE)


@multipy.remote
class Fibre:
    """Runs on an event loop."""

    def __init__(self):
        self.way = asyncio.Event()

    async def stop(self, gate):
        gate.report()
        await self.way.wait()

    async def add(self, number):
        return number + 1

    async def flood(self, other, times):
        return len([other.add.submit(number) for number in range(times)])


def test_coroutines_that_wait_for_their_turn_count_as_waiting(pool, gate):
    fibre = Fibre.options(pool=pool, max_concurrency=1, max_pending=2, on_full="raise").remote()
    held = fibre.stop.submit(gate)
    gate.arrivals()
    waiting = [fibre.add.submit(number) for number in range(2)]
    for _ in range(100):
        with pytest.raises(multipy.MailboxFullError, match="Fibre: there are 2 calls waiting"):
            fibre.add.submit(0)
    assert fibre.statistics()["queued"] == 2
    assert waiting[0].cancel(interrupt=True)
    multipy.wait(waiting, timeout=PATIENCE)
    waiting[0] = fibre.add.submit(5)
    assert held.cancel(interrupt=True)
    assert multipy.get(waiting, PATIENCE) == [6, 2]
    assert fibre.statistics()["queued"] == 0


# Waiting ---------------------------------------------------------------------------------------------------


def test_a_thread_of_the_host_waits_for_room_while_others_go_on(full, gate, pool):
    counter = full()
    submitter = Submitter(counter.add)
    assert submitter.is_stuck()
    assert pool.interpreters[1].submit(abs, -1).result() == 1
    gate.open()
    submitter.join(PATIENCE)
    assert submitter.future.result() == 3 and multipy.get(full.queued) == [1, 2]


def test_many_callers_wait_for_room_and_all_get_it(full, gate):
    counter = full()
    submitters = [Submitter(counter.add) for _ in range(8)]
    assert all(submitter.is_stuck() for submitter in submitters)
    assert counter.statistics()["queued"] == 2
    gate.open()
    for submitter in submitters:
        submitter.join(PATIENCE)
    values = [submitter.future.result() for submitter in submitters]
    assert sorted(values) == list(range(3, 11))


def test_an_actor_waits_for_room_and_keeps_its_order(pool, full, gate):
    counter = full()
    feeder = Feeder.options(pool=pool, interpreter=1).remote()
    fed = feeder.report_and_feed.submit(gate, counter, 100)
    gate.arrivals()
    gate.open()
    assert fed.result(PATIENCE) == 100
    assert counter.add() == 103


def test_room_is_made_when_a_call_is_cancelled_and_come_across(full, gate):
    counter = full()
    submitter = Submitter(counter.add)
    assert full.queued[0].cancel() and full.queued[1].cancel()
    gate.open()
    submitter.join(PATIENCE)
    assert submitter.future.result() == 1


@pytest.mark.parametrize("way", ["kill", "unload"])
def test_the_end_of_the_actor_ends_the_wait(full, gate, way):
    counter = full()
    submitters = [Submitter(counter.add) for _ in range(3)]
    assert all(submitter.is_stuck() for submitter in submitters)
    multipy.kill(counter) if way == "kill" else counter.unload()
    for submitter in submitters:
        submitter.join(PATIENCE)
        assert isinstance(submitter.error, multipy.ActorClosedError)
    gate.open()


@pytest.mark.parametrize("cancel", [False, True])
def test_the_end_of_the_pool_ends_the_wait(full, gate, cancel):
    with multipy.Pool(1) as other:
        counter = full(other)
        submitters = [Submitter(counter.add) for _ in range(3)]
        assert all(submitter.is_stuck() for submitter in submitters)
        other.shutdown(wait=False, cancel_futures=cancel)
        for submitter in submitters:
            submitter.join(PATIENCE)
            assert isinstance(submitter.error, multipy.ActorClosedError)
        gate.open()
        assert full.held.result() == "ran"
        assert cancel or multipy.get(full.queued) == [1, 2]


def test_the_end_of_the_pool_ends_the_wait_of_an_actor(pool, full, gate):
    with multipy.Pool(1) as other:
        counter = full(other)
        feeder = Feeder.options(pool=pool, interpreter=1).remote()
        feeding = feeder.report_and_feed.submit(gate, counter, 1)
        gate.arrivals()
        other.shutdown(wait=False)
        with pytest.raises(multipy.ActorClosedError):
            feeding.result(PATIENCE)
        gate.open()


def test_unloading_a_replica_leaves_who_waits_to_the_others(pool, gate):
    counter = Counter.options(pool=pool, replicas=2, max_pending=1).remote()
    with Gate() as other_gate:
        held = [counter.on(0).stop.submit(gate), counter.on(1).stop.submit(other_gate)]
        gate.arrivals()
        other_gate.arrivals()
        waiting = counter.where.submit()
        submitter = Submitter(counter.where)
        assert submitter.is_stuck()
        counter.unload(0)
        other_gate.open()
        submitter.join(PATIENCE)
        assert (waiting.result(), submitter.future.result()) == (1, 1)
        gate.open()
        multipy.get(held)


# Ending the wait -------------------------------------------------------------------------------------------


def test_ctrl_c_ends_the_wait_of_the_host(full, gate):
    counter = full()

    def interrupt(host):
        sleeping(host)
        signal.pthread_kill(host.ident, signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        threading.Thread(target=interrupt, args=[threading.main_thread()]).start()
        with pytest.raises(KeyboardInterrupt):
            counter.add.submit()
    finally:
        signal.signal(signal.SIGINT, before)
    gate.open()
    assert multipy.get(full.queued) == [1, 2] and counter.add() == 3


@pytest.mark.parametrize("options", [{}, {"timeout": PATIENCE}], ids=["for ever", "for a time"])
def test_ctrl_c_that_does_not_disturb_the_sleep_ends_the_wait_of_the_host(full, gate, options):
    counter = full(**options)

    def interrupt(host):
        sleeping(host)
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)  # as one that comes just before the sleep

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        threading.Thread(target=interrupt, args=[threading.main_thread()]).start()
        with pytest.raises(KeyboardInterrupt):
            counter.add.submit()
    finally:
        signal.signal(signal.SIGINT, before)
    gate.open()
    assert multipy.get(full.queued) == [1, 2] and counter.add() == 3


def test_an_interrupt_ends_the_wait_of_an_actor(pool, full, gate):
    counter = full()
    feeder = Feeder.options(pool=pool, interpreter=1).remote()
    for _ in range(5):
        feeding = feeder.report_and_feed.submit(gate, counter, 1)
        gate.arrivals()
        assert feeding.cancel(interrupt=True)
        with pytest.raises(multipy.Interrupted):
            feeding.result(PATIENCE)
        # A call that was interrupted between two calls of the core must not leave its successor disturbed.
        assert feeder.feed(counter, 0) == 0
    gate.open()
    assert multipy.get(full.queued) == [1, 2] and counter.add() == 3


def test_a_call_that_waits_for_room_for_too_long_ends_with_a_timeout_error(full, gate):
    counter = full(timeout=0.05)
    with pytest.raises(TimeoutError):
        counter.add()
    future = counter.add.submit()
    with pytest.raises(TimeoutError):
        future.result(PATIENCE)
    gate.open()


def test_a_timeout_ends_the_wait_of_an_actor_for_the_room_of_another(pool, full, gate):
    counter = full()
    feeder = Feeder.options(pool=pool, interpreter=1, timeout=0.05).remote()
    with pytest.raises(TimeoutError):
        feeder.feed(counter, 1)
    assert pool.interpreters[1].submit(abs, -1).result(PATIENCE) == 1
    gate.open()


# Rooms that never come -------------------------------------------------------------------------------------


def test_an_actor_that_waits_for_room_in_its_own_mailbox_is_told(pool):
    friend = Friend.options(pool=pool, interpreter=0, max_pending=1).remote()
    friend.meet(friend)

    def flood(itself):
        return [itself.introduce.submit() for _ in range(3)]

    with pytest.raises(multipy.DeadlockError, match=r"room in the mailbox of Friend in pool-\d+-0"):
        friend.look(flood)
    assert friend.introduce() == friend


def test_two_actors_that_wait_for_room_at_each_others_are_told(pool, gate):
    first, second = (
        Feeder.options(pool=pool, interpreter=index, max_pending=1).remote() for index in range(2)
    )

    floods = [first.flood.submit(gate, second), second.flood.submit(gate, first)]
    gate.arrivals(2)
    gate.open()
    errors = [future.exception(PATIENCE) for future in floods]
    found = [error for error in errors if error is not None]
    # The one that is told gives way, and so the other gets through.
    assert len(found) == 1 and isinstance(found[0], multipy.DeadlockError)
    assert str(found[0]).count("room in the mailbox of Feeder") == 2
    assert first.feed(None, 0) == second.feed(None, 0) == 0


@pytest.mark.parametrize("limit", [1, 2])
def test_a_coroutine_that_waits_for_room_on_its_own_loop_is_told(pool, limit):
    fibre = Fibre.options(pool=pool, max_concurrency=limit, max_pending=2).remote()
    with pytest.raises(
        multipy.DeadlockError, match=r"event loop of .* waits for room in the mailbox of Fibre"
    ):
        fibre.flood(fibre, 5)
    assert fibre.add(1) == 2


def test_an_actor_that_waits_for_room_at_coroutines_that_wait_for_it_is_told(pool):
    @multipy.remote
    class Asking:
        async def ask(self, feeder, itself, times):
            return await feeder.feed.submit(itself, times)

        async def add(self):
            return 1

    asking = Asking.options(pool=pool, interpreter=0, max_concurrency=1, max_pending=2).remote()
    feeder = Feeder.options(pool=pool, interpreter=1).remote()
    assert asking.ask(feeder, asking, 2) == 2
    with pytest.raises(multipy.DeadlockError, match=r"waits for room in the mailbox of .*Asking in"):
        asking.ask(feeder, asking, 5)
    assert asking.add() == 1
