# seconds: 300
# Interpreters, the host and a process write to one SQLite file at once, in both kinds of journal, by all
# copies of SQLite that are installed; an interpreter reads the file as bytes meanwhile. All rows are there.
import importlib.util
import inspect
import os
import sqlite3
import subprocess
import sys
import tempfile

import multipy_actors as multipy

ROWS = 150


def write(path, module, who, rows):
    import importlib

    sqlite = importlib.import_module(module)
    for first in range(0, rows, 10):
        connection = sqlite.Connection(path)
        cursor = connection.cursor()
        cursor.execute("pragma busy_timeout = 100000")
        cursor.execute("pragma synchronous = off")
        for n in range(first, first + 10):
            cursor.execute("begin immediate")
            cursor.execute("insert into entries values (?, ?)", (who, n))
            cursor.execute("update total set n = (select n from total) + 1")
            cursor.execute("commit")
        connection.close()


def read_as_bytes(path, times):
    for _ in range(times):
        with open(path, "rb") as file:
            file.read(4096)


def try_out(module, journal, folder, pool):
    path = os.path.join(folder, f"{module}_{journal}.sqlite")
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"pragma journal_mode = {journal}")
    connection.execute("create table entries(who text, n integer)")
    connection.execute("create table total(n integer)")
    connection.execute("insert into total values (0)")
    connection.close()
    calls = [pool.submit(write, path, module, f"interpreter {i}", ROWS) for i in range(2)]
    calls.append(pool.submit(read_as_bytes, path, 500))
    code = inspect.getsource(write) + f"write({path!r}, 'sqlite3', 'process', {ROWS})"
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        write(path, "sqlite3", "host", ROWS)
        for call in calls:
            call.result(200)
    assert process.returncode == 0
    connection = sqlite3.connect(path)
    assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
    counts = dict(connection.execute("select who, count(distinct n) from entries group by who"))
    assert counts == dict.fromkeys(["host", "process", "interpreter 0", "interpreter 1"], ROWS), counts
    assert connection.execute("select n from total").fetchone() == (4 * ROWS,)
    connection.close()


with tempfile.TemporaryDirectory() as folder, multipy.Pool(3) as pool:
    for module in filter(importlib.util.find_spec, ["sqlite3", "apsw", "pysqlite3"]):
        for journal in ("delete", "wal"):
            try_out(module, journal, folder, pool)
