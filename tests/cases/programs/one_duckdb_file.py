# requires: duckdb
# Two interpreters append to one DuckDB file: while one has it open the other is refused, as a process would
# be, and every row is there in the end.
import os
import subprocess
import sys
import tempfile

import duckdb

import multipy_actors as multipy


def refused(path):
    import duckdb

    try:
        duckdb.connect(path).close()
    except duckdb.IOException:
        return True
    return False


def append(path, first):
    import time

    import duckdb

    while True:
        try:
            database = duckdb.connect(path)
            break
        except duckdb.IOException:
            time.sleep(0.01)
    database.execute("create table if not exists orders(n integer)")
    for n in range(first, first + 20):
        database.execute("insert into orders values (?)", [n])
    database.close()


with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "orders.duckdb")
    with multipy.Pool(2) as pool:
        for future in [pool.submit(append, path, first) for first in (0, 100, 200, 300)]:
            future.result(100)
        database = duckdb.connect(path)
        database.execute("insert into orders values (1000)")
        # A refused opener has closed descriptors of the file, which must not end the host's lock nor add up.
        before = len(os.listdir("/proc/self/fd"))
        assert all(pool.submit(refused, path).result(60) for _ in range(40))
        assert len(os.listdir("/proc/self/fd")) < before + 10
        database.close()
        assert not pool.submit(refused, path).result(60)
    query = "select count(distinct n) from orders"
    count = f"import duckdb, sys; print(duckdb.connect(sys.argv[1]).execute({query!r}).fetchone()[0])"
    seen = subprocess.run([sys.executable, "-c", count, path], capture_output=True, text=True)
    assert seen.stdout.strip() == "81", (seen.stdout, seen.stderr)
