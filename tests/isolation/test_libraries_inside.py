"""What people use works inside as it does in the host: ctypes, threads, asyncio, processes and more."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading

import numpy
import pytest

import multipy_actors as multipy


def everywhere(pool, function, *args):
    """Return what `function` returns here, having checked that it returns the same in both interpreters."""
    here = function(*args)
    for there in multipy.get(pool.broadcast(function, *args)):
        assert there == here
    return here


# The standard library --------------------------------------------------------------------------------------


def use_sqlite(path):
    import sqlite3

    connection = sqlite3.connect(path)
    connection.create_function("twice", 1, lambda x: 2 * x)
    with connection:
        connection.execute("create table t (x)")
        connection.executemany("insert into t values (?)", [(i,) for i in range(10)])
    total = connection.execute("select sum(twice(x)) from t").fetchone()
    connection.close()
    return total


def files_of_frozen_modules():
    import importlib
    import inspect

    names = "abc codecs io os os.path genericpath stat site zipimport _collections_abc _sitebuiltins"
    modules = [
        importlib.import_module(name) for name in (*names.split(), "runpy", "ntpath", "importlib.util")
    ]
    told = [
        (module.__name__, getattr(module, "__file__", None), str(module.__spec__), repr(module))
        for module in modules
    ]
    return told, inspect.getsourcefile(os), inspect.getsource(os), getattr(sys, "_stdlib_dir", None)


def use_ssl():
    import hashlib
    import ssl

    context = ssl.create_default_context()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    session = context.wrap_bio(incoming, outgoing, server_hostname="example.org")
    with pytest.raises(ssl.SSLWantReadError):
        session.do_handshake()
    return hashlib.sha256(b"x").hexdigest(), outgoing.read(1), ssl.OPENSSL_VERSION


def use_numbers():
    import decimal
    import fractions
    import json
    import math

    decimal.getcontext().prec = 50
    value = decimal.Decimal(2).sqrt()
    text = json.dumps({"a": [1, 2.5, None, True, "ü"]}, sort_keys=True)
    return str(value), text, json.loads(text), math.sin(0.5), str(fractions.Fraction(1, 3) + 1)


def use_text():
    import datetime
    import re
    import struct
    import unicodedata
    import zlib

    found = re.findall(r"(\w+)=(\d+)", "a=1 b=22")
    day = datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc).isoformat()
    packed = struct.pack("<id", 1, 2.0)
    return found, day, packed, zlib.decompress(zlib.compress(b"x" * 1000)), unicodedata.name("ü")


def use_asyncio():
    import asyncio

    async def double(x):
        await asyncio.sleep(0)
        return 2 * x

    async def main():
        server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        end = await reader.read()
        writer.close()
        server.close()
        process = await asyncio.create_subprocess_exec("echo", "hi", stdout=asyncio.subprocess.PIPE)
        output, _ = await process.communicate()
        return await asyncio.gather(*map(double, range(5))), end, output

    return asyncio.run(main())


def use_subprocess():
    echo = subprocess.run(["cat"], input="hello", capture_output=True, text=True, check=True).stdout
    version = subprocess.run([sys.executable, "-c", "print(6 * 7)"], capture_output=True, text=True).stdout
    with os.popen("echo popen") as stream:
        return echo, version, stream.read()


def use_executors():
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as executor:
        return list(executor.map(pow, range(10), [2] * 10))


def use_numpy():
    matrix = numpy.arange(9.0).reshape(3, 3) + 3 * numpy.eye(3)
    inverse = numpy.linalg.inv(matrix)
    values, _ = numpy.linalg.eigh(matrix + matrix.T)
    left, _, _ = numpy.linalg.svd(matrix)
    return inverse.tolist(), values.tolist(), left.tolist(), numpy.fft.fft(values).tolist()


@pytest.mark.parametrize(
    "use", [use_ssl, use_numbers, use_text, use_asyncio, use_subprocess, use_executors, use_numpy]
)
def test_it_works_inside_as_in_the_host(pool, use):
    everywhere(pool, use)


def test_modules_that_are_frozen_into_python_know_which_files_they_are_from(pool):
    _, source, text, folder = everywhere(pool, files_of_frozen_modules)
    assert source == os.__file__ and "def makedirs(" in text
    assert folder in (None, os.path.dirname(os.__file__))


def test_sqlite_works_in_memory_and_on_disk(pool, tmp_path):
    assert everywhere(pool, use_sqlite, ":memory:") == (90,)
    assert pool.submit(use_sqlite, str(tmp_path / "db")).result() == (90,)


def test_numpy_computes_in_both_interpreters_at_once(pool):
    matrix = numpy.random.default_rng(0).random((150, 150))
    expected = numpy.linalg.inv(matrix)

    def invert(matrix):
        return [numpy.linalg.inv(matrix) for _ in range(20)]

    for inverses in multipy.get(pool.broadcast(invert, matrix)):
        for inverse in inverses:
            numpy.testing.assert_allclose(inverse, expected, rtol=1e-6, atol=1e-8)


# Threads ---------------------------------------------------------------------------------------------------


def use_threads(count):
    local = threading.local()
    lock, seen = threading.Lock(), []

    def run(number):
        local.value = number
        total = sum(range(1000))
        with lock:
            seen.append((local.value, total))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(seen)


def test_threads_started_inside_work(pool):
    assert len(everywhere(pool, use_threads, 16)) == 16


def test_a_thread_started_inside_runs_between_calls(pool):
    reader, writer = os.pipe()

    def start(reader):
        def wait():
            os.read(reader, 1)
            sys.marker = "done"

        sys.marker = "waiting"
        sys.thread = threading.Thread(target=wait)
        sys.thread.start()

    interpreter = pool.interpreters[0]
    interpreter.submit(start, reader).result()
    assert interpreter.submit(lambda: sys.marker).result() == "waiting"
    os.write(writer, b"x")
    interpreter.submit(lambda: sys.thread.join()).result()
    assert interpreter.submit(lambda: sys.marker).result() == "done"
    os.close(reader)
    os.close(writer)


def test_a_thread_started_inside_loads_libraries_into_its_interpreter(pool):
    def load():
        import importlib

        failures = []

        def run():
            try:
                for name in ("_decimal", "_sqlite3", "_ctypes_test", "_testcapi", "numpy.linalg"):
                    if importlib.util.find_spec(name):
                        importlib.import_module(name)
            except BaseException as error:
                failures.append(repr(error))

        import importlib.util

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        return failures

    with multipy.Pool(2) as fresh:
        assert multipy.get(fresh.broadcast(load)) == [[], []]


# Processes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_multiprocessing_works_inside(run_script, method):
    # In a process of its own: children of pytest's would import the test's main module.
    run_script(
        f"""
        import multiprocessing
        import multipy_actors as multipy

        def work():
            with multiprocessing.get_context({method!r}).Pool(2) as processes:
                return processes.map(abs, range(-10, 0))

        if __name__ == "__main__":
            with multipy.Pool(1) as pool:
                assert pool.submit(work).result() == list(range(10, 0, -1))
        """,
        timeout=60,
    )


def test_an_interpreter_can_fork(pool):
    def fork():
        child = os.fork()
        if child == 0:
            os._exit(int(str(6 * 7)))
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert multipy.get(pool.broadcast(fork)) == [42, 42]


def test_a_child_process_can_be_terminated(pool):
    def terminate():
        child = subprocess.Popen(["sleep", "1000"])
        child.terminate()
        try:
            return child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
            return child.wait()

    assert pool.submit(terminate).result() == -signal.SIGTERM


def test_an_interpreter_can_have_a_pool_of_its_own(pool):
    def nested(array):
        with multipy.Pool(1) as inner:
            return inner.submit(numpy.multiply, array, 2).result()

    for doubled in multipy.get(pool.broadcast(nested, numpy.arange(3))):
        assert doubled.tolist() == [0, 2, 4]


# ctypes ----------------------------------------------------------------------------------------------------


def test_pythonapi_acts_on_the_interpreter_that_calls_it(pool):
    def probe():
        api = ctypes.pythonapi
        api.PyLong_FromLong.restype = ctypes.py_object
        api.PyImport_GetModuleDict.restype = ctypes.py_object
        made = api.PyLong_FromLong(ctypes.c_long(12345678901))
        return made, api.PyImport_GetModuleDict() is sys.modules, api.Py_IsInitialized()

    everywhere(pool, probe)

    def address():
        return ctypes.cast(ctypes.pythonapi.Py_IsInitialized, ctypes.c_void_p).value

    assert len({address(), *multipy.get(pool.broadcast(address))}) == 3


def test_callbacks_from_c_run_in_the_interpreter_that_gave_them(pool):
    def sort():
        values = (ctypes.c_int * 6)(5, 1, 4, 2, 6, 3)
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
        libc = ctypes.CDLL(None)
        libc.qsort(values, len(values), ctypes.sizeof(ctypes.c_int), kind(lambda a, b: a[0] - b[0]))
        return list(values)

    assert everywhere(pool, sort) == [1, 2, 3, 4, 5, 6]


def test_errno_is_kept_by_ctypes(pool):
    def fail():
        libc = ctypes.CDLL(None, use_errno=True)
        return libc.open(b"/no/such/file", 0), ctypes.get_errno()

    assert everywhere(pool, fail) == (-1, 2)


def test_a_missing_library_or_symbol_is_an_error_of_python(pool):
    with pytest.raises(OSError, match="no_such_library"):
        pool.submit(ctypes.CDLL, "no_such_library.so").result()
    with pytest.raises(AttributeError, match="no_such_symbol"):
        pool.submit(lambda: ctypes.CDLL(None).no_such_symbol).result()
    assert pool.submit(abs, -1).result() == 1
