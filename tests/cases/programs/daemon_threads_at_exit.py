# seconds: 600
# Daemon threads of the host that were inside the library when Python ended were unwound by force, through
# functions that let nothing out: std::terminate. They sleep instead.
import os
import subprocess
import sys

ROUNDS = 2
HERE = os.path.dirname(__file__)  # not where the package lies that is not installed

PREAMBLE = """
import asyncio, threading, time
import multipy_actors as multipy

pool = multipy.Pool(2)

@multipy.remote
class Actor:
    def echo(self, value):
        return value
    def numbers(self):
        yield from range(10**9)
    async def wait(self):
        await asyncio.sleep(0.001)

actor = Actor.options(pool=pool, max_pending=2).remote()
actor.echo(1)

def forever(function):
    def run():
        while True:
            try:
                function()
            except BaseException:
                time.sleep(0)
    for _ in range(8):
        threading.Thread(target=run, daemon=True).start()
    time.sleep(0.2)
"""

WAYS = {
    "results": "forever(lambda: pool.submit(abs, -1).result())",
    "waits": "forever(lambda: pool.submit(time.sleep, 0.001).result())",
    "callbacks": "forever(lambda: pool.submit(abs, -1).add_done_callback(lambda future: None))",
    "values": "forever(lambda: actor.echo({'a': [1, (2, 3)], 'b': {4, lambda: 5}}))",
    "full mailboxes": "forever(lambda: actor.echo.submit(None))",
    "actors": "forever(lambda: Actor.options(pool=pool).remote().echo(2))",
    "streams": "forever(lambda: next(actor.numbers.stream()))",
    "awaits": """
async def wait():
    await actor.wait.submit()
forever(lambda: asyncio.run(wait()))
""",
    "a shutdown": """
future = pool.submit(time.sleep, 60)
threading.Thread(target=pool.shutdown, daemon=True).start()
time.sleep(0.2)
""",
    "calls that are left behind": """
import ctypes
for _ in range(8):
    threading.Thread(target=lambda: pool.submit(ctypes.CDLL(None).sleep, 60).result(), daemon=True).start()
time.sleep(0.2)
""",
    "a long end of Python": """
class Slow:
    def __del__(self, sleep=time.sleep):
        sleep(0.3)
keep = Slow()
forever(lambda: pool.submit(time.sleep, 0.1).result())
""",
}

if __name__ == "__main__":
    failed = []
    for way, source in WAYS.items():
        for _ in range(ROUNDS):
            command = [sys.executable, "-X", "faulthandler", "-c", PREAMBLE + source]
            ended = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=120)
            if ended.returncode != 0:
                failed.append(f"{way}: {ended.returncode}\n{ended.stderr[-2000:]}")
    sys.exit("\n".join(failed) or 0)
