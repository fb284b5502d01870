# requires: lmdb
# seconds: 300
# Interpreters and the host write to one LMDB environment at once and read it, each by its own copy of LMDB.
import os
import subprocess
import sys
import tempfile

import multipy_actors as multipy

TIMES = 200


class Writer:
    def __init__(self, path):
        import lmdb

        self.environment = lmdb.open(path, map_size=1 << 24, max_readers=20, sync=False)

    def count_up(self, times):
        for _ in range(times):
            with self.environment.begin(write=True) as transaction:
                transaction.put(b"n", str(int(transaction.get(b"n", b"0")) + 1).encode())
            with self.environment.begin() as transaction:
                transaction.get(b"n")
        return self.environment.stat()["entries"]

    def begin(self):
        self.transaction = self.environment.begin()
        return self.transaction.get(b"n")

    def readers(self):
        return self.environment.reader_check(), self.environment.readers()

    def read(self):
        return self.transaction.get(b"n")

    def close(self):
        self.environment.close()


with tempfile.TemporaryDirectory() as folder, multipy.Pool(3) as pool:
    path = os.path.join(folder, "environment")
    writers = [multipy.remote(Writer).options(pool=pool, interpreter=i).remote(path) for i in range(3)]
    calls = [writer.count_up.submit(TIMES) for writer in writers]
    for call in calls:
        assert call.result(200) == 1
    assert writers[0].begin() == str(3 * TIMES).encode()
    writers[1].begin()
    checked, readers = writers[2].readers()
    assert checked == 0, "the readers of living interpreters are not cleared away"
    assert len(readers.splitlines()) == 3, readers
    writers[1].close()
    assert len(writers[2].readers()[1].splitlines()) == 2, "only those of its own are cleared away"
    # Pages that a reader may look at are not used again.
    writers[2].count_up(TIMES)
    assert writers[0].read() == str(3 * TIMES).encode()
    code = (
        "import lmdb, sys; e = lmdb.open(sys.argv[1]); print(e.reader_check(), e.begin().get(b'n').decode())"
    )
    seen = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert seen.stdout.split() == ["0", str(4 * TIMES)], (seen.stdout, seen.stderr)
    writers[0].close()
    writers[2].close()
