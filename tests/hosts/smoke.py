"""What must work in every host: `smoke.py PACKAGES IMPORT_FIRST PRELOADED`; prints "smoke ok".

PACKAGES and IMPORT_FIRST are comma-separated: what the interpreters use, and what the host imports before the
pool. PRELOADED is part of the file name of a library that must be in the process, or empty.
"""

from __future__ import annotations

import ctypes
import importlib
import subprocess
import sys

import multipy_actors as multipy


def use_standard_library():
    import asyncio
    import decimal
    import json
    import sqlite3
    import ssl
    import threading

    seen = []
    threads = [threading.Thread(target=seen.append, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == [0, 1, 2, 3]
    assert sqlite3.connect(":memory:").execute("select 6 * 7").fetchone() == (42,)
    assert str(decimal.Decimal("0.1") * 3) == "0.3" and ssl.create_default_context()
    assert asyncio.run(asyncio.sleep(0, json.loads("[1]"))) == [1]
    assert subprocess.run(["echo", "hi"], capture_output=True).stdout == b"hi\n"
    return ctypes.cast(ctypes.pythonapi.Py_IsInitialized, ctypes.c_void_p).value


def use_numpy():
    import numpy

    matrix = numpy.random.default_rng(0).random((50, 50)) + 50 * numpy.eye(50)
    assert numpy.allclose(numpy.linalg.inv(matrix) @ matrix, numpy.eye(50))


def use_msgpack():
    import msgpack._cmsgpack

    assert msgpack._cmsgpack.Packer().pack([1, "two"]) == b"\x92\x01\xa3two"


def use_torch():
    import torch

    weights = torch.ones(3, requires_grad=True)
    (weights * torch.arange(3.0)).sum().backward()
    assert weights.grad.tolist() == [0, 1, 2]
    try:
        torch.ones(2) @ torch.ones(3)
    except RuntimeError:
        return
    raise AssertionError("an exception of C++ was lost")


def fill(array):
    array[:] = 7


class Counter:
    def __init__(self):
        self.count = 0

    def add(self, amount):
        self.count += amount
        return self.count


USES = {"msgpack": use_msgpack, "numpy": use_numpy, "torch": use_torch}


def main(packages, preloaded):
    """Try everything from the host and in two interpreters at once."""
    if preloaded:
        with open("/proc/self/maps") as maps:
            assert preloaded in maps.read(), f"{preloaded} was not preloaded"
    with multipy.Pool(2) as pool:
        assert multipy.get(pool.broadcast(lambda: sys.version_info[:2])) == [sys.version_info[:2]] * 2
        addresses = multipy.get(pool.broadcast(use_standard_library))
        assert len({use_standard_library(), *addresses}) == 3
        for package in packages:
            calls = pool.broadcast(USES[package])
            USES[package]()
            multipy.get(calls)
        private = [image.path for image in pool.images()[0] if image.private]
        assert all(any(name in path for path in private) for name in ("libpython", *packages)), private
        counter = multipy.remote(Counter).options(pool=pool).remote()
        assert [counter.add.submit(amount).result() for amount in (1, 2, 3)] == [1, 3, 6]
        assert list(pool.map(abs, range(-20, 0))) == list(range(20, 0, -1))
        if "numpy" in packages:
            import numpy

            array = numpy.zeros(1000)
            pool.submit(fill, array).result()
            assert (array == 7).all()
        try:
            pool.submit(lambda: 1 // 0).result()
        except ZeroDivisionError as error:
            assert isinstance(error.__cause__, multipy.RemoteTraceback)
        else:
            raise AssertionError("an exception was lost")
        assert multipy.get(pool.broadcast(sum, range(10))) == [45, 45]


if __name__ == "__main__":
    packages, import_first = (argument.split(",") if argument else [] for argument in sys.argv[1:3])
    for name in import_first:
        importlib.import_module(name)
    main(packages, sys.argv[3])
    print("smoke ok")
