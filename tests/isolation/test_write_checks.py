"""A pool that checks sharing names who writes to memory that others have."""

import asyncio
import warnings

import numpy
import pytest
import torch

import multipy_actors as multipy

PROGRAM = """
    import numpy
    import multipy_actors as multipy

    @multipy.remote
    class Env:
        def __init__(self):
            self.buffer = numpy.zeros(2, int)

        def step(self):
            self.buffer += 1
            return self.buffer

    with multipy.Pool(1, name="sims") as pool:
        env = Env.options(pool=pool).remote()
        replay = [env.step() for _ in range(3)]
"""


def warn_as_errors():
    warnings.simplefilter("error", multipy.SharedWriteWarning)


@pytest.fixture(scope="module")
def pool():
    with multipy.Pool(2, name="checked", check_sharing=True, initializer=warn_as_errors) as made:
        yield made


def fill(value):
    value[:] = 7


def read(value):
    return float(value.sum())


def same(value):
    return value


@multipy.remote
class Trainer:
    def keep(self, weights):
        self.weights = weights

    def train(self):
        self.weights += 1

    def give(self):
        return self.weights

    def rest(self):
        pass

    def replace(self):
        self.weights = None


@pytest.mark.parametrize("make", [torch.zeros, numpy.zeros])
def test_a_call_that_writes_to_an_argument_is_named(pool, make):
    value = make(4)
    with pytest.raises(multipy.SharedWriteWarning, match=r"fill \(checked-\d\).*given to fill"):
        pool.submit(fill, value).result()
    assert pool.submit(read, value).result() == 28
    assert pool.submit(same, value).result() is not value


def test_two_writers_are_named(pool):
    weights = numpy.zeros(4)
    trainers = [Trainer.options(pool=pool, interpreter=index).remote() for index in range(2)]
    for trainer in trainers:
        trainer.keep(weights)
    with pytest.raises(multipy.SharedWriteWarning, match=r"Trainer.train \(checked-0\)"):
        trainers[0].train()
    both = r"Trainer.train \(checked-1\).* as Trainer.train \(checked-0\) did"
    with pytest.raises(multipy.SharedWriteWarning, match=both):
        trainers[1].train()
    trainers[0].train()  # each is told once


def test_a_host_that_writes_to_what_an_actor_has_is_told(pool):
    weights = numpy.zeros(4)
    trainer = Trainer.options(pool=pool).remote()
    trainer.keep(weights)
    weights[:] = 1
    with pytest.raises(multipy.SharedWriteWarning, match=r"elsewhere.*given to Trainer.keep"):
        trainer.rest()


def test_an_actor_that_writes_to_what_it_has_returned_is_named(pool):
    trainer = Trainer.options(pool=pool).remote()
    trainer.keep.options(copy=True)(numpy.ones(4))
    shown = trainer.give()
    with pytest.raises(multipy.SharedWriteWarning, match=r"Trainer.train .*returned by Trainer.give"):
        trainer.train()
    assert shown.tolist() == [2, 2, 2, 2]


def test_who_has_memory_alone_may_write_to_it(pool):
    trainer = Trainer.options(pool=pool, copy=True).remote()
    trainer.keep(numpy.zeros(4))
    snapshots = []
    for _ in range(3):
        trainer.train()
        snapshots.append(float(trainer.give()[0]))
    assert snapshots == [1, 2, 3]


def test_what_coroutines_and_batches_do_is_found_with_the_next_call(pool):
    @multipy.remote
    class OnLoop:
        async def fill(self, value):
            await asyncio.sleep(0)
            self.value = value
            value[:] = 7

    value = numpy.zeros(4)
    filler = OnLoop.options(pool=pool, interpreter=0).remote()
    filler.fill(value)
    with pytest.raises(multipy.SharedWriteWarning, match="elsewhere"):
        pool.interpreters[0].submit(abs, 1).result()


def test_the_environment_asks_for_it_and_the_warning_points_at_the_code(run_script):
    done = run_script(PROGRAM, MULTIPY_CHECK_SHARING="1")
    assert "SharedWriteWarning: Env.step (sims-0) has written to 16 bytes" in done.stderr
    assert "returned by Env.step (sims-0)" in done.stderr


def test_without_it_nothing_is_said(run_script):
    assert "SharedWriteWarning" not in run_script(PROGRAM).stderr
