"""Waiting inside actors: circles are errors that name them; what only looks like one is none."""

from __future__ import annotations

import pytest
from gates import Gate
from sample_actors import Counter, Friend, Spinner

import multipy_actors as multipy

PATIENCE = 60


@multipy.remote
class Knot:
    """Calls along a chain of actors, and may wait at a gate first."""

    def chain(self, others):
        return others[0].chain(others[1:]) if others else "end"

    def stop_and_chain(self, gate, others):
        gate.stop()
        return self.chain(others)

    def take(self, argument):
        return argument

    def give(self, own, other):
        return other.take(own.ok.submit())

    def chain_for(self, seconds, others):
        return others[0].chain.submit(others[1:]).result(seconds)

    def ok(self):
        return "ok"


@pytest.fixture(scope="module")
def three():
    with multipy.Pool(3, name="three") as pool:
        yield pool


def knots(pool, count):
    return [Knot.options(pool=pool, interpreter=index).remote() for index in range(count)]


def all_work(actors):
    return multipy.get([actor.ok.submit() for actor in actors], timeout=PATIENCE) == ["ok"] * len(actors)


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_circle_of_actors_is_an_error_that_names_it(three, length):
    actors = knots(three, length)
    for _ in range(3):
        error = actors[0].chain.submit([*actors[1:], actors[0]]).exception(PATIENCE)
        assert isinstance(error, multipy.DeadlockError)
        for index in range(length):
            assert f"three-{index} waits for a call of Knot" in str(error)
        assert "three-0" in str(error) and str(error).startswith("this wait could never end")
        assert all_work(actors)


def test_a_circle_through_two_pools_is_found(three):
    with multipy.Pool(1, name="other") as other:
        actors = [Knot.options(pool=pool, interpreter=0).remote() for pool in (three, other)]
        error = actors[0].chain.submit([actors[1], actors[0]]).exception(PATIENCE)
        assert isinstance(error, multipy.DeadlockError)
        assert "three-0" in str(error) and "other-0" in str(error)
        assert all_work(actors)


def test_a_circle_may_be_caught_by_whoever_is_told(three):
    """Told is the one that waits last, and that may be any of them."""

    @multipy.remote
    class Careful(Knot):
        def chain(self, others):
            try:
                return super().chain(others)
            except multipy.DeadlockError:
                return "caught"

    actors = [Careful.options(pool=three, interpreter=index).remote() for index in range(2)]
    for length in (1, 2):
        assert actors[0].chain([*actors[1:length], actors[0]]) == "caught"
        assert all_work(actors)


@pytest.mark.parametrize("count", [2, 3])
def test_circles_closed_by_calls_of_several_callers_are_found(three, gate, count):
    """Each actor is called from outside, and then they call each other, at the same time."""
    actors = knots(three, count)
    for round_ in range(20):
        with Gate() as gate:
            futures = [
                actor.stop_and_chain.submit(gate, [actors[(index + 1) % count]])
                for index, actor in enumerate(actors)
            ]
            gate.arrivals(count)
            gate.open()
            outcomes = [future.exception(PATIENCE) for future in futures]
            errors = [error for error in outcomes if error is not None]
            assert errors, f"in round {round_} a circle of waits came to an end"
            assert {type(error) for error in errors} == {multipy.DeadlockError}
            # Who is told gives way; the others go on, and get what they asked for or that error.
            assert sum(future.exception() is None for future in futures) >= 1
        assert all_work(actors)


def test_submit_and_wait_inside_a_pool_of_one():
    with multipy.Pool(1, name="single") as pool:

        def nested():
            return multipy.default_pool().submit(abs, -1).result()

        assert pool.submit(nested).result(PATIENCE) == 1

        def mapped():
            return list(multipy.default_pool().map(abs, [-1, 2, -3]))

        assert pool.submit(mapped).result(PATIENCE) == [1, 2, 3]
        assert pool.submit(abs, -1).result() == 1


def test_submit_and_wait_inside_to_any_depth(three):
    def nested(depth):
        return 0 if depth == 0 else 1 + multipy.default_pool().submit(nested, depth - 1).result()

    assert [three.submit(nested, depth).result(PATIENCE) for depth in range(30)] == list(range(30))


def test_a_diamond_is_no_circle(three):
    tip = Counter.options(pool=three, interpreter=2).remote()
    sides = [Friend.options(pool=three, interpreter=index).remote(tip) for index in (0, 1)]

    def both(sides):
        return sorted(multipy.get([side.call.submit() for side in sides]))

    with multipy.Pool(1) as top:
        for turn in range(20):
            assert top.submit(both, sides).result(PATIENCE) == [2 * turn + 1, 2 * turn + 2]


def test_a_wait_with_a_timeout_is_no_deadlock(three):
    actors = knots(three, 2)
    for chain in ([actors[0]], [actors[1], actors[0]]):
        with pytest.raises(TimeoutError):
            actors[0].chain_for(0.05, chain)
    assert all_work(actors)


def test_what_looks_like_a_circle_is_none_if_another_replica_can_serve(three):
    both = Knot.options(pool=three, replicas=3).remote()
    assert both.on(0).chain([both, both]) == "end"
    assert both.on(1).chain([both.on(0), both]) == "end"
    error = both.chain.submit([both, both, both]).exception(PATIENCE)
    assert isinstance(error, multipy.DeadlockError) and "three-0 or three-1 or three-2" in str(error)
    error = both.on(0).chain.submit([both.on(1), both.on(0)]).exception(PATIENCE)
    assert isinstance(error, multipy.DeadlockError)
    assert all_work([both.on(index) for index in range(3)])


def test_a_busy_actor_that_waits_for_nobody_is_no_circle(three, gate):
    actors = knots(three, 2)
    held = actors[1].stop_and_chain.submit(gate, [])
    gate.arrivals()
    chained = actors[0].chain.submit([actors[1]])
    with pytest.raises(TimeoutError):
        chained.result(0.05)
    gate.open()
    assert chained.result(PATIENCE) == "end" and held.result() == "end"


def test_a_finished_call_of_ones_own_may_be_asked_for(three):
    friend = Friend.options(pool=three, interpreter=0).remote()
    counter = Counter.options(pool=three, interpreter=0).remote()
    future = counter.add.submit()
    future.result()

    def ask(_, future=future):
        return future.result()

    assert friend.look(ask) == 1


def test_an_argument_that_is_queued_where_its_caller_waits_is_had(three):
    own, other = (Counter.options(pool=three, interpreter=index).remote() for index in range(2))

    def work(own, other):
        return other.add(own.add.submit())

    three.interpreters[0].submit(work, own, other).result(PATIENCE)


@pytest.mark.parametrize("place", [0, 1])
def test_a_circle_through_an_argument_is_found(three, place):
    """One waits for the call of another, which waits for its argument: a call queued for the first."""
    own, other = (Knot.options(pool=three, interpreter=index).remote() for index in (0, place))
    error = own.give.submit(own, other).exception(PATIENCE)
    assert isinstance(error, multipy.DeadlockError)
    assert "a call of Knot in three-0" in str(error) and f"three-{place} waits for a call of Knot" in str(
        error
    )
    # Its argument has failed the call, or the call's caller has given up: either way the other calls run.
    assert all_work([own, other])


def test_after_a_deadlock_interrupts_and_timeouts_work_as_ever(three, gate):
    actors = knots(three, 2)
    assert isinstance(actors[0].chain.submit([actors[1], actors[0]]).exception(), multipy.DeadlockError)
    spinner = Spinner.options(pool=three, interpreter=0).remote()
    spinning = spinner.spin.submit(gate)
    gate.arrivals()
    chained = actors[1].chain.submit([actors[0]])
    assert spinning.cancel(interrupt=True)
    assert isinstance(spinning.exception(PATIENCE), multipy.Interrupted)
    assert chained.result(PATIENCE) == "end" and all_work(actors)
