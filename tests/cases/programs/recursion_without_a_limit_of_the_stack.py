# Under `ulimit -s unlimited`, as on many clusters, endless recursion through C is a RecursionError.
import subprocess
import sys
import tempfile

PROGRAM = """
import multipy_actors as multipy

def endless(x):
    return sorted([x], key=endless)

@multipy.remote
class Endless:
    def plain(self):
        return endless(1)
    async def coroutine(self):
        return endless(1)

with multipy.Pool(1) as pool:
    plain, coroutine = Endless.options(pool=pool).remote(), Endless.options(pool=pool).remote()
    for ask in (lambda: pool.submit(endless, 1), plain.plain.submit, coroutine.coroutine.submit):
        try:
            ask().result()
        except RecursionError:
            print("RecursionError")
"""
with tempfile.TemporaryDirectory() as folder:
    with open(folder + "/program.py", "w") as file:
        file.write(PROGRAM)
    command = ["sh", "-c", 'ulimit -s unlimited; exec "$0" "$1"', sys.executable, folder + "/program.py"]
    run = subprocess.run(command, capture_output=True, text=True)
assert (run.returncode, run.stdout) == (0, "RecursionError\n" * 3), (run.returncode, run.stdout, run.stderr)
