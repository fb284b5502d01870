"""What must work in two interpreters on 64-bit Arm; prints the processor, the page size and "smoke ok"."""

from __future__ import annotations

import mmap
import platform
import sys

import multipy_actors as multipy


def use_standard_library():
    import asyncio
    import ctypes
    import decimal
    import json
    import sqlite3
    import subprocess
    import threading

    seen = []
    threads = [threading.Thread(target=seen.append, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == [0, 1, 2, 3]
    assert sqlite3.connect(":memory:").execute("select 6 * 7").fetchone() == (42,)
    assert str(decimal.Decimal("0.1") * 3) == "0.3"
    assert asyncio.run(asyncio.sleep(0, json.loads("[1]"))) == [1]
    assert subprocess.run(["echo", "hi"], capture_output=True).stdout == b"hi\n"
    return ctypes.cast(ctypes.pythonapi.Py_IsInitialized, ctypes.c_void_p).value


def use_a_module_of_c():
    import msgpack._cmsgpack

    return msgpack._cmsgpack.Packer().pack([1, "two", 3.0])


class Counter:
    def __init__(self):
        self.count = 0

    def add(self, amount):
        self.count += amount
        return self.count


def main():
    """Use pools, calls and actors from the host and in two interpreters at once."""
    with multipy.Pool(2) as pool:
        assert multipy.get(pool.broadcast(lambda: sys.version_info[:3])) == [sys.version_info[:3]] * 2
        addresses = multipy.get(pool.broadcast(use_standard_library))
        assert len({use_standard_library(), *addresses}) == 3
        assert len({use_a_module_of_c(), *multipy.get(pool.broadcast(use_a_module_of_c))}) == 1
        private = {image.path for image in pool.images()[0] if image.private}
        assert any("libpython" in path for path in private), private
        assert any("_cmsgpack" in path for path in private), private
        counter = multipy.remote(Counter).options(pool=pool).remote()
        assert [counter.add.submit(amount).result() for amount in (1, 2, 3)] == [1, 3, 6]
        assert sorted(pool.map(lambda value: value * value, range(20))) == [n * n for n in range(20)]
        try:
            pool.submit(lambda: 1 // 0).result()
        except ZeroDivisionError as error:
            assert isinstance(error.__cause__, multipy.RemoteTraceback)
        else:
            raise AssertionError("an exception was lost")


if __name__ == "__main__":
    main()
    print(f"{platform.machine()}, pages of {mmap.PAGESIZE} bytes: smoke ok")
