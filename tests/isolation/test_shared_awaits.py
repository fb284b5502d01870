"""Several tasks that wait for one future: who gives up takes the call from nobody."""

from __future__ import annotations

import asyncio

import numpy
import pytest

import multipy_actors as multipy

SECONDS = 60


def until_set(began, flag):
    """Say that it runs, and run until the flag is set."""
    began[0] = 1
    while not flag[0]:
        pass
    return "done"


WAYS = {
    "an await": lambda future: _awaits(future),
    "what asyncio wraps": asyncio.wrap_future,
    "a time limit": lambda future: asyncio.wait_for(future, SECONDS),
}


async def _awaits(future):
    return await future


async def _until(flag):
    """Let the tasks begin to wait, and the call to run."""
    for _ in range(10):
        await asyncio.sleep(0)
    while not flag[0]:
        await asyncio.sleep(0.001)


async def _begin(pool, *ways):
    """Have a call run that tasks wait for in these ways; return its future, the tasks and what ends it."""
    began, flag = numpy.zeros(1), numpy.zeros(1)
    future = pool.submit(until_set, began, flag)
    tasks = [asyncio.ensure_future(WAYS[way](future)) for way in ways]
    await _until(began)
    return future, tasks, flag


@pytest.mark.parametrize("other", WAYS)
@pytest.mark.parametrize("first", WAYS)
def test_who_gives_up_leaves_the_call_to_the_others(pool, first, other):
    async def main():
        _, tasks, flag = await _begin(pool, first, other)
        tasks[0].cancel()
        with pytest.raises(asyncio.CancelledError):
            await tasks[0]
        await asyncio.sleep(0.05)
        flag[0] = 1
        assert await asyncio.wait_for(tasks[1], SECONDS) == "done"

    asyncio.run(main())


@pytest.mark.parametrize("other", WAYS)
@pytest.mark.parametrize("first", WAYS)
def test_the_last_to_give_up_has_the_call_interrupted(pool, first, other):
    async def main():
        future, tasks, _ = await _begin(pool, first, other)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return future

    future = asyncio.run(main())
    assert isinstance(future.exception(SECONDS), multipy.Interrupted)
