"""`share` and `copy` of pools, actors, functions and calls choose what is shared."""

import asyncio

import numpy
import pytest
import torch

import multipy_actors as multipy


@pytest.fixture(scope="module")
def pool():
    with multipy.Pool(2) as made:
        yield made


def address(value):
    return value.data_ptr() if isinstance(value, torch.Tensor) else value.__array_interface__["data"][0]


@multipy.remote
class Keeper:
    def keep(self, value):
        self.value = value
        return address(value)

    def give(self):
        return self.value

    def change(self):
        self.value[0] = 7

    def items(self):
        for _ in range(3):
            self.value += 1
            yield self.value


@multipy.remote
class OnLoop(Keeper):
    async def give_later(self):
        return self.value

    async def items_later(self):
        for _ in range(3):
            self.value += 1
            yield self.value


@pytest.mark.parametrize("make", [torch.zeros, numpy.zeros])
def test_a_call_can_copy_its_arguments(pool, make):
    keeper = Keeper.options(pool=pool).remote()
    value = make(4)
    assert keeper.keep(value) == address(value)
    assert keeper.keep.options(copy=True)(value) != address(value)
    assert keeper.keep.options(share="nothing").submit(value).result() != address(value)
    assert keeper.keep.options(copy=False)(value) == address(value)
    keeper.keep.options(copy=True)(value)
    keeper.change()
    assert value[0] == 0


@pytest.mark.parametrize("make", [torch.zeros, numpy.zeros])
@pytest.mark.parametrize("cls", [Keeper, OnLoop])
def test_a_call_can_copy_its_result(pool, make, cls):
    keeper = cls.options(pool=pool).remote()
    keeper.keep(make(4))
    snapshot = keeper.give.options(copy=True)()
    keeper.change()
    assert snapshot[0] == 0 and keeper.give()[0] == 7
    if cls is OnLoop:
        assert keeper.give_later.options(copy=True)()[0] == 7
        snapshot = asyncio.run(wait_for(keeper.give_later.options(copy=True).submit()))
        keeper.keep(make(4))
        assert snapshot[0] == 7


async def wait_for(future):
    return await future


def test_items_of_a_stream_can_be_copies(pool):
    for cls, name in ((Keeper, "items"), (OnLoop, "items"), (OnLoop, "items_later")):
        keeper = cls.options(pool=pool).remote()
        keeper.keep(numpy.zeros(2))
        items = getattr(keeper, name).options(copy=True).stream()
        assert [item[0] for item in list(items)] == [1, 2, 3]


def test_an_actor_and_a_pool_can_copy_by_default():
    value = numpy.zeros(4)
    with multipy.Pool(1, share="nothing") as pool:
        assert pool.submit(address, value).result() != address(value)
        keeper = Keeper.options(pool=pool).remote()
        assert keeper.keep(value) != address(value)
        assert keeper.keep.options(copy=False)(value) == address(value)
        assert list(pool.map(address, [value])) != [address(value)]
        assert multipy.get(pool.broadcast(address, value)) != [address(value)]
        sharing = Keeper.options(pool=pool, share="arrays").remote()
        assert sharing.keep(value) == address(value)
        sent = multipy.remote(address)
        assert sent.options(pool=pool, copy=False).submit(value).result() == address(value)
    with multipy.Pool(1) as pool:
        assert Keeper.options(pool=pool, copy=True).remote().keep(value) != address(value)
        assert sent.options(pool=pool, copy=True).submit(value).result() != address(value)
        assert list(sent.options(pool=pool, copy=True).map([value])) != [address(value)]


def ask_for_address(handle, value):
    return address(value), handle.keep(value), multipy.default_pool().submit(address, value).result()


def test_the_choice_of_an_actor_and_a_pool_is_known_everywhere():
    with multipy.Pool(2, copy=True) as pool:
        handle = Keeper.options(pool=pool, interpreter=1).remote()
        there, kept, submitted = pool.interpreters[0].submit(ask_for_address, handle, numpy.zeros(3)).result()
        assert there not in (kept, submitted)


@pytest.mark.parametrize(
    "options", [{"share": "some"}, {"share": 1}, {"copy": 1}, {"share": "all", "copy": True}]
)
def test_a_choice_that_makes_no_sense_is_refused(pool, options):
    with pytest.raises(ValueError, match=r"share|copy"):
        multipy.Pool(1, **options)
    with pytest.raises(ValueError, match=r"share|copy"):
        Keeper.options(pool=pool, **options)
    with pytest.raises(ValueError, match=r"share|copy"):
        multipy.remote(address).options(**options)
    keeper = Keeper.options(pool=pool).remote()
    with pytest.raises(ValueError, match=r"share|copy"):
        keeper.give.options(**options)
    with pytest.raises(ValueError, match=r"share|copy"):
        keeper.broadcast.give.options(**options)


def test_a_pool_without_interpreters_copies_alike():
    with multipy.Pool(1, inline=True) as pool:
        value = numpy.zeros(4)
        keeper = Keeper.options(pool=pool).remote()
        assert keeper.keep(value) == address(value)
        assert keeper.keep.options(copy=True)(value) != address(value)
        keeper.keep(value)
        items = keeper.items.options(copy=True).stream()
        assert [item[0] for item in list(items)] == [1, 2, 3]
