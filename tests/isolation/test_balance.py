"""Who gets which call: replicas, limits and ends of actors as a state machine against a model.

The model knows which replicas are held back and what waits. As long as a replica is free nothing waits, and
no call runs on one that is held, so a slow replica starves nobody. Where all are held the mailbox takes as
many calls as its limit allows. Each replica runs what it takes in the order in which it was submitted.
"""

from __future__ import annotations

import os
from concurrent.futures import CancelledError

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import multipy_actors as multipy

INTERPRETERS = 3
PATIENCE = 60

_pool: multipy.Pool | None = None
_bars: list[Bar] = []


def setup_module():
    global _pool
    _pool = multipy.Pool(INTERPRETERS)
    _bars.extend(Bar() for _ in range(INTERPRETERS))


def teardown_module():
    _pool.shutdown()
    for bar in _bars:
        bar.close()
    _bars.clear()


class Bar:
    """Holds one replica back, again and again; a gate could be opened only once."""

    def __init__(self):
        self._arrivals, self._way = os.pipe(), os.pipe()

    def stop(self):
        os.write(self._arrivals[1], b".")
        os.read(self._way[0], 1)

    def wait_for_arrival(self):
        os.read(self._arrivals[0], 1)

    def lift(self):
        os.write(self._way[1], b".")

    def close(self):
        for descriptor in (*self._arrivals, *self._way):
            os.close(descriptor)


@multipy.remote
class Log:
    """Notes what it runs."""

    def __init__(self):
        self.numbers = []

    def note(self, number):
        self.numbers.append(number)
        return multipy.current_interpreter().id

    def fail(self, number):
        self.numbers.append(number)
        raise LookupError(multipy.current_interpreter().id)

    def stop(self, bar):
        bar.stop()

    def read(self):
        return self.numbers


class Balance(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.held = {}  # interpreter → the future of the call that is held there
        self.waiting = []  # (number, future) that no replica could take yet, the cancelled ones included
        self.submitted = 0
        self.places = []

    @initialize(replicas=st.integers(1, INTERPRETERS), limit=st.none() | st.integers(1, 4))
    def make(self, replicas, limit):
        self.handle = Log.options(
            pool=_pool, replicas=replicas, max_pending=limit, on_full="raise" if limit else "wait"
        ).remote()
        self.limit = limit
        self.places = [interpreter.id for interpreter in self.handle.interpreters]
        self.handle.broadcast.read()
        self.logs = {place: [] for place in self.places}

    @precondition(lambda self: not self.places)
    @rule(replicas=st.integers(1, INTERPRETERS), limit=st.none() | st.integers(1, 4))
    def make_another(self, replicas, limit):
        self.make(replicas, limit)

    def free(self):
        return [place for place in self.places if place not in self.held]

    def ended(self, number, future, fails):
        """Note what a call that has run tells about where it did."""
        try:
            place = future.result(PATIENCE)
            assert not fails
        except LookupError as error:
            assert fails
            (place,) = error.args
        self.logs[place].append(number)
        return place

    def submit(self, fails=False, pin=None):
        number = self.submitted
        handle = self.handle if pin is None else self.handle.on(pin)
        future = (handle.fail if fails else handle.note).submit(number)
        self.submitted += 1
        return number, future, fails

    def count(self):
        """Count what waits; what was cancelled does not, from then on."""
        return sum(not future.cancelled() for _, future, _ in self.waiting)

    def settle(self, free):
        """Something has become free: all that waits must run there."""
        waiting, self.waiting = self.waiting, []
        for number, future, fails in waiting:
            if not future.cancelled():
                assert self.ended(number, future, fails) in free
            else:
                with pytest.raises(CancelledError):
                    future.result()

    @precondition(lambda self: self.free())
    @rule(fails=st.booleans(), times=st.integers(1, 3))
    def call(self, fails, times):
        for _ in range(times):
            assert self.ended(*self.submit(fails)) in self.free()

    @precondition(lambda self: self.free() and not self.limit)
    @rule(fails=st.lists(st.booleans(), min_size=1, max_size=30))
    def call_many_at_once(self, fails):
        calls = [self.submit(fail) for fail in fails]
        for call in calls:
            assert self.ended(*call) in self.free()

    @precondition(lambda self: self.free())
    @rule(data=st.data())
    def call_pinned(self, data):
        place = data.draw(st.sampled_from(self.free()))
        assert self.ended(*self.submit(pin=place)) == place

    @precondition(lambda self: not self.free() and self.places)
    @rule(fails=st.booleans(), times=st.integers(1, 3))
    def queue(self, fails, times):
        for _ in range(times):
            if self.limit and self.count() >= self.limit:
                with pytest.raises(multipy.MailboxFullError):
                    self.submit(fails)
            else:
                self.waiting.append(self.submit(fails))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def cancel(self, data):
        _, future, _ = data.draw(st.sampled_from(self.waiting))
        assert future.cancel() and future.cancelled()

    @precondition(lambda self: self.free())
    @rule(data=st.data())
    def hold(self, data):
        place = data.draw(st.sampled_from(self.free()))
        self.held[place] = self.handle.on(place).stop.submit(_bars[place])
        _bars[place].wait_for_arrival()

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def let_go(self, data):
        place = data.draw(st.sampled_from(sorted(self.held)))
        _bars[place].lift()
        self.held.pop(place).result(PATIENCE)
        self.settle([place] if self.waiting else self.free())

    @precondition(lambda self: self.places and len(self.places) > 1)
    @rule(data=st.data())
    def unload(self, data):
        """What waits is left to the other replicas; what is held there ends first."""
        place = data.draw(st.sampled_from(self.places))
        self.handle.unload(place)
        self.places.remove(place)
        if place in self.held:
            _bars[place].lift()
            self.held.pop(place).result(PATIENCE)

    @precondition(lambda self: len(self.places) == 1 and not self.free())
    @rule(kill=st.booleans())
    def end(self, kill):
        (place,) = self.places
        multipy.kill(self.handle) if kill else self.handle.unload()
        self.places.clear()
        for _, future, _ in self.waiting:
            assert future.cancelled() or isinstance(future.exception(PATIENCE), multipy.ActorClosedError)
        self.waiting.clear()
        with pytest.raises(multipy.ActorClosedError):
            self.handle.note.submit(0)
        # What a kill interrupts may be in the kernel, where only the bar can end it, or just before: then it
        # leaves behind what lifts the bar, which is of no use any more.
        _bars[place].lift()
        self.held.pop(place).exception(PATIENCE)
        if kill:
            _bars[place].close()
            _bars[place] = Bar()

    @invariant()
    def what_waits_is_counted(self):
        if self.places and not self.free():
            assert self.handle.statistics()["queued"] == self.count()

    @invariant()
    def every_replica_ran_its_calls_in_the_order_submitted(self):
        for place in self.free():
            assert self.handle.on(place).read() == sorted(self.logs[place])

    def teardown(self):
        for place, future in self.held.items():
            _bars[place].lift()
            future.exception(PATIENCE)


TestBalance = Balance.TestCase
TestBalance.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.mark.parametrize("replicas", [1, 2])
def test_calls_of_callers_everywhere_run_in_each_callers_order(replicas):
    """Threads of the host, actors of the same pool and of another call at the same time, some pinned."""
    import threading

    @multipy.remote
    class Notes:
        def __init__(self):
            self.entries = []

        def note(self, caller, number):
            self.entries.append((caller, number))

        def read(self):
            return self.entries

    def call(handle, caller, times):
        for number in range(times):
            (handle.on(0) if caller % 2 and number % 3 == 0 else handle).note.submit(caller, number)

    with multipy.Pool(2) as pool, multipy.Pool(2) as callers:
        notes = Notes.options(pool=pool, replicas=replicas, max_pending=20).remote()
        if replicas == 1:
            assert notes.interpreters[0].id == 0
        inside = [
            interpreter.submit(call, notes, caller, 100)
            for caller, interpreter in enumerate(callers.interpreters)
        ]
        threads = [threading.Thread(target=call, args=(notes, caller, 100)) for caller in range(2, 5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        multipy.get(inside)
        logs = notes.broadcast.read()
    assert sorted(entry for log in logs for entry in log) == [(c, n) for c in range(5) for n in range(100)]
    for log in logs:
        for caller in range(5):
            numbers = [number for by, number in log if by == caller]
            assert numbers == sorted(numbers)
