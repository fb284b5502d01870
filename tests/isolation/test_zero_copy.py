"""Tensors and arrays cross without a copy: same memory, writes seen by both, either side may let go first."""

from __future__ import annotations

import gc
import threading
import time
import weakref

import numpy
import pytest
import torch

import multipy_actors as multipy

KINDS = ["torch", "numpy"]


def make(kind, size=1000):
    return torch.zeros(size) if kind == "torch" else numpy.zeros(size, dtype=numpy.float32)


def address(value):
    return value.data_ptr() if isinstance(value, torch.Tensor) else value.__array_interface__["data"][0]


@multipy.remote
class Keeper:
    """Holds tensors in its interpreter."""

    def __init__(self):
        self.kept = None

    def keep(self, value):
        self.kept = value
        return address(value)

    def make(self, kind, size=1000):
        self.kept = make(kind, size)
        return address(self.kept)

    def give(self):
        return self.kept

    def write(self, index, number):
        self.kept[index] = number

    def read(self, index):
        return float(self.kept[index])

    def forget(self):
        self.kept = None
        gc.collect()


@pytest.fixture
def keepers(pool):
    return [Keeper.options(pool=pool, interpreter=index).remote() for index in range(2)]


# One memory ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_an_argument_has_the_same_memory_on_both_sides(keepers, kind):
    value = make(kind)
    assert keepers[0].keep(value) == address(value)
    value[3] = 5
    assert keepers[0].read(3) == 5
    keepers[0].write(4, 7)
    assert value[4] == 7


@pytest.mark.parametrize("kind", KINDS)
def test_a_result_has_the_same_memory_on_both_sides(keepers, kind):
    there = keepers[0].make(kind)
    value = keepers[0].give()
    assert address(value) == there and type(value) is type(make(kind))
    value[3] = 5
    assert keepers[0].read(3) == 5
    keepers[0].write(4, 7)
    assert value[4] == 7


@pytest.mark.parametrize("kind", KINDS)
def test_one_memory_can_be_known_to_every_interpreter(keepers, kind):
    there = keepers[0].make(kind)
    value = keepers[0].give()
    assert keepers[1].keep(value) == there
    keepers[1].write(9, 3)
    assert keepers[0].read(9) == 3 and value[9] == 3
    again = keepers[1].give()
    assert address(again) == there


@pytest.mark.parametrize("kind", KINDS)
def test_tensors_anywhere_inside_a_value_are_shared(pool, kind):
    class Box:
        def __init__(self, value):
            self.value = value

    def addresses(box, nested, *, key):
        return [address(box.value), address(nested["a"][0][1]), address(key)]

    values = [make(kind) for _ in range(3)]
    future = pool.submit(addresses, Box(values[0]), {"a": [(1, values[1])]}, key=values[2])
    assert future.result() == [address(value) for value in values]


def test_broadcast_shares_one_memory_with_all(pool):
    value = torch.ones(10)
    assert multipy.get(pool.broadcast(address, value)) == [value.data_ptr()] * 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_is_sent_where_one_is_asked_for(keepers, kind):
    value = make(kind)
    assert keepers[0].keep(multipy.copied(value)) != address(value)
    keepers[0].write(0, 1)
    assert value[0] == 0


def test_views_share_the_memory_they_show(keepers):
    value = torch.arange(24.0).reshape(4, 6)
    view = value[1:, ::2].T
    keepers[0].keep(view)
    there = keepers[0].give()
    assert there.stride() == view.stride() and there.data_ptr() == view.data_ptr()
    keepers[0].write((0, 0), -1)
    assert value[1, 0] == -1


# Letting go ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_sender_may_let_go_first(keepers, kind):
    value = make(kind)
    value[:] = 3
    keepers[0].keep(value)
    del value
    gc.collect()
    others = [make(kind) for _ in range(100)]
    assert keepers[0].read(-1) == 3 and keepers[0].read(0) == 3
    del others


@pytest.mark.parametrize("kind", KINDS)
def test_the_interpreter_may_let_go_first(keepers, kind):
    keepers[0].make(kind)
    keepers[0].write(0, 3)
    value = keepers[0].give()
    keepers[0].forget()
    keepers[0].make(kind)
    assert value[0] == 3


def test_numpy_memory_is_released_when_the_last_interpreter_lets_go(keepers):
    released = threading.Event()
    array = numpy.ones(1000)
    weakref.finalize(array, released.set)
    for keeper in keepers:
        keeper.keep(array)
    del array
    gc.collect()
    keepers[0].forget()
    assert not released.is_set()
    keepers[1].forget()
    # The receiver's last word reaches the owner by way of the owner's own thread.
    assert released.wait(60)


def run_for_long():
    for _ in range(3000):  # an interrupt arrives between two of these
        time.sleep(0.01)


def test_an_argument_is_released_while_its_sender_waits_for_something_else(pool):
    first = pool.interpreters[0]
    for submit_another in (False, True):
        released = threading.Event()
        array = numpy.ones(1000)
        weakref.finalize(array, released.set)
        assert first.submit(len, array).result() == 1000
        # Sender and receiver are idle from here on, or the receiver is busy.
        longer = first.submit(run_for_long) if submit_another else None
        del array
        assert released.wait(20)
        if longer is not None:
            longer.cancel(interrupt=True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_result_outlives_the_interpreter_that_made_it(kind):
    with multipy.Pool(1) as pool:
        keeper = Keeper.options(pool=pool).remote()
        keeper.make(kind, 100_000)
        keeper.write(99_999, 4)
        value = keeper.give()
    gc.collect()
    assert value[99_999] == 4 and float(value.sum()) == 4
    value[:] = 1
    assert float(value.sum()) == 100_000
    del value
    gc.collect()


@pytest.mark.parametrize("kind", KINDS)
def test_a_result_outlives_the_process_end_of_its_pool(run_script, kind):
    run_script(
        f"""
        import numpy, torch
        import multipy_actors as multipy

        def make(kind):
            import numpy, torch
            return torch.ones(1000) if kind == "torch" else numpy.ones(1000)

        pool = multipy.Pool(1)
        future = pool.submit(make, {kind!r})
        value = future.result()
        pool.shutdown()
        keep = [value, future]
        import atexit
        atexit.register(lambda: print(float(keep[0].sum())))
        """
    )


def test_results_that_nobody_asks_for_are_released(pool):
    released = threading.Event()
    array = numpy.ones(1000)
    weakref.finalize(array, released.set)
    future = pool.submit(lambda value: value, array)
    # Not result(): it would make an array here.
    assert future.exception() is None
    del array, future
    gc.collect()
    multipy.get(pool.broadcast(gc.collect))
    multipy.get(pool.broadcast(abs, 1))
    assert released.wait(60)


# Models ----------------------------------------------------------------------------------------------------


def weights_of(model):
    return [parameter.data_ptr() for parameter in model.state_dict().values()]


def test_a_model_sent_to_interpreters_has_its_weights_in_memory_once(pool):
    model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.BatchNorm1d(64), torch.nn.Linear(64, 8))
    expected = weights_of(model)
    assert len(expected) == 9
    assert multipy.get(pool.broadcast(weights_of, model)) == [expected] * 2


def test_replicate_shares_the_weights_and_computes_the_same(pool):
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2)).eval()
    handle = multipy.replicate(model, pool)
    states = handle.broadcast.state_dict()
    for state in states:
        assert [tensor.data_ptr() for tensor in state.values()] == weights_of(model)
    x = torch.ones(3, 8)
    with torch.no_grad():
        for outcome in [*handle.broadcast.forward(x), handle(x)]:
            torch.testing.assert_close(outcome.detach(), model(x))
            assert outcome.requires_grad
        model[0].weight.zero_()
        for outcome in handle.broadcast.forward(x):
            torch.testing.assert_close(outcome.detach(), model(x))


def test_weights_given_to_replicas_are_in_memory_once(pool):
    @multipy.remote
    class Server:
        def __init__(self, weights):
            with torch.device("meta"):
                self.model = torch.nn.Linear(32, 32)
            self.model.load_state_dict(weights, assign=True)

        def weights(self):
            return weights_of(self.model)

        def run(self, x):
            with torch.inference_mode():
                return self.model(x)

    model = torch.nn.Linear(32, 32)
    server = Server.options(pool=pool, replicas="all").remote(model.state_dict())
    assert server.broadcast.weights() == [weights_of(model)] * 2
    torch.testing.assert_close(server.run(torch.ones(1, 32)), model(torch.ones(1, 32)).detach())
