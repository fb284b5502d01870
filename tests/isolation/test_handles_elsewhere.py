"""Handles in other interpreters: how they get there, what they are there, and when the last one goes."""

from __future__ import annotations

import copy
import ctypes
import gc
import os
import pickle
import random
import select
from dataclasses import dataclass

import pytest
from sample_actors import Counter, Friend

import multipy_actors as multipy

PATIENCE_MS = 60_000


@dataclass
class Record:
    """Data with a handle in it."""

    name: str
    handle: object


class Holder:
    """An object that is pickled, and refers to itself and to a handle."""

    def __init__(self, handle):
        self.handle = handle
        self.itself = self


def call(handle):
    return handle.add()


def give_back(value):
    return value


@multipy.remote
class Mortal:
    """Writes to a pipe when it dies."""

    def __init__(self, descriptor):
        self.descriptor = descriptor

    def add(self):
        return 1

    def __del__(self):
        os.write(self.descriptor, b"x")


@pytest.fixture
def deaths():
    """A pipe that mortals write to; call it to learn whether `count` of them have died."""
    reader, writer = os.pipe()

    def wait(count):
        read = 0
        while read < count and select.select([reader], [], [], 60)[0]:
            read += len(os.read(reader, count - read))
        return read == count and not select.select([reader], [], [], 0)[0]

    wait.descriptor = writer
    yield wait
    os.close(reader)
    os.close(writer)


@pytest.fixture
def counter(pool):
    return Counter.options(pool=pool, interpreter=0).remote()


# The ways there --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("index", [0, 1])
def test_a_function_is_given_a_handle_and_calls_it(pool, index):
    counter = Counter.options(pool=pool, interpreter=1 - index).remote()
    assert pool.interpreters[index].submit(call, counter).result() == 1
    assert counter.add() == 2


@pytest.mark.parametrize(
    ("pack", "unpack"),
    [
        (lambda h: [1, [h]], lambda v: v[1][0]),
        (lambda h: (h,), lambda v: v[0]),
        (lambda h: {"k": {"h": h}}, lambda v: v["k"]["h"]),
        (lambda h: {h: 1}, lambda v: next(iter(v))),
        (lambda h: {h}, lambda v: next(iter(v))),
        (lambda h: frozenset([h]), lambda v: next(iter(v))),
        (lambda h: Record("a", h), lambda v: v.handle),
        (Holder, lambda v: v.itself.itself.handle),
        (lambda h: lambda: h, lambda v: v()),
        (lambda h: h.add, lambda v: v._handle),
        (lambda h: ValueError("with", h), lambda v: v.args[1]),
    ],
    ids=[
        "list",
        "tuple",
        "dict",
        "key",
        "set",
        "frozenset",
        "dataclass",
        "object",
        "closure",
        "method",
        "exception",
    ],
)
def test_a_handle_travels_inside_anything_there_and_back(pool, counter, pack, unpack):
    value = pool.interpreters[1].submit(give_back, pack(counter)).result()
    assert unpack(value) == counter
    assert pool.interpreters[1].submit(lambda value: unpack(value).add(), pack(counter)).result() == 1


def test_a_handle_travels_as_keyword_argument_and_attribute(pool, counter):
    friend = Friend.options(pool=pool, interpreter=1).remote(other=counter)
    assert friend.call() == 1
    friend.forget()
    friend.meet(other=counter)
    assert friend.call() == 2 and friend.introduce() == counter


def test_a_handle_travels_beside_tensors(pool, counter):
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(4)
    back, handle, again = pool.interpreters[1].submit(give_back, [array, counter, array]).result()
    back[0] = 7
    assert array[0] == 7 and again[0] == 7 and handle.add() == 1


def test_a_handle_is_a_result_and_an_error_takes_one_along(pool):
    def make():
        return Counter.options(interpreter=0).remote(5)

    handle = pool.interpreters[1].submit(make).result()
    assert handle.add() == 6 and handle.interpreters[0] is pool.interpreters[0]

    def fail(handle):
        error = KeyError("k")
        error.handle = handle
        raise error

    error = pool.submit(fail, handle).exception()
    assert type(error) is KeyError and error.handle.add() == 7


def test_one_pin_travels_along(pool):
    counter = Counter.options(pool=pool, replicas=2).remote()
    with multipy.Pool(1) as other:
        for index in range(2):
            pinned = counter.on(index)
            back = other.submit(give_back, pinned).result()
            assert back == pinned != counter and back.where() == index
            places = other.submit(lambda handle: [handle.where() for _ in range(5)], pinned).result()
            assert places == [index] * 5


def test_methods_are_called_in_every_way_from_everywhere(pool):
    counter = Counter.options(pool=pool, replicas="all").remote(1)

    def work(handle):
        futures = [handle.add.submit() for _ in range(3)]
        return (
            len(multipy.get(futures)),
            sorted(handle.broadcast.where()),
            sorted(set(handle.echo.map(range(4)))),
            handle.replicas,
            [interpreter.id for interpreter in handle.interpreters],
            handle.statistics()["replicas"],
            handle.on(1).where(),
        )

    expected = (3, [0, 1], [0, 1, 2, 3], 2, [0, 1], 2, 1)
    with multipy.Pool(2) as other:
        assert [future.result() for future in other.broadcast(work, counter)] == [expected] * 2
    assert work(counter) == expected


# What they are there ---------------------------------------------------------------------------------------


def test_handles_of_one_actor_are_equal_wherever_they_have_been(pool, counter):
    other = Counter.options(pool=pool, interpreter=0).remote()

    def compare(one, same, other):
        return one == same, hash(one) == hash(same), one == other, len({one, same, other}), one != 5

    copies = pool.submit(give_back, [counter, counter]).result()
    assert compare(*copies, other) == (True, True, False, 2, True)
    assert pool.interpreters[1].submit(compare, counter, copies[0], other).result() == compare(*copies, other)
    assert hash(copies[0]) == hash(counter) and copies[0] in {counter}


def test_a_handle_prints_alike_everywhere(pool):
    counter = Counter.options(pool=pool, interpreter=0, name="printed").remote()
    assert repr(counter) == pool.interpreters[1].submit(repr, counter).result()
    assert "Counter 'printed' (alive, interpreters 0 of" in repr(counter)
    assert "pinned to 0" in repr(counter.on(0))
    multipy.kill(counter)
    assert "Counter 'printed' (closed, interpreters none of" in repr(counter)


def test_typos_are_told_in_other_interpreters_as_well(pool, counter):
    error = pool.interpreters[1].submit(lambda handle: handle.ad(), counter).exception()
    assert isinstance(error, AttributeError) and "did you mean 'add'?" in str(error)


def test_a_handle_is_copied_as_itself_but_not_pickled(counter):
    assert copy.copy(counter) is counter and copy.deepcopy([counter])[0] is counter
    with pytest.raises(TypeError, match="only be sent to an interpreter of this process"):
        pickle.dumps(counter)


def test_an_interpreter_need_not_import_the_class_of_a_handle(pool):
    with multipy.Pool(1) as other:
        counter = Counter.options(pool=other).remote()

        def work(handle):
            import sys

            return handle.add(), "sample_actors" in sys.modules

        with multipy.Pool(1) as third:
            assert third.submit(work, counter).result() == (1, False)


# Calls that do not pass through the host -------------------------------------------------------------------


def wait_with_the_gil(descriptor):
    """Wait for the pipe without letting any other thread of the host run Python: PyDLL keeps the GIL."""

    class Poll(ctypes.Structure):
        _fields_ = (("fd", ctypes.c_int), ("events", ctypes.c_short), ("revents", ctypes.c_short))

    return ctypes.PyDLL(None).poll(ctypes.byref(Poll(descriptor, select.POLLIN)), 1, PATIENCE_MS) == 1


@pytest.mark.parametrize("pools", [1, 2])
def test_actors_call_actors_while_the_hosts_gil_is_held(pool, pools):
    reader, writer = os.pipe()
    with multipy.Pool(1) as other:
        counter = Counter.options(pool=other if pools == 2 else pool, interpreter=0).remote()
        friend = Friend.options(pool=pool, interpreter=1).remote(counter)
        friend.call()
        done = friend.report_after.submit(1000, writer)
        assert wait_with_the_gil(reader), "the calls came to a halt"
        assert done.result() is None and counter.add() == 1002
    os.close(reader)
    os.close(writer)


def test_handles_are_dropped_and_made_while_the_hosts_gil_is_held(pool):
    def make_and_drop(descriptor):
        handles = [Counter.options(interpreter=0).remote(number) for number in range(50)]
        sums = sum(handle.add() for handle in handles)
        del handles
        os.write(descriptor, b"x")
        return sums

    reader, writer = os.pipe()
    pool.interpreters[1].submit(make_and_drop, writer).result()
    done = pool.interpreters[1].submit(make_and_drop, writer)
    os.read(reader, 1)
    assert wait_with_the_gil(reader)
    assert done.result() == sum(range(1, 51))
    os.close(reader)
    os.close(writer)


def test_a_call_goes_round_through_many_interpreters():
    with multipy.Pool(2) as first, multipy.Pool(2) as second:
        friends = [
            Friend.options(pool=pool, interpreter=index).remote()
            for index in (0, 1)
            for pool in (first, second)
        ]
        assert friends[0].ring(friends[1:]) == 3


# Going -----------------------------------------------------------------------------------------------------


def test_replicas_go_with_the_last_handle_wherever_it_is(pool, deaths):
    mortal = Mortal.options(pool=pool, replicas="all").remote(deaths.descriptor)
    friends = [Friend.options(pool=pool, interpreter=index).remote(mortal) for index in range(2)]
    for friend in friends:
        friend.call()
    del mortal
    gc.collect()
    friends[0].forget()
    assert friends[1].call() == 1
    friends[1].forget()
    assert deaths(2)


@pytest.mark.parametrize("seed", range(3))
def test_handles_are_dropped_anywhere_in_any_order(pool, deaths, seed):
    chance = random.Random(seed)
    mortals = [Mortal.options(pool=pool).remote(deaths.descriptor) for _ in range(10)]
    friends = [Friend.options(pool=pool).remote() for _ in range(6)]
    for friend in friends:
        friend.meet([mortal for mortal in mortals if chance.random() < 0.5])
    futures = [pool.submit(give_back, mortals) for _ in range(3)]
    drops = [mortals.clear, *(friend.forget for friend in friends), futures.clear]
    chance.shuffle(drops)
    for drop in drops:
        drop()
        gc.collect()
    assert deaths(10)


def test_a_queued_call_keeps_the_handles_it_takes_along(pool, deaths, gate):
    counter = Counter.options(pool=pool, interpreter=0).remote()
    stopped = counter.stop.submit(gate)
    gate.arrivals()
    mortal = Mortal.options(pool=pool, interpreter=1).remote(deaths.descriptor)
    called = counter.echo.submit([mortal])
    given_up = counter.echo.submit(mortal)
    del mortal
    gc.collect()
    assert given_up.cancel()
    gate.open()
    stopped.result()
    assert called.result()[0].add() == 1
    del called
    assert deaths(1)


def test_thousands_of_actors_leave_no_memory_behind(run_script):
    finished = run_script(
        """
        import gc, os
        import multipy_actors as multipy

        @multipy.remote
        class Item:
            def __init__(self, other=None):
                self.other = other
            def get(self):
                return self.other and self.other.get()

        def use(pool):
            for _ in range(100):
                items = [Item.options(pool=pool, replicas=1 + number % 2).remote() for number in range(5)]
                outer = Item.options(pool=callers, name="outer", replicas=2).remote(items[-1])
                multipy.get([item.get.submit() for item in items] + outer.broadcast.get.submit())
                assert multipy.get_actor("outer").on(0).get() is None
                callers.submit(id, items).result()
                del outer, items

        def state(pool):
            import sys
            def inside():
                gc.collect()
                return len(sys.modules["multipy_actors.worker.operations"]._actors), len(gc.get_objects())
            # What callers hold goes first, then what they have held.
            multipy.get(callers.broadcast(gc.collect))
            inner = multipy.get(pool.broadcast(inside))
            gc.collect()
            with open("/proc/self/statm") as file:
                memory = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            return memory, len(gc.get_objects()), inner

        with multipy.Pool(2) as pool, multipy.Pool(2) as callers:
            use(pool), use(pool)
            before = state(pool)
            for _ in range(6):
                use(pool)
            after = state(pool)
            print(before, after)
            assert [actors for actors, _ in after[2]] == [0, 0]
            assert after[0] - before[0] < 4 << 20
            for old, new in zip([before[1], before[2][0][1], before[2][1][1]],
                                [after[1], after[2][0][1], after[2][1][1]]):
                assert new - old < 300, (old, new)
        """
    )
    print(finished.stdout)


def test_a_handle_outlives_its_pool_in_another_one():
    with multipy.Pool(1) as keeper:
        with multipy.Pool(1) as pool:
            counter = Counter.options(pool=pool).remote()
            friend = Friend.options(pool=keeper).remote(counter)
            assert friend.call() == 1
        for attempt in (friend.call, counter.add):
            with pytest.raises(multipy.ActorClosedError, match="its pool is closed"):
                attempt()
        assert "closed" in friend.look(repr)
        friend.forget()
