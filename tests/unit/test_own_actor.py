"""Actors that hold handles of their own."""

from __future__ import annotations

import os
import select
import time

import pytest

import multipy_actors as multipy


class Keeper:
    """Keeps a handle of its own, however it comes by it."""

    def __init__(self, writer, name=None):
        self.writer = writer
        self.own = None if name is None else multipy.get_actor(name)

    def keep(self, own):
        self.own = own
        return os.getpid()

    def find(self, name):
        self.own = multipy.get_actor(name)

    def fetch(self, holder):
        self.own = holder.get()

    def own_number(self):
        return self.own.number()

    def submit_own(self):
        return self.own.number.submit()

    def number(self):
        return 7

    def hand_out(self):
        return self.own

    def state(self):
        return repr(self.own), hash(self.own) == hash(self.own), self.own == self.own, self.own.replicas

    def __del__(self):
        os.write(self.writer, b"gone")


class Holder:
    def put(self, value):
        self.value = value

    def get(self):
        return self.value


def is_gone(reader):
    ready, _, _ = select.select([reader], [], [], 60)
    return bool(ready) and os.read(reader, 100) == b"gone"


@pytest.mark.parametrize("way", ["argument", "name", "value", "pinned"])
@pytest.mark.parametrize("inline", [False, True])
def test_an_actor_that_holds_its_own_handle_goes_with_the_last_other_one(way, inline):
    reader, writer = os.pipe()
    with multipy.Pool(2, inline=inline) as pool:
        keeper = multipy.remote(Keeper).options(pool=pool, name="keeper").remote(writer)
        if way == "argument":
            keeper.keep(keeper)
        elif way == "name":
            keeper.find("keeper")
        elif way == "pinned":
            keeper.keep(keeper.on(keeper.interpreters[0]))
        else:
            other = 1 - keeper.interpreters[0].id
            holder = multipy.remote(Holder).options(pool=pool, interpreter=other).remote()
            holder.put(keeper)
            keeper.fetch(holder)
            holder.put(None)
        assert keeper.submit_own().result(timeout=60) == 7
        text, *rest, replicas = keeper.state()
        assert "alive" in text and rest == [True, True] and replicas == 1
        again = keeper.hand_out()
        assert again == keeper.on(keeper.interpreters[0]) if way == "pinned" else again == keeper
        del keeper
        assert again.number() == 7
        del again
        assert is_gone(reader)
        if way == "value":
            multipy.kill(holder)
    os.close(reader)
    os.close(writer)


def test_what_an_actor_hands_out_of_its_own_handle_keeps_it(pool):
    reader, writer = os.pipe()
    keeper = multipy.remote(Keeper).options(pool=pool).remote(writer)
    holder = multipy.remote(Holder).options(pool=pool).remote()
    keeper.keep(keeper)
    holder.put(keeper.hand_out())
    del keeper
    assert holder.get().number() == 7
    assert not select.select([reader], [], [], 0)[0]
    holder.put(None)
    assert is_gone(reader)
    os.close(reader)
    os.close(writer)


class Last(Keeper):
    def outlive(self, gone):
        """Wait until nobody else holds a handle, and use the own one."""
        while not self.own._actor.closed:
            time.sleep(0.01)
        with open(gone, "wb") as file:
            try:
                self.own.number()
            except multipy.ActorClosedError as error:
                file.write(f"{error}".encode())

    def __del__(self):
        pass


def test_its_own_handle_is_closed_when_nobody_else_has_one(pool, tmp_path):
    path = tmp_path / "told"
    os.mkfifo(path)
    last = multipy.remote(Last).options(pool=pool).remote(0)
    last.keep(last)
    last.outlive.submit(str(path))
    del last
    assert "nobody but itself held a handle of it" in path.read_text()


class Ticking:
    def __init__(self, writer):
        self.writer = writer

    async def keep(self, own):
        self.own = own
        return await own.number.submit()

    async def number(self):
        return 7

    def __del__(self):
        os.write(self.writer, b"gone")


def test_an_actor_with_coroutines_that_holds_its_own_handle_goes_as_well(pool):
    reader, writer = os.pipe()
    ticking = multipy.remote(Ticking).options(pool=pool).remote(writer)
    assert ticking.keep(ticking) == 7
    del ticking
    assert is_gone(reader)
    os.close(reader)
    os.close(writer)
