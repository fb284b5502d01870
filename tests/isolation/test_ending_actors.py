"""The end of actors: their names, `on`, `unload` and `kill`, and what becomes of their calls."""

from __future__ import annotations

import concurrent.futures
import gc
import os

import pytest
from gates import Gate
from sample_actors import Counter, Friend, Slow, Spinner

import multipy_actors as multipy

PATIENCE = 60


@pytest.fixture
def other_gate():
    with Gate() as gate:
        yield gate


# Names -----------------------------------------------------------------------------------------------------


def test_an_actor_is_found_by_its_name_from_the_host_and_from_interpreters(pool):
    counter = Counter.options(pool=pool, interpreter=0, name="by name").remote(1)
    assert multipy.get_actor("by name") == counter
    found = [pool.interpreters[index].submit(multipy.get_actor, "by name").result() for index in range(2)]
    assert found == [counter, counter] and [handle.add() for handle in found] == [2, 3]
    assert pool.interpreters[1].submit(lambda: multipy.get_actor("by name").add()).result() == 4


def test_a_name_given_in_an_interpreter_is_known_everywhere(pool):
    friend = Friend.options(pool=pool, interpreter=1).remote()
    friend.look(lambda _: None)

    def make():
        return Counter.options(name="made inside", interpreter=0).remote(7)

    handle = pool.interpreters[0].submit(make).result()
    assert friend.look(lambda _: multipy.get_actor("made inside").add()) == 8
    assert multipy.get_actor("made inside") == handle


@pytest.mark.parametrize("name", ["nobody", "", "naïve ✓"])
def test_a_name_that_nobody_has_is_told(pool, name):
    with pytest.raises(ValueError, match="there is no actor named"):
        multipy.get_actor(name)
    with pytest.raises(ValueError, match="there is no actor named"):
        pool.submit(multipy.get_actor, name).result()


def test_a_name_cannot_be_taken_twice_not_even_in_another_pool(pool):
    first = Counter.options(pool=pool, name="taken").remote()
    before = [len(interpreters_actors(pool, index)) for index in range(2)]
    with multipy.Pool(1) as other:
        for where in (pool, other):
            with pytest.raises(ValueError, match="there is an actor named 'taken' already"):
                Counter.options(pool=where, name="taken").remote()
    assert first.add() == 1
    assert [len(interpreters_actors(pool, index)) for index in range(2)] == before


def interpreters_actors(pool, index):
    def actors():
        import sys

        return list(sys.modules["multipy_actors.worker.operations"]._actors)

    return pool.interpreters[index].submit(actors).result()


@pytest.mark.parametrize("way", ["dropped", "killed", "unloaded", "closed"])
def test_a_name_is_free_again_when_its_actor_has_ended(pool, way):
    with multipy.Pool(1) as other:
        counter = Counter.options(pool=other, name="freed").remote()
        counter.add()
        if way == "dropped":
            del counter
            gc.collect()
        elif way == "killed":
            multipy.kill(counter)
        elif way == "unloaded":
            counter.unload()
        else:
            other.shutdown()
        with pytest.raises(ValueError, match="there is no actor named 'freed'"):
            multipy.get_actor("freed")
        again = Counter.options(pool=pool, name="freed").remote(10)
        assert multipy.get_actor("freed") == again and again.add() == 11


def test_the_end_of_an_old_actor_does_not_take_the_name_from_a_new_one(pool):
    old = Counter.options(pool=pool, name="heir").remote()
    multipy.kill(old)
    new = Counter.options(pool=pool, name="heir").remote(5)
    multipy.kill(old)
    old.unload()
    del old
    gc.collect()
    assert multipy.get_actor("heir") == new and new.add() == 6


def test_whoever_finds_an_actor_by_name_finds_its_replicas(pool):
    """Found as soon as it has its name: a call must not come before what makes the replica."""

    def call_whoever_is_there(rounds):
        calls = 0
        while calls < rounds:
            try:
                handle = multipy.get_actor("just made")
            except ValueError:
                continue
            try:
                handle.echo(1)
                calls += 1
            except multipy.ActorClosedError as error:
                # It may end at any time, but it must not be found before it begins.
                if "no replica" in str(error) and "closed" not in repr(handle):
                    raise AssertionError("found before it was made") from error
        return calls

    with multipy.Pool(1) as other:
        caller = other.submit(call_whoever_is_there, 50)
        while not caller.done():
            try:
                handle = Counter.options(pool=pool, name="just made").remote()
            except ValueError:  # the caller still has the last one
                continue
            handle.echo(2)
            del handle
        assert caller.result() == 50


# on and unload ---------------------------------------------------------------------------------------------


def test_on_refuses_interpreters_without_a_replica(pool):
    counter = Counter.options(pool=pool, interpreter=1).remote()
    assert counter.on(1).add() == 1 and counter.on(pool.interpreters[1]).add() == 2
    for wrong in (0, 2, -1):
        with pytest.raises(ValueError, match=r"no replica in interpreter 0|no interpreter"):
            counter.on(wrong)
    with multipy.Pool(1) as other, pytest.raises(ValueError, match="is not in"):
        counter.on(other.interpreters[0])


def test_unloading_one_replica_leaves_the_others(pool):
    counter = Counter.options(pool=pool, replicas=2).remote()
    pinned = counter.on(0)
    counter.unload(0)
    assert counter.replicas == 1 and [interpreter.id for interpreter in counter.interpreters] == [1]
    assert {counter.where() for _ in range(10)} == {1}
    assert counter.broadcast.where() == [1]
    with pytest.raises(multipy.ActorClosedError):
        pinned.add()
    for wrong in (0, pool.interpreters[0]):
        with pytest.raises(ValueError, match="no replica in interpreter 0"):
            counter.unload(wrong)
    counter.unload(1)
    with pytest.raises(multipy.ActorClosedError, match="killed or unloaded"):
        counter.add()
    assert "closed" in repr(counter) and counter.replicas == 0


def test_unloading_drops_the_object(pool):
    reader, writer = os.pipe()

    class Mortal:
        def __del__(self):
            os.write(writer, b"x")

    handle = multipy.replicate(Mortal(), pool)
    gc.collect()
    os.read(reader, 1)  # the host's own
    handle.unload(pool.interpreters[1])
    assert os.read(reader, 1) == b"x"
    handle.unload()
    assert os.read(reader, 1) == b"x"
    os.close(reader)
    os.close(writer)


def test_calls_that_wait_for_an_unloaded_replica_go_to_another(pool, gate, other_gate):
    counter = Counter.options(pool=pool, replicas=2).remote()
    held = [counter.on(0).stop.submit(gate), counter.on(1).stop.submit(other_gate)]
    gate.arrivals()
    other_gate.arrivals()
    waiting = [counter.where.submit() for _ in range(20)]
    counter.unload(0)
    other_gate.open()
    assert multipy.get(waiting, timeout=PATIENCE) == [1] * 20
    gate.open()
    multipy.get(held)


def test_a_pinned_call_that_waits_for_an_unloaded_replica_fails(pool, gate):
    counter = Counter.options(pool=pool, replicas=2).remote()
    held = counter.on(0).stop.submit(gate, "ran")
    gate.arrivals()
    pinned, pinned_elsewhere = counter.on(0).add.submit(), counter.on(1).add.submit()
    counter.unload(0)
    with pytest.raises(multipy.ActorClosedError, match="Counter was unloaded"):
        pinned.result(PATIENCE)
    assert pinned_elsewhere.result() == 1
    gate.open()
    assert held.result() == "ran"


def test_calls_that_wait_for_the_last_unloaded_replica_fail(pool, gate):
    counter = Counter.options(pool=pool, interpreter=0, name="leaving").remote()
    held = counter.stop.submit(gate, "ran")
    gate.arrivals()
    waiting = [counter.add.submit() for _ in range(5)] + [counter.on(0).add.submit()]
    counter.unload()
    for future in waiting:
        with pytest.raises(multipy.ActorClosedError, match="Counter 'leaving' was unloaded"):
            future.result(PATIENCE)
    gate.open()
    assert held.result() == "ran"
    counter.unload()


def test_the_place_of_an_unloaded_replica_is_taken_again():
    with multipy.Pool(2) as pool:
        both = Counter.options(pool=pool, replicas=2).remote()
        both.unload(1)
        one = Counter.options(pool=pool).remote()
        assert one.where() == 1
        multipy.kill(both)
        multipy.kill(both)
        both.unload()
        assert Counter.options(pool=pool).remote().where() == 0


# kill ------------------------------------------------------------------------------------------------------


def test_kill_fails_what_waits_and_interrupts_what_runs(pool, gate):
    spinner = Spinner.options(pool=pool, replicas=2, name="spinning").remote()
    running = [spinner.on(index).spin.submit(gate) for index in range(2)]
    gate.arrivals(2)
    waiting = [spinner.ok.submit() for _ in range(5)]
    waiting += [spinner.on(index).ok.submit() for index in range(2)]
    waiting += spinner.broadcast.ok.submit()
    multipy.kill(spinner)
    for future in waiting:
        with pytest.raises(multipy.ActorClosedError, match="Spinner 'spinning' was killed"):
            future.result(PATIENCE)
    for future in running:
        with pytest.raises(multipy.Interrupted):
            future.result(PATIENCE)
    assert multipy.get(pool.broadcast(abs, -1), timeout=PATIENCE) == [1, 1]
    for attempt in (spinner.ok, spinner.ok.submit, spinner.broadcast.ok, lambda: spinner.on(0)):
        with pytest.raises(multipy.ActorClosedError, match="killed or unloaded"):
            attempt()


def test_kill_leaves_other_actors_of_the_interpreter_alone(pool, gate):
    one = Counter.options(pool=pool, interpreter=0).remote()
    other = Counter.options(pool=pool, interpreter=0).remote(5)
    held = other.stop.submit(gate, "ran")
    gate.arrivals()
    waiting, theirs = one.add.submit(), other.add.submit()
    multipy.kill(one)
    with pytest.raises(multipy.ActorClosedError):
        waiting.result(PATIENCE)
    gate.open()
    assert held.result() == "ran" and theirs.result() == 6


def test_kill_ends_an_actor_that_is_still_being_made(pool, gate):
    spinning = Slow.options(pool=pool, interpreter=0).remote(gate, endless=True)
    waiting = spinning.ok.submit()
    gate.arrivals()
    multipy.kill(spinning)
    with pytest.raises(multipy.ActorClosedError):
        waiting.result(PATIENCE)
    assert pool.interpreters[0].submit(abs, -1).result(PATIENCE) == 1


def test_kill_keeps_an_actor_from_being_made(pool, gate):
    held = pool.interpreters[0].submit(gate.stop)
    gate.arrivals()
    with Gate() as never:
        slow = Slow.options(pool=pool, interpreter=0).remote(never)
        multipy.kill(slow)
        gate.open()
        held.result()
        assert pool.interpreters[0].submit(abs, -1).result(PATIENCE) == 1


def test_a_killed_actor_can_kill_itself(pool):
    friend = Friend.options(pool=pool, interpreter=0).remote()
    friend.meet(friend)
    with pytest.raises((multipy.Interrupted, multipy.ActorClosedError)):
        friend.look(lambda itself: multipy.kill(itself) or [None for _ in iter(int, 1)])
    with pytest.raises(multipy.ActorClosedError):
        friend.introduce()
    assert pool.interpreters[0].submit(abs, -1).result(PATIENCE) == 1


def test_an_actor_is_killed_from_another_interpreter_and_its_callers_are_told(pool, gate):
    spinner = Spinner.options(pool=pool, interpreter=0).remote()
    running = spinner.spin.submit(gate)
    gate.arrivals()
    pool.interpreters[1].submit(multipy.kill, spinner).result(PATIENCE)
    with pytest.raises(multipy.Interrupted):
        running.result(PATIENCE)
    friend = Friend.options(pool=pool, interpreter=1).remote(spinner)
    with pytest.raises(multipy.ActorClosedError):
        friend.call("ok")


def test_only_handles_can_be_killed(pool):
    for wrong in (None, Counter, pool):
        with pytest.raises(TypeError, match="kill takes the handle of an actor"):
            multipy.kill(wrong)


# statistics, broadcast and map -----------------------------------------------------------------------------


def test_statistics_count_what_waits_what_ran_and_what_failed(pool, gate):
    counter = Counter.options(pool=pool, replicas=2).remote()
    assert counter.statistics() == {"replicas": 2, "queued": 0, "done": 0, "failed": 0}
    counter.add()
    counter.broadcast.add()
    assert isinstance(counter.fail.submit(ValueError()).exception(), ValueError)
    assert counter.statistics() == {"replicas": 2, "queued": 0, "done": 4, "failed": 1}
    held = [counter.on(index).stop.submit(gate) for index in range(2)]
    gate.arrivals(2)
    waiting = [counter.add.submit(), counter.on(0).add.submit()]
    assert counter.statistics()["queued"] == 2
    gate.open()
    multipy.get(held + waiting)
    assert counter.statistics() == {"replicas": 2, "queued": 0, "done": 8, "failed": 1}


def test_broadcast_returns_values_in_the_order_of_the_replicas_and_raises_the_first_error(pool):
    counter = Counter.options(pool=pool, replicas=2).remote()
    assert counter.broadcast.where() == [0, 1]
    futures = counter.broadcast.fail.submit(LookupError("both"))
    assert [type(future.exception()) for future in futures] == [LookupError, LookupError]
    with pytest.raises(LookupError):
        counter.broadcast.fail(LookupError("both"))


def test_map_yields_values_in_order_over_replicas_and_zips(pool):
    counter = Counter.options(pool=pool, replicas=2).remote()
    assert list(counter.echo.map(range(100))) == list(range(100))
    assert list(counter.echo.map([])) == []
    assert list(counter.on(0).where.map()) == []
    values = counter.fail.map([KeyError(1), ValueError(2)])
    with pytest.raises(KeyError):
        next(values)


def test_map_gives_up_after_its_timeout_and_takes_back_all(pool, gate):
    counter = Counter.options(pool=pool, interpreter=0).remote()
    held = counter.stop.submit(gate)
    gate.arrivals()
    values = counter.add.map([1, 10, 100], timeout=0.01)
    with pytest.raises(concurrent.futures.TimeoutError):
        next(values)
    gate.open()
    held.result()
    assert counter.add(0) == 0
