# A counter in a file, guarded by fcntl.lockf, counted up by interpreters and a process at once.
import fcntl
import inspect
import os
import subprocess
import sys
import tempfile

import multipy_actors as multipy


def count_up(path, times):
    import fcntl

    for _ in range(times):
        with open(path, "r+") as file:
            fcntl.lockf(file, fcntl.LOCK_EX)
            count = int(file.read())
            file.seek(0)
            file.write(str(count + 1))
    return times


with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "count")
    with open(path, "w") as file:
        file.write("0")
    code = inspect.getsource(count_up) + "import sys; count_up(sys.argv[1], 300)"
    with multipy.Pool(3) as pool, subprocess.Popen([sys.executable, "-c", code, path]) as process:
        calls = [pool.submit(count_up, path, 300) for _ in range(3)]
        assert [call.result(100) for call in calls] == [300] * 3
        assert process.wait(100) == 0
    with open(path) as file:
        fcntl.lockf(file, fcntl.LOCK_SH)
        count = int(file.read())
    assert count == 1200, count
