"""The order of calls, as a state machine on a real pool: on one replica, each caller's calls in its order."""

from __future__ import annotations

import queue
import threading
from concurrent.futures import CancelledError

import hypothesis.strategies as st
from gates import Gate
from hypothesis import HealthCheck, settings
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

import multipy_actors as multipy

_pool: multipy.Pool | None = None


def setup_module():
    global _pool
    _pool = multipy.Pool(2)


def teardown_module():
    _pool.shutdown()


@multipy.remote
class Log:
    """Keeps what it was told, in the order it was told."""

    def __init__(self):
        self.entries = []

    def note(self, caller, number):
        self.entries.append((caller, number))
        return len(self.entries)

    def stop(self, gate):
        gate.stop()

    def fail(self, caller, number):
        self.entries.append((caller, number))
        raise ValueError(number)

    def read(self):
        return self.entries


class Caller:
    """A thread of the host that submits what it is told to, one after the other."""

    def __init__(self, name):
        self.name = name
        self._tasks = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while (task := self._tasks.get()) is not None:
            task()

    def tell(self, task):
        self._tasks.put(task)

    def finish(self):
        """Wait until all that it was told is submitted."""
        done = threading.Event()
        self._tasks.put(done.set)
        assert done.wait(60)

    def end(self):
        self._tasks.put(None)
        self._thread.join(60)


class MailboxOrder(RuleBasedStateMachine):
    """Several callers, several actors with one replica; some calls fail, are cancelled, or are held back."""

    logs = Bundle("logs")

    def __init__(self):
        super().__init__()
        self.callers = [Caller(number) for number in range(3)]
        self.submitted = {}  # (log, caller) → [(number, future)] in the order submitted
        self.cancelled = {}  # log → {(caller, number)}
        self.gates = []
        self.next_number = 0

    @initialize(target=logs, count=st.integers(1, 3))
    def make_logs(self, count):
        return multiple(*(self._make() for _ in range(count)))

    @rule(target=logs)
    def make_another(self):
        return self._make()

    def _make(self):
        log = Log.options(pool=_pool).remote()
        self.submitted.update({(log, caller.name): [] for caller in self.callers})
        self.cancelled[log] = set()
        return log

    @rule(log=logs, index=st.integers(0, 2), count=st.integers(1, 20), fails=st.booleans())
    def submit(self, log, index, count, fails):
        caller = self.callers[index]
        sent = self.submitted[log, caller.name]
        numbers = range(self.next_number, self.next_number + count)
        self.next_number += count
        method = log.fail if fails else log.note

        def task():
            for number in numbers:
                sent.append((number, method.submit(caller.name, number)))

        caller.tell(task)

    @rule(log=logs)
    def hold(self, log):
        if len(self.gates) < 2:
            gate = Gate()
            self.gates.append(gate)
            log.stop.submit(gate)

    @rule()
    def release(self):
        if self.gates:
            self.gates.pop(0).open()

    @rule(log=logs, index=st.integers(0, 2), data=st.data())
    def cancel(self, log, index, data):
        caller = self.callers[index]
        caller.finish()
        sent = self.submitted[log, caller.name]
        if sent:
            number, future = data.draw(st.sampled_from(sent))
            if future.cancel():
                self.cancelled[log].add((caller.name, number))
                assert future.cancelled()

    @invariant()
    def nobody_is_told_of_an_order_that_is_not(self):
        if not self.gates:
            for log in self.cancelled:
                self._check(log)

    def _check(self, log):
        for caller in self.callers:
            caller.finish()
        # Read after all that was submitted, so that everything is in it.
        entries = log.read()
        assert len(set(entries)) == len(entries)
        for caller in self.callers:
            sent = self.submitted[log, caller.name]
            heard = [number for name, number in entries if name == caller.name]
            cancelled = self.cancelled[log]
            assert heard == [number for number, _ in sent if (caller.name, number) not in cancelled]
            places = {entry: place for place, entry in enumerate(entries, start=1)}
            for number, future in sent:
                assert future.done()
                try:
                    assert future.result() == places[caller.name, number]
                except ValueError as error:
                    assert error.args == (number,)
                except CancelledError:
                    assert (caller.name, number) in cancelled

    def teardown(self):
        for gate in self.gates:
            gate.open()
        self.gates.clear()
        for log in self.cancelled:
            self._check(log)
        for caller in self.callers:
            caller.end()


MailboxOrder.TestCase.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestTheOrderOfCalls = MailboxOrder.TestCase


def test_calls_of_several_callers_each_run_in_their_callers_order():
    log = Log.options(pool=_pool).remote()
    threads = [
        threading.Thread(target=lambda name=name: [log.note.submit(name, number) for number in range(500)])
        for name in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    entries = log.read()
    assert len(entries) == 2000
    for name in range(4):
        assert [number for caller, number in entries if caller == name] == list(range(500))


def test_with_several_replicas_every_call_runs_exactly_once():
    logs = Log.options(pool=_pool, replicas="all").remote()
    futures = [logs.note.submit(0, number) for number in range(1000)]
    multipy.get(futures)
    entries = [entry for part in logs.broadcast.read() for entry in part]
    assert sorted(entries) == [(0, number) for number in range(1000)]
    for part in logs.broadcast.read():
        assert part == sorted(part)
