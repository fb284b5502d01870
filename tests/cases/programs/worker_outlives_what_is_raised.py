"""Whatever the user's code raises, and wherever: that call fails, and the next one runs."""

import asyncio
import sys

import multipy_actors as multipy


class Unprintable(BaseException):
    def __str__(self):
        raise Unprintable()


class RaisesInReduce(Exception):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind

    def __reduce__(self):
        raise self.kind("in reduce")


def raise_unprintable():
    raise Unprintable()


def raise_in_reduce(kind):
    raise RaisesInReduce(kind)


def raise_with_little_room(limit):
    sys.setrecursionlimit(limit)
    raise ValueError(limit)


def return_with_little_room(limit):
    sys.setrecursionlimit(limit)
    return [[[[{"deep": [[[[limit]]]]}]]]]


def error_of(future):
    error = future.exception(timeout=60)
    assert error is not None
    return error


with multipy.Pool(1) as pool:

    def goes_on():
        assert pool.submit(lambda: 2).result(timeout=60) == 2

    for _ in range(3):
        assert type(error_of(pool.submit(raise_unprintable))) in (Unprintable, multipy.RemoteError)
        goes_on()
    for kind in (asyncio.CancelledError, KeyboardInterrupt, GeneratorExit, SystemExit, Unprintable):
        assert error_of(pool.submit(raise_in_reduce, kind)).type_name.endswith("RaisesInReduce")
        goes_on()
    for limit in range(100, 5, -7):
        error = error_of(pool.submit(raise_with_little_room, limit))
        assert isinstance(error, ValueError) and error.args == (limit,), error
        goes_on()
        assert pool.submit(return_with_little_room, limit).result(timeout=60)[0][0][0][0]["deep"] == [
            [[[limit]]]
        ]
        goes_on()
