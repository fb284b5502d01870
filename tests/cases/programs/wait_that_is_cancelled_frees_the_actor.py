"""A wait in asyncio that was given up once left the actor busy to the end of the call."""

import asyncio
import contextlib

import multipy_actors as multipy


@multipy.remote
class Worker:
    def work(self, endless):
        while endless:
            pass
        return "ok"


async def main():
    worker = Worker.remote()
    await worker.work.submit(False)
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(worker.work.submit(True), 0.3)
    assert await asyncio.wait_for(worker.work.submit(False), 60) == "ok"


if __name__ == "__main__":
    multipy.init(interpreters=1)
    asyncio.run(main())
