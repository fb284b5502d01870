"""Dynamic batching: which calls run together, what the method is called with, and whose the results are."""

from __future__ import annotations

import asyncio
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING

import numpy as np
import pytest
from gates import Gate

import multipy_actors as multipy

if TYPE_CHECKING:
    import torch  # interpreters that need it import it themselves

PATIENCE = 60


@multipy.remote
class Model:
    """Notes what it is called with."""

    def __init__(self):
        self.batches = []

    @multipy.batch
    def stop(self, gates):
        return [gate.stop() for gate in gates]

    @multipy.batch
    def double(self, xs):
        self.batches.append(list(xs))
        return [2 * x for x in xs]

    @multipy.batch
    def combine(self, xs, ys, *, scale=1, shifts=(0,) * 99):
        self.batches.append((xs, ys, scale, shifts))
        return list(zip(xs, ys, strict=True))

    @multipy.batch
    def reciprocal(self, xs):
        self.batches.append(xs)
        return [1 / x if x else ZeroDivisionError(f"of {x}") for x in xs]

    @multipy.batch
    def explode(self, xs):
        raise LookupError(f"{len(xs)} at once")

    @multipy.batch
    def too_few(self, xs):
        return xs[:-1]

    @multipy.batch
    def no_sequence(self, xs):
        return dict.fromkeys(xs)

    @multipy.batch
    def total(self, x: torch.Tensor):
        self.batches.append(tuple(x.shape))
        return x.sum(dim=1)

    @multipy.batch
    def total_of_arrays(self, x: np.ndarray, *, weights: np.ndarray):
        self.batches.append((type(x).__name__, x.shape, weights.shape))
        return (x * weights).sum(axis=1)

    @multipy.batch
    def lists(self, x: list[torch.Tensor]):
        self.batches.append([type(item).__name__ for item in x])
        return [item + 1 for item in x]

    @multipy.batch
    def unsendable(self, xs):
        return [(item for item in ()) if x else x for x in xs]

    def read(self):
        return self.batches

    def count_to(self, n):
        yield from range(n)


@multipy.remote
class AsyncModel:
    def __init__(self):
        self.batches = []
        self.opened = asyncio.Event()

    @multipy.batch
    async def double(self, xs):
        self.batches.append(list(xs))
        await asyncio.sleep(0)
        return [2 * x for x in xs]

    @multipy.batch
    async def wait(self, gates):
        for gate in gates:
            gate.report()
        await self.opened.wait()
        return [self.opened.is_set() for _ in gates]

    async def open(self):
        self.opened.set()

    def read(self):
        return self.batches


class Line:
    """Holds up the actor, so that what is submitted meanwhile is queued."""

    def __init__(self, model):
        self._gate = Gate()
        self._stopped = model.stop.submit(self._gate)
        self._gate.arrivals()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._gate.open()
        self._stopped.result(PATIENCE)


@pytest.fixture
def model(pool):
    return Model.options(pool=pool, max_batch_size=8, interpreter=0).remote()


def test_calls_that_wait_run_as_one_and_each_gets_its_own_result(model):
    with Line(model):
        futures = [model.double.submit(i) for i in range(5)]
    assert multipy.get(futures, timeout=PATIENCE) == [0, 2, 4, 6, 8]
    assert model.read() == [[0, 1, 2, 3, 4]]


def test_a_batch_has_at_most_max_batch_size_calls(model):
    with Line(model):
        futures = [model.double.submit(i) for i in range(20)]
    assert multipy.get(futures, timeout=PATIENCE) == [2 * i for i in range(20)]
    assert [len(batch) for batch in model.read()] == [8, 8, 4]


def test_a_call_of_another_method_ends_the_batch_and_the_order_is_kept(model):
    with Line(model):
        futures = [model.double.submit(0), model.double.submit(1), model.reciprocal.submit(1)]
        futures += [model.double.submit(2), model.read.submit(), model.double.submit(3)]
    assert multipy.get(futures, timeout=PATIENCE) == [0, 2, 1.0, 4, [[0, 1], [1], [2]], 6]
    assert model.read() == [[0, 1], [1], [2], [3]]


def test_calls_that_pass_their_arguments_otherwise_are_another_batch(model):
    with Line(model):
        futures = [model.combine.submit(1, 2), model.combine.submit(3, 4), model.combine.submit(5, ys=6)]
        futures += [model.combine.submit(ys=8, xs=7, scale=3), model.combine.submit(scale=4, xs=9, ys=10)]
    assert multipy.get(futures, timeout=PATIENCE) == [(1, 2), (3, 4), (5, 6), (7, 8), (9, 10)]
    shifts = (0,) * 99
    assert model.read() == [
        ([1, 3], [2, 4], 1, shifts),
        ([5], [6], 1, shifts),
        ([7, 9], [8, 10], [3, 4], shifts),
    ]


def test_a_call_that_comes_alone_is_a_batch_of_one(model):
    assert model.double(3) == 6
    assert model.read() == [[3]]


def test_the_first_call_waits_for_more_until_the_batch_is_full(pool):
    model = Model.options(pool=pool, max_batch_size=2, batch_wait=PATIENCE).remote()
    first = model.double.submit(1)
    second = model.double.submit(2)
    assert (first.result(PATIENCE), second.result(PATIENCE)) == (2, 4)
    assert model.read() == [[1, 2]]


def test_when_nothing_comes_the_first_call_waits_no_longer_than_batch_wait(pool):
    model = Model.options(pool=pool, max_batch_size=2, batch_wait=0.01).remote()
    assert model.double.submit(1).result(PATIENCE) == 2


def test_a_call_of_another_method_ends_the_wait(pool):
    model = Model.options(pool=pool, max_batch_size=8, batch_wait=PATIENCE).remote()
    first = model.double.submit(1)
    assert model.read() == [[1]]
    assert first.result(0) == 2


def test_a_closing_pool_ends_the_wait():
    with multipy.Pool(1) as pool:
        model = Model.options(pool=pool, max_batch_size=8, batch_wait=3600).remote()
        first = model.double.submit(1)
        while not first.running():
            assert not first.done()
    assert first.result(0) == 2


def test_pinned_and_broadcast_calls_are_batches_of_one(pool):
    model = Model.options(pool=pool, replicas="all", max_batch_size=8).remote()
    assert model.broadcast.double(1) == [2, 2]
    assert [model.on(0).double.submit(i).result(PATIENCE) for i in range(3)] == [0, 2, 4]
    assert model.on(0).read() == [[1], [0], [1], [2]]


def test_a_result_that_is_an_exception_fails_its_call_alone(model):
    with Line(model):
        futures = [model.reciprocal.submit(x) for x in (1, 0, 2)]
    assert futures[0].result(PATIENCE) == 1
    with pytest.raises(ZeroDivisionError, match="of 0"):
        futures[1].result(PATIENCE)
    assert futures[2].result(PATIENCE) == 0.5


def test_what_the_method_raises_fails_all_calls(model):
    with Line(model):
        futures = [model.explode.submit(i) for i in range(3)]
    for future in futures:
        with pytest.raises(LookupError, match="3 at once"):
            future.result(PATIENCE)


@pytest.mark.parametrize(
    ("name", "error", "text"),
    [("too_few", ValueError, "returned 2 for 3"), ("no_sequence", TypeError, "3 here, not dict")],
)
def test_what_is_no_sequence_of_one_result_per_call_is_an_error_for_all(model, name, error, text):
    with Line(model):
        futures = [getattr(model, name).submit(i) for i in range(3)]
    for future in futures:
        with pytest.raises(error, match=text):
            future.result(PATIENCE)


def test_a_result_that_cannot_be_sent_fails_its_call_alone(model):
    with Line(model):
        futures = [model.unsendable.submit(x) for x in (0, 1, 0)]
    assert (futures[0].result(PATIENCE), futures[2].result(PATIENCE)) == (0, 0)
    with pytest.raises(multipy.SerializationError, match="result"):
        futures[1].result(PATIENCE)


def test_a_call_that_is_cancelled_while_it_waits_is_left_out(model):
    with Line(model):
        futures = [model.double.submit(i) for i in range(3)]
        assert futures[1].cancel()
    assert (futures[0].result(PATIENCE), futures[2].result(PATIENCE)) == (0, 4)
    with pytest.raises(CancelledError):
        futures[1].result(PATIENCE)
    assert model.read() == [[0, 2]]


def test_a_call_whose_argument_fails_drops_out_alone(pool, model):
    failing = pool.submit(int, "no number")
    with Line(model):
        futures = [
            model.double.submit(1),
            model.double.submit(failing),
            model.double.submit(pool.submit(int, "4")),
        ]
    assert (futures[0].result(PATIENCE), futures[2].result(PATIENCE)) == (2, 8)
    with pytest.raises(ValueError, match="no number"):
        futures[1].result(PATIENCE)
    assert model.read() == [[1, 4]]


def test_tensors_are_stacked_where_the_parameter_is_one(model):
    import torch

    with Line(model):
        futures = [model.total.submit(torch.full((3,), float(i))) for i in range(4)]
    assert [future.result(PATIENCE).item() for future in futures] == [0, 3, 6, 9]
    assert model.read() == [(4, 3)]


def test_arrays_are_stacked_in_keyword_parameters_too(model):
    with Line(model):
        futures = [model.total_of_arrays.submit(np.ones(2) * i, weights=np.array([1, 10])) for i in range(3)]
    assert [future.result(PATIENCE) for future in futures] == [0, 11, 22]
    assert model.read() == [("ndarray", (3, 2), (3, 2))]


def test_tensors_stay_a_list_where_the_parameter_is_one(model):
    import torch

    with Line(model):
        futures = [model.lists.submit(torch.zeros(i + 1)) for i in range(2)]
    assert [future.result(PATIENCE).shape for future in futures] == [(1,), (2,)]
    assert model.read() == [["Tensor", "Tensor"]]


def test_tensors_of_different_shapes_and_what_is_no_tensor_cannot_be_stacked(model):
    import torch

    with Line(model):
        futures = [model.total.submit(torch.zeros(i)) for i in (1, 2)]
    for future in futures:
        with pytest.raises(TypeError, match=r"shapes are \(1,\), \(2,\)"):
            future.result(PATIENCE)
    with pytest.raises(TypeError, match="must be a tensor, not int"):
        model.total(3)


def test_each_call_is_counted(model):
    with Line(model):
        futures = [model.reciprocal.submit(x) for x in (1, 0, 2)]
    multipy.wait(futures, 3, timeout=PATIENCE)
    figures = model.statistics()
    assert (figures["done"], figures["failed"]) == (4, 1)


def test_generators_of_a_batched_actor_stream_as_ever(model):
    assert list(model.count_to.stream(3)) == [0, 1, 2]


def test_one_call_of_a_batch_that_runs_ends_alone_when_it_is_interrupted(pool):
    model = Model.options(pool=pool, max_batch_size=2, batch_wait=PATIENCE).remote()
    with Gate() as gate:
        futures = [model.stop.submit(gate), model.stop.submit(gate)]
        gate.arrivals()
        futures[0].cancel(interrupt=True)
        with pytest.raises(multipy.Interrupted):
            futures[0].result(PATIENCE)
        gate.open()
        assert futures[1].result(PATIENCE) is None


def test_async_methods_are_batched_too(pool):
    model = AsyncModel.options(pool=pool, max_batch_size=3, batch_wait=PATIENCE).remote()
    futures = [model.double.submit(i) for i in range(6)]
    assert multipy.get(futures, timeout=PATIENCE) == [0, 2, 4, 6, 8, 10]
    assert model.read() == [[0, 1, 2], [3, 4, 5]]


def test_a_call_of_an_async_batch_is_interrupted_alone(pool):
    model = AsyncModel.options(pool=pool, max_batch_size=2, batch_wait=PATIENCE).remote()
    with Gate() as gate:
        futures = [model.wait.submit(gate), model.wait.submit(gate)]
        gate.arrivals(2)
        futures[0].cancel(interrupt=True)
        with pytest.raises(multipy.Interrupted):
            futures[0].result(PATIENCE)
        model.open()
        assert futures[1].result(PATIENCE) is True


# Which methods are batched ---------------------------------------------------------------------------------


@multipy.remote
class Mixed:
    """Has two methods that take batches, and others that do not."""

    def __init__(self):
        self.noted = []
        self._value = 0

    @multipy.batch
    def double(self, xs):
        self.noted.append(("double", list(xs)))
        return [2 * x for x in xs]

    @multipy.batch(max_batch_size=2)
    def triple(self, xs):
        self.noted.append(("triple", list(xs)))
        return [3 * x for x in xs]

    def note(self, x):
        self.noted.append(("note", x))
        return x

    @staticmethod
    def of_static(x):
        return ("static", x)

    @classmethod
    def of_class(cls, x):
        return (cls.__name__, x)

    @property
    def value(self):
        return self._value

    def __call__(self, x):
        return ("called", x)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self.noted.append(("exit", kind))

    def read(self):
        return self.noted


class Overriding(Mixed):
    def double(self, x):
        self.noted.append(("double of one", x))
        return 2 * x


class OnLoop(Mixed):
    @multipy.batch(max_batch_size=3)
    async def quadruple(self, xs):
        self.noted.append(("quadruple", list(xs)))
        await asyncio.sleep(0)
        return [4 * x for x in xs]

    async def count_to(self, n):
        for number in range(n):
            yield number


def submitted_together(actor, *calls):
    """Submits `(method, argument)` while the interpreter is held up, and returns what comes of it."""
    with Gate() as gate:
        stopped = actor.interpreters[0].submit(Gate.stop, gate)
        gate.arrivals()
        futures = [getattr(actor, name).submit(x) for name, x in calls]
        gate.open()
        stopped.result(PATIENCE)
        return multipy.get(futures, timeout=PATIENCE)


@pytest.mark.parametrize("cls", [Mixed, OnLoop])
def test_methods_without_a_mark_are_called_one_by_one(cls, pool):
    actor = cls.options(pool=pool).remote()
    calls = [("note", 1), ("note", 2), ("of_static", 3), ("of_class", 4)]
    assert submitted_together(actor, *calls) == [1, 2, ("static", 3), (cls.__name__, 4)]
    assert (actor(5), actor.value) == (("called", 5), 0)
    with actor:
        pass
    assert actor.read() == [("note", 1), ("note", 2), ("exit", None)]


@pytest.mark.parametrize("cls", [Mixed, OnLoop])
def test_calls_of_two_batched_methods_are_never_one_batch_and_keep_their_order(cls, pool):
    actor = cls.options(pool=pool).remote()
    calls = [("double", 1), ("double", 2), ("triple", 3), ("double", 4), ("note", 5), ("double", 6)]
    calls += [("triple", 7), ("triple", 8), ("triple", 9)]
    assert submitted_together(actor, *calls) == [2, 4, 9, 8, 5, 12, 21, 24, 27]
    assert actor.read() == [
        ("double", [1, 2]),
        ("triple", [3]),
        ("double", [4]),
        ("note", 5),
        ("double", [6]),
        ("triple", [7, 8]),
        ("triple", [9]),
    ]


def test_a_waiting_batch_ends_at_a_call_of_another_batched_method(pool):
    actor = Mixed.options(pool=pool, max_batch_size=8, batch_wait=PATIENCE).remote()
    first, second = actor.double.submit(1), actor.triple.submit(1)
    assert first.result(PATIENCE / 2) == 2
    assert actor.read() == [("double", [1]), ("triple", [1])]
    assert second.result(0) == 3


def test_a_marked_coroutine_is_batched_and_generators_beside_it_stream(pool):
    actor = OnLoop.options(pool=pool).remote()
    assert submitted_together(actor, *(("quadruple", x) for x in range(4))) == [0, 4, 8, 12]
    assert actor.read() == [("quadruple", [0, 1, 2]), ("quadruple", [3])]

    async def read():
        return [item async for item in actor.count_to.stream(3)]

    assert asyncio.run(read()) == [0, 1, 2]


@pytest.mark.parametrize("cls", [Mixed, OnLoop])
def test_futures_that_are_arguments_are_awaited_also_those_of_the_first_call(cls, pool):
    actor = cls.options(pool=pool, interpreter=0, max_batch_size=3, batch_wait=PATIENCE).remote()
    futures = [actor.double.submit(pool.interpreters[1].submit(int, text)) for text in ("4", "5")]
    failing = actor.double.submit(pool.interpreters[1].submit(int, "no number"))
    assert actor.note.submit("next").result(PATIENCE) == "next"
    assert multipy.get(futures, timeout=PATIENCE) == [8, 10]
    with pytest.raises(ValueError, match="no number"):
        failing.result(PATIENCE)
    assert actor.read() == [("double", [4, 5]), ("note", "next")]


def test_a_method_that_overrides_a_marked_one_without_a_mark_gets_single_values(pool):
    actor = Overriding.options(pool=pool).remote()
    assert submitted_together(actor, ("double", 1), ("double", 2), ("triple", 3)) == [2, 4, 9]
    assert actor.read() == [("double of one", 1), ("double of one", 2), ("triple", [3])]


def test_the_option_makes_batches_of_a_class_with_one_method(pool):
    @multipy.remote
    class Sizes:
        def size_of_batch(self, xs):
            return [len(xs)] * len(xs)

        def _batches(self):
            return []

    actor = Sizes.options(pool=pool, max_batch_size=3, batch_wait=PATIENCE).remote()
    assert list(actor.size_of_batch.map(range(3))) == [3, 3, 3]
    assert Sizes.options(pool=pool).remote().size_of_batch([1, 2]) == [2, 2]


def test_a_replicated_object_and_a_movable_one_have_their_batched_methods(pool):
    plain = Mixed()
    assert plain.double([4]) == [8]
    actor = multipy.replicate(plain, pool)
    assert actor.broadcast.double(4) == [8, 8] and actor.triple(2) == 6
    with pool.acquire() as session:
        moved = session.create_movable(session.from_value(Mixed()))
        assert moved.double(1) == 2 and moved.note(3) == 3


def test_handles_made_and_used_in_an_interpreter_batch_as_well(pool):
    def use(given):
        made = Mixed.options(pool=given._pool, interpreter=1).remote()
        return submitted_together(made, ("double", 1), ("double", 2)), made.read(), given.double(5)

    actor = Mixed.options(pool=pool, interpreter=1).remote()
    results, noted, doubled = pool.interpreters[0].submit(use, actor).result(PATIENCE)
    assert (results, noted, doubled) == ([2, 4], [("double", [1, 2])], 10)


def test_each_call_of_a_marked_method_is_counted(pool):
    actor = Mixed.options(pool=pool).remote()
    submitted_together(actor, ("double", 1), ("double", 2), ("note", 3))
    actor.read()
    assert actor.statistics()["done"] in (4, 5)


@pytest.mark.parametrize("options", [{"max_batch_size": 0}, {"batch_wait": -1}, {"max_concurrency": 0}])
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(ValueError, match="must be"):
        Model.options(**options)
