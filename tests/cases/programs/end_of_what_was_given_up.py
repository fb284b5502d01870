# seconds: 300
# After a time limit or a kill, `shutdown` and the end of the process hung for ever where the code went on.
import asyncio
import atexit
import builtins
import concurrent.futures
import contextlib
import subprocess
import sys
import threading
import time

import multipy_actors as multipy


def forever():
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass


class Plain:
    def spin(self):
        forever()

    def block(self):
        import ctypes

        ctypes.CDLL(None).sleep(1000)

    def items(self):
        try:
            while True:
                yield 1
        finally:
            forever()

    def thread(self):
        threading.Thread(target=time.sleep, args=(1000,)).start()

    def executor(self):
        self.executor = concurrent.futures.ThreadPoolExecutor(1)
        self.executor.submit(time.sleep, 1000)

    def handler(self):
        atexit.register(forever)

    def module(self):
        class Kept:
            def __del__(self, forever=forever):
                forever()

        builtins.kept = Kept()


class SlowToBegin:
    def __init__(self):
        forever()

    def spin(self):
        pass


class SlowToGo:
    def spin(self):
        pass

    def __del__(self):
        forever()


class OnLoop:
    async def spin(self):
        forever()

    async def block(self):
        time.sleep(1000)

    async def items(self):
        try:
            while True:
                yield 1
        finally:
            forever()

    async def shielded(self):
        await asyncio.shield(asyncio.sleep(1000))

    async def background(self):
        self.task = asyncio.create_task(self.stubborn())

    async def in_thread(self):
        await asyncio.to_thread(time.sleep, 1000)

    async def stubborn(self):
        while True:
            with contextlib.suppress(BaseException):
                await asyncio.sleep(0.01)


def kinds(how):
    classes = [Plain, SlowToGo, OnLoop] + [SlowToBegin] * (how == "kill")  # time limits are of calls
    return [
        (cls, name)
        for cls in classes
        for name, member in vars(cls).items()
        if callable(member) and not name.startswith("__")
    ]


LIMIT = 60.0  # seconds that a loaded machine may take; each kind takes up to eight


def use(handle, name):
    try:
        if name == "items":
            stream = handle.items.stream()
            next(stream)
            stream.close()
        else:
            getattr(handle, name)()
    except (multipy.MultipyError, TimeoutError):
        pass


def end(pool, kind, slow):
    begun = time.monotonic()
    pool.shutdown()
    took = time.monotonic() - begun
    if took > LIMIT:
        slow.append(f"{kind}: {took}")


def main(how):
    all_kinds = kinds(how)
    pools = [multipy.Pool(1, name=f"{cls.__name__}.{name}") for cls, name in all_kinds]
    users = []
    for pool, (cls, name) in zip(pools, all_kinds, strict=True):
        options = {"timeout": 1.0} if how == "limit" else {}
        handle = multipy.remote(cls).options(pool=pool, **options).remote()
        user = threading.Thread(target=use, args=(handle, name), daemon=True)
        user.start()
        users.append((user, handle))
    del handle
    for user, handle in users:
        user.join(3.0)
        if how == "kill":
            multipy.kill(handle)
    del users, user, handle
    slow = []
    enders = [
        threading.Thread(target=end, args=(pool, kind, slow), daemon=True)
        for pool, kind in zip(pools, all_kinds, strict=True)
    ]
    for ender in enders:
        ender.start()
    for ender, kind in zip(enders, all_kinds, strict=True):
        ender.join(LIMIT)
        if ender.is_alive():
            slow.append(f"{kind}: hangs")
    sys.exit("\n".join(slow) or 0)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    for how in ("limit", "kill"):
        ended = subprocess.run(
            [sys.executable, "-X", "faulthandler", __file__, how], timeout=140, capture_output=True, text=True
        )
        assert ended.returncode == 0, f"{how}: {ended.returncode}\n{ended.stderr[-6000:]}"
