"""Handles: where replicas live, how their methods are called, and when they go."""

from __future__ import annotations

import gc
import os
import pickle
import threading

import pytest

import multipy_actors as multipy


@multipy.remote
class Counter:
    """Counts, and knows where it lives."""

    started = 0

    def __init__(self, value=0):
        self.value = value

    def add(self, amount=1):
        self.value += amount
        return self.value

    def where(self):
        from multipy_actors import _native

        return _native.current_worker().index

    def stop(self, gate):
        gate.stop()
        return self.where()

    def __call__(self, factor):
        return self.value * factor

    @staticmethod
    def double(number):
        return 2 * number

    @classmethod
    def named(cls):
        return cls.__name__


@multipy.remote
class Broken:
    def __init__(self):
        raise LookupError("no weights")

    def run(self):
        return "never"


@multipy.remote
class Mortal:
    """Writes to a pipe when it dies."""

    def __init__(self, descriptor):
        self.descriptor = descriptor

    def touch(self):
        return os.getpid()

    def __del__(self):
        os.write(self.descriptor, b"x")


# Calling ---------------------------------------------------------------------------------------------------


def test_calling_the_handle_of_an_object_that_is_not_callable_is_a_type_error(pool):
    handle = Broken.options(pool=pool).remote()
    with pytest.raises(TypeError, match="'Broken' object is not callable"):
        handle()


def test_an_actor_keeps_its_state_in_one_interpreter(pool):
    counter = Counter.options(pool=pool).remote(10)
    assert [counter.add(), counter.add(5), counter.add.submit(amount=4).result()] == [11, 16, 20]
    assert len(counter.interpreters) == 1
    assert counter.where() == counter.interpreters[0].id


def test_calls_of_an_actor_run_in_the_order_submitted(pool):
    counter = Counter.options(pool=pool).remote()
    assert multipy.get([counter.add.submit() for _ in range(200)]) == list(range(1, 201))


def test_calling_the_handle_calls_the_object(pool):
    assert Counter.options(pool=pool).remote(3)(7) == 21


def test_static_and_class_methods_are_called_like_others(pool):
    counter = Counter.options(pool=pool).remote()
    assert counter.double(4) == 8 and counter.named() == "Counter"


def test_a_method_of_a_wrong_name_fails_at_once_and_names_the_likely_one(pool):
    counter = Counter.options(pool=pool).remote()
    with pytest.raises(AttributeError, match="'Counter' has no method 'ad'; did you mean 'add'"):
        counter.ad  # noqa: B018
    for name in ("started", "value", "__len__", "nothing_like_it"):
        with pytest.raises(AttributeError):
            getattr(counter, name)
    with pytest.raises(AttributeError):
        counter.broadcast.ad  # noqa: B018


def test_an_attribute_set_through_a_handle_is_an_error_that_says_how(pool):
    handle = Counter.options(pool=pool).remote()
    with pytest.raises(
        AttributeError, match=r"'value' cannot be set through a handle, .* a method that sets it"
    ):
        handle.value = 3
    assert not hasattr(handle, "value") or handle.value != 3


def test_an_object_that_cannot_be_called_says_so(pool):
    reader, writer = os.pipe()
    mortal = Mortal.options(pool=pool).remote(writer)
    with pytest.raises((AttributeError, TypeError)):
        mortal()
    assert mortal.touch() == os.getpid()
    del mortal
    assert os.read(reader, 1) == b"x"
    os.close(reader)
    os.close(writer)


def test_handles_and_methods_print_what_they_are(pool):
    counter = Counter.options(pool=pool, replicas=2).remote()
    assert "Counter" in repr(counter) and "interpreters 0, 1" in repr(counter)
    assert "'add'" in repr(counter.add)


def test_handles_can_be_hashed_and_compared(pool):
    first, second = (Counter.options(pool=pool).remote() for _ in range(2))
    assert first != second and len({first, second, first}) == 2


# Replicas --------------------------------------------------------------------------------------------------


def test_replicas_all_puts_one_into_every_interpreter(pool):
    counter = Counter.options(pool=pool, replicas="all").remote(1)
    assert [interpreter.id for interpreter in counter.interpreters] == [0, 1]
    assert counter.broadcast.where() == [0, 1]
    assert counter.broadcast.add(1) == [2, 2]
    assert multipy.get(counter.broadcast.add.submit(amount=2)) == [4, 4]


def test_calls_go_to_the_replica_that_is_free(pool, gate):
    counter = Counter.options(pool=pool, replicas="all").remote()
    stopped = counter.stop.submit(gate)
    gate.arrivals()
    others = {counter.where() for _ in range(20)}
    gate.open()
    assert others == {0, 1} - {stopped.result()}


def test_actors_are_spread_over_the_interpreters():
    with multipy.Pool(2) as pool:
        handles = [Counter.options(pool=pool).remote() for _ in range(4)]
        assert sorted(handle.where() for handle in handles) == [0, 0, 1, 1]


def test_the_place_of_an_actor_that_is_gone_is_taken_again():
    with multipy.Pool(2) as pool:
        first = Counter.options(pool=pool).remote()
        place = first.where()
        del first
        gc.collect()
        assert Counter.options(pool=pool).remote().where() == place


@pytest.mark.parametrize("index", [0, 1])
def test_an_actor_can_be_pinned(pool, index):
    for where in (index, pool.interpreters[index]):
        counter = Counter.options(pool=pool, interpreter=where).remote()
        assert counter.where() == index


def test_a_busy_actor_does_not_hold_up_one_elsewhere(pool, gate):
    busy = Counter.options(pool=pool, interpreter=0).remote()
    free = Counter.options(pool=pool, interpreter=1).remote()
    stopped = busy.stop.submit(gate)
    gate.arrivals()
    assert free.add() == 1
    gate.open()
    assert stopped.result() == 0


@pytest.mark.parametrize("replicas", [0, -1, 3, "some", 1.0, True, None])
def test_a_number_of_replicas_that_makes_no_sense_is_refused(pool, replicas):
    with pytest.raises(ValueError, match="replicas must be"):
        Counter.options(pool=pool, replicas=replicas).remote()


def test_a_pin_must_name_an_interpreter_of_the_pool(pool):
    with pytest.raises(ValueError, match="no interpreter 2"):
        Counter.options(pool=pool, interpreter=2).remote()
    with pytest.raises(ValueError, match="no interpreter -1"):
        Counter.options(pool=pool, interpreter=-1).remote()
    with pytest.raises(ValueError, match="one replica"):
        Counter.options(pool=pool, interpreter=0, replicas=2).remote()
    with multipy.Pool(1) as other, pytest.raises(ValueError, match="is not in"):
        Counter.options(pool=other, interpreter=pool.interpreters[0]).remote()


def test_replicate_copies_an_existing_object_everywhere(pool):
    counter = Counter(5)
    handle = multipy.replicate(counter, pool)
    assert handle.broadcast.add() == [6, 6] and counter.value == 5


def test_what_is_replicated_has_its_own_attributes_too_and_tells_which(pool):
    counter = Counter()
    counter.note, counter.twice = "mine", "ab".upper
    handle = multipy.replicate(counter, pool)
    assert handle.note == "mine" and handle.twice() == "AB"
    assert handle.hasattr("note") and not handle.hasattr("nothing")
    with pytest.raises(AttributeError, match="did you mean 'note'"):
        _ = handle.notes


def test_replicate_says_what_cannot_be_copied(pool):
    counter = Counter(threading.Lock())
    with pytest.raises(multipy.SerializationError, match=r"\.value"):
        multipy.replicate(counter, pool)


# Failing ---------------------------------------------------------------------------------------------------


def test_what_init_raised_every_call_raises(pool):
    broken = Broken.options(pool=pool, replicas=2).remote()
    for _ in range(3):
        with pytest.raises(LookupError, match="no weights") as caught:
            broken.run()
        assert "in __init__" in str(caught.value.__cause__)
    for future in broken.broadcast.run.submit():
        assert isinstance(future.exception(), LookupError)


def test_a_method_that_raises_leaves_the_actor_as_it_was(pool):
    counter = Counter.options(pool=pool).remote(1)
    with pytest.raises(TypeError):
        counter.add("x")
    assert counter.add() == 2


def test_a_handle_can_be_sent_but_not_pickled(pool):
    counter = Counter.options(pool=pool, interpreter=0).remote()
    (back,) = pool.interpreters[1].submit(list, [counter]).result()
    assert back == counter and back.add() == 1
    with pytest.raises(TypeError, match="can only be sent to an interpreter of this process"):
        pickle.dumps(counter)


def test_a_handle_whose_pool_is_closed_says_so():
    with multipy.Pool(1) as pool:
        counter = Counter.options(pool=pool).remote()
    assert "closed" in repr(counter)
    for call in (counter.add, counter.add.submit, counter.broadcast.add, lambda: counter(1)):
        with pytest.raises(multipy.ActorClosedError):
            call()
    with pytest.raises(multipy.PoolClosedError):
        Counter.options(pool=pool).remote()


# Going -----------------------------------------------------------------------------------------------------


def test_replicas_go_with_the_last_reference_to_the_handle_after_the_calls_submitted(pool):
    reader, writer = os.pipe()
    mortal = Mortal.options(pool=pool, replicas="all").remote(writer)
    futures = [mortal.touch.submit() for _ in range(20)]
    del mortal
    gc.collect()
    assert multipy.get(futures) == [os.getpid()] * 20
    assert os.read(reader, 1) + os.read(reader, 1) == b"xx"
    os.close(reader)
    os.close(writer)


def test_replicas_go_with_the_pool():
    reader, writer = os.pipe()
    with multipy.Pool(1) as pool:
        mortal = Mortal.options(pool=pool).remote(writer)
        mortal.touch()
    os.set_blocking(reader, False)
    assert os.read(reader, 2) == b"x"
    os.close(reader)
    os.close(writer)


def test_a_method_keeps_its_handle_alive(pool):
    add = Counter.options(pool=pool).remote().add
    gc.collect()
    assert [add(), add()] == [1, 2]
