"""Actors whose methods are generators, asynchronous or not, and how these report to a test."""

import asyncio
import os

import numpy as np

import multipy_actors as multipy


class Marks:
    """What a generator in an interpreter reports to the test, through a pipe."""

    def __init__(self):
        self._ends = os.pipe()

    def make(self, mark):
        os.write(self._ends[1], mark.encode())

    def next(self):
        return os.read(self._ends[0], 1).decode()


@multipy.remote
class Source:
    """Generators of both kinds; with any of the asynchronous ones, everything runs on a loop."""

    def count(self, n=None):
        self.made = 0
        while n is None or self.made < n:
            self.made += 1
            yield self.made - 1

    def how_many(self):
        return self.made

    def watched(self, marks, n=10**9):
        try:
            yield from range(n)
        finally:
            marks.make("f")

    def in_steps(self, gates):
        for i, gate in enumerate(gates):
            yield (i, "first")
            yield (i, "second")
            yield (i, "third")
            yield (i, "fourth")
            gate.stop()

    def fail_after(self, n):
        yield from range(n)
        raise ValueError("after the items")

    def fail_further_on(self, marks):
        yield 0
        yield 1
        marks.make("f")
        raise ValueError("further on")

    def fail_at_end(self):
        try:
            yield from range(10**9)
        finally:
            raise LookupError("in finally")

    def same_list(self, n):
        items = []
        for i in range(n):
            items.append(i)
            yield items

    def unsendable_third(self):
        yield 1
        yield 2
        yield (item for item in ())

    def arrays(self):
        self.kept = np.zeros(3)
        for _ in range(3):
            yield self.kept

    def touched(self):
        return self.kept.tolist()

    def spin(self, gate):
        yield 1
        gate.report()
        while True:
            pass

    def returns(self):
        yield 1
        return 2

    def letters(self, letters):
        yield from letters

    def nothing(self):
        return
        yield

    def plain(self):
        return 1

    @property
    def state(self):
        return 1


@multipy.remote
class AsyncSource:
    def __init__(self):
        self.opened = asyncio.Event()

    async def count(self, n=None):
        self.made = 0
        while n is None or self.made < n:
            self.made += 1
            yield self.made - 1

    def how_many(self):
        return self.made

    async def watched(self, marks, n=10**9):
        try:
            for i in range(n):
                yield i
        finally:
            await asyncio.sleep(0)
            marks.make("f")

    async def in_steps(self, gates):
        for i, gate in enumerate(gates):
            yield (i, "first")
            yield (i, "second")
            yield (i, "third")
            yield (i, "fourth")
            await asyncio.to_thread(gate.stop)

    async def fail_after(self, n):
        for i in range(n):
            yield i
        raise ValueError("after the items")

    async def fail_further_on(self, marks):
        yield 0
        yield 1
        marks.make("f")
        raise ValueError("further on")

    async def fail_at_end(self):
        try:
            for i in range(10**9):
                yield i
        finally:
            raise LookupError("in finally")

    async def same_list(self, n):
        items = []
        for i in range(n):
            items.append(i)
            yield items

    async def unsendable_third(self):
        yield 1
        yield 2
        yield (item for item in ())

    async def one_task(self):
        for _ in range(3):
            yield id(asyncio.current_task())
            await asyncio.sleep(0)

    async def wait(self, marks):
        try:
            yield 1
            marks.make("w")
            await self.opened.wait()
        except asyncio.CancelledError:
            marks.make("c")
            raise

    def open(self):
        self.opened.set()

    def plain_generator(self, n):
        yield from range(n)

    async def coroutine(self):
        return 1

    async def read_another(self, source, n):
        return [item async for item in source.count.stream(n)]
