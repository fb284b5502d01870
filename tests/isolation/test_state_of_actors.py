"""What Python and torch keep for a thread is an actor's, whichever thread runs its calls."""

import asyncio
import decimal
import os
import threading
import time

import pytest
import torch

import multipy_actors as multipy

PATIENCE = 60


@multipy.remote
class Holder:
    """Sets something for good, in `__init__` or later, and says what is in force."""

    def __init__(self, change=None):
        if change is not None:
            change()

    def change(self, change):
        change()

    def tell(self):
        return in_force()

    def thread(self):
        return threading.get_ident()

    def read(self, descriptor):
        return os.read(descriptor, 1)


def in_force():
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.empty(0).device.type,
    )


def disable_grad():
    torch.set_grad_enabled(False)


def enter_inference_mode():
    global inference
    inference = torch.inference_mode()
    inference.__enter__()


def leave_inference_mode():
    inference.__exit__(None, None, None)


def enable_autocast():
    torch.set_autocast_enabled("cpu", True)
    torch.set_autocast_dtype("cpu", torch.float16)


def use_meta():
    torch.set_default_device("meta")


USUAL = (True, False, False, "cpu")
CHANGES = {
    disable_grad: (False, False, False, "cpu"),
    enter_inference_mode: (False, True, False, "cpu"),
    enable_autocast: (True, False, True, "cpu"),
    use_meta: (True, False, False, "meta"),
}


@pytest.fixture
def pool():
    with multipy.Pool(1, preload=["torch"]) as pool:
        yield pool


@pytest.fixture
def blocked():
    """A pipe; the first thread of an interpreter that reads from it is blocked until the test ends."""
    reader, writer = os.pipe()
    yield reader
    os.write(writer, b"x" * 100)
    os.close(writer)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_what_an_actor_sets_is_its_own(pool, change):
    first = Holder.options(pool=pool).remote(change)
    other = Holder.options(pool=pool).remote()
    for _ in range(3):
        assert first.tell() == CHANGES[change]
        assert other.tell() == USUAL
        assert pool.submit(in_force).result(PATIENCE) == USUAL


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_it_goes_with_the_actor_to_another_thread(pool, blocked, change):
    first = Holder.options(pool=pool).remote(change)
    other = Holder.options(pool=pool).remote()
    thread = first.thread()
    reading = other.read.submit(blocked)
    while first.thread() == thread:
        pass
    assert first.tell() == CHANGES[change]
    assert pool.submit(in_force).result(PATIENCE) == USUAL
    third = Holder.options(pool=pool).remote()
    assert third.tell() == USUAL
    assert not reading.done()


def test_all_of_them_at_once_in_any_order(pool, blocked):
    actors = {change: Holder.options(pool=pool).remote(change) for change in CHANGES}
    for _ in range(2):
        for change, actor in [*actors.items(), *reversed(actors.items())]:
            assert actor.tell() == CHANGES[change]
        reading = Holder.options(pool=pool).remote().read.submit(blocked)
    actors[enter_inference_mode].change(leave_inference_mode)
    assert actors[enter_inference_mode].tell() == USUAL
    for change in (disable_grad, enable_autocast, use_meta):
        assert actors[change].tell() == CHANGES[change]
    assert not reading.done()


def test_actors_begin_with_what_the_initializer_has_set():
    with multipy.Pool(1, initializer=disable_grad) as pool:
        assert Holder.options(pool=pool).remote().tell() == CHANGES[disable_grad]
        assert pool.submit(in_force).result(PATIENCE) == CHANGES[disable_grad]


def test_an_actor_has_a_context_of_its_own(pool, blocked):
    @multipy.remote
    class Rounding:
        def set(self, digits):
            decimal.getcontext().prec = digits

        def get(self):
            return str(decimal.Decimal(1) / 3), threading.get_ident()

    actors = [Rounding.options(pool=pool).remote() for _ in range(3)]
    for digits, actor in enumerate(actors, 2):
        actor.set(digits)
    rounded = ["0.33", "0.333", "0.3333"]
    assert [actor.get()[0] for actor in actors] == rounded
    _, thread = actors[0].get()
    Holder.options(pool=pool).remote().read.submit(blocked)
    while actors[0].get()[1] == thread:
        pass
    assert [actor.get()[0] for actor in actors] == rounded
    assert pool.submit(lambda: decimal.getcontext().prec).result(PATIENCE) == 28


def test_an_event_loop_that_a_plain_actor_has_set_is_its_own(pool, blocked):
    @multipy.remote
    class Owner:
        def __init__(self):
            self.loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self.loop)

        def is_its_own(self):
            async def done():
                return asyncio.get_running_loop() is self.loop

            loop = asyncio.get_event_loop_policy().get_event_loop()
            return loop is self.loop and loop.run_until_complete(done()), threading.get_ident()

    owners = [Owner.options(pool=pool).remote() for _ in range(2)]
    assert [owner.is_its_own()[0] for owner in owners] == [True, True]
    _, thread = owners[0].is_its_own()
    Holder.options(pool=pool).remote().read.submit(blocked)
    while owners[0].is_its_own()[1] == thread:
        pass
    assert [owner.is_its_own()[0] for owner in owners] == [True, True]


def test_it_is_kept_though_neighbours_compute_and_sleep():
    @multipy.remote
    class Neighbour:
        def sleep(self):
            time.sleep(0.001)

        def compute(self):
            sum(range(30_000))

    @multipy.remote
    class Turning:
        def __init__(self):
            self.digits = 5
            decimal.getcontext().prec = self.digits
            torch.set_grad_enabled(False)

        def turn(self):
            found = decimal.getcontext().prec, torch.is_grad_enabled()
            expected = self.digits, self.digits % 2 == 0
            self.digits += 1
            decimal.getcontext().prec = self.digits
            torch.set_grad_enabled(self.digits % 2 == 0)
            return found == expected

    with multipy.Pool(1, preload=["torch"]) as pool:
        turning = Turning.options(pool=pool).remote()
        neighbours = [Neighbour.options(pool=pool).remote() for _ in range(6)]
        end = time.monotonic() + 8
        while time.monotonic() < end:
            calls = [one.sleep.submit() for one in neighbours[:3]] + [
                one.compute.submit() for one in neighbours
            ]
            assert multipy.get([turning.turn.submit() for _ in range(10)]) == [True] * 10
            multipy.get(calls)


def test_an_autocast_type_is_its_own(pool):
    @multipy.remote
    class Half:
        def set(self):
            torch.set_autocast_dtype("cpu", torch.float16)

        def get(self):
            return str(torch.get_autocast_dtype("cpu"))

    first, second = (Half.options(pool=pool).remote() for _ in range(2))
    first.set()
    assert [second.get(), first.get(), Half.options(pool=pool).remote().get()] == [
        "torch.bfloat16",
        "torch.float16",
        "torch.bfloat16",
    ]
