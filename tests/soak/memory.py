"""Operations of the soak: arrays, tensors and large bytes that are shared between interpreters."""

from __future__ import annotations

import gc
import os
from random import Random

import workers
from workers import Actor, AsyncActor, Model
from world import PATIENCE, World, check, operation

import multipy_actors as multipy


def address(array):
    """Return where an array or a tensor lies."""
    return array.data_ptr() if hasattr(array, "data_ptr") else array.__array_interface__["data"][0]


def way(world: World, drawn: Random) -> list:
    """Draw actors, each of which may wait for the next."""
    numbers = sorted(drawn.sample(range(len(world.pool)), drawn.randint(1, len(world.pool))))
    return [world.actor(Actor, number) for number in numbers]


@operation(6)
def arrays_go_round(world: World, drawn: Random) -> None:
    """An array goes from actor to actor and back; each writes to it, and all of them to the same memory."""
    array, actors = world.array(drawn), way(world, drawn)
    before = array.copy()
    back = actors[0].pass_on.submit(actors[1:], array).result(PATIENCE)
    assert address(back) == address(array)
    assert (back.dtype, back.shape, back.strides) == (array.dtype, array.shape, array.strides)
    assert (array == before + len(actors)).all()
    back -= len(actors)
    assert (array == before).all()


@operation(2)
def copies_go_round(world: World, drawn: Random) -> None:
    """What is sent as a copy stays as it was."""
    array, actors, form = world.array(drawn), way(world, drawn), drawn.randint(0, 1)
    before = array.copy()
    if form == 0:
        back = actors[0].pass_on.submit(actors[1:], multipy.copied(array)).result(PATIENCE)
    else:
        back = actors[0].pass_on.options(copy=True).submit(actors[1:], array).result(PATIENCE)
    assert address(back) != address(array)
    assert (array == before).all()
    assert (back == before + len(actors)).all()


@operation(3)
def bytes_go_round(world: World, drawn: Random) -> None:
    """Large bytes arrive whole, and what was lent to a call can be resized after it."""
    data = drawn.randbytes(64) * drawn.randint(1, 20_000)
    kind, actors = drawn.choice([bytes, bytearray, memoryview]), way(world, drawn)
    sent = kind(data)
    back = actors[0].pass_back.submit(actors[1:], sent).result(PATIENCE)
    assert type(back) is kind
    assert bytes(back) == data
    expected = (workers.digest(data)[0], kind.__name__, len(data))
    check(expected, world.pool.submit(workers.digest, sent).result(PATIENCE))
    if kind is bytearray:
        sent.append(1)  # nobody has it any more


@operation(3)
def kept_by_actors(world: World, drawn: Random) -> None:
    """What an actor keeps outlives its sender's, and what it returns outlives the actor."""
    array, large = world.array(drawn), drawn.randbytes(1000) * drawn.randint(1, 500)
    expected, digest = array.copy(), workers.digest(large)
    actor = Actor.options(pool=world.pool, interpreter=drawn.randrange(len(world.pool))).remote()
    actor.keep([array, large])
    del array, large
    if drawn.random() < 0.1:
        gc.collect()
    back, large = actor.give_up()
    multipy.kill(actor)
    del actor
    back += 1
    assert (back == expected + 1).all()
    check(digest, workers.digest(large))


@operation(2)
def shared_by_coroutines(world: World, drawn: Random) -> None:
    """Arrays inside other values, for several coroutines at a time."""
    actor = world.actor(AsyncActor, drawn.randrange(len(world.pool)))
    arrays = [world.array(drawn, 500) for _ in range(drawn.randint(1, 10))]
    calls = [actor.echo.submit({"array": array, "number": i}) for i, array in enumerate(arrays)]
    for i, (call, array) in enumerate(zip(calls, arrays, strict=True)):
        back = call.result(PATIENCE)
        check(i, back["number"])
        assert address(back["array"]) == address(array)


@operation(1)
def replicate(world: World, drawn: Random) -> None:
    """An object that exists gets a copy in every interpreter, its array is in memory once."""
    weights = world.array(drawn, 100).astype("f8")
    handle = multipy.replicate(Model(weights), world.pool)
    check({address(weights)}, set(handle.broadcast.address()))
    weights += 1
    expected = (weights * 2).sum().item()
    check([expected] * len(world.pool), multipy.get(handle.broadcast.sum_of.submit(2), timeout=PATIENCE))
    check(expected, handle(2))


def with_torch() -> None:
    """Enter the operations with tensors."""
    import torch

    torch.set_num_threads(1)

    @operation(6)
    def tensors_go_round(world: World, drawn: Random) -> None:
        """A tensor goes from actor to actor and back; all of them write to the same memory."""
        shape = [drawn.randint(1, 30) for _ in range(drawn.randint(1, 3))]
        tensor = torch.arange(float(torch.Size(shape).numel())).reshape(shape)
        tensor = tensor.t() if len(shape) == 2 and drawn.random() < 0.5 else tensor
        before, actors = tensor.clone(), way(world, drawn)
        back = actors[0].pass_on.submit(actors[1:], tensor).result(PATIENCE)
        assert address(back) == address(tensor)
        assert back.stride() == tensor.stride()
        assert torch.equal(tensor, before + len(actors))

    @operation(1)
    def models(world: World, drawn: Random) -> None:
        """A model is replicated; its replicas compute what it computes, with its weights."""
        model = torch.nn.Linear(drawn.randint(1, 8), drawn.randint(1, 8)).requires_grad_(False)
        inputs = torch.arange(float(model.in_features))
        handle = multipy.replicate(model, world.pool)
        expected = model(inputs)
        for call in handle.broadcast.forward.submit(inputs):
            assert torch.equal(call.result(PATIENCE), expected)


if os.environ.get("TORCH") == "1":
    with_torch()
