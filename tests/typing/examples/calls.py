"""What mypy and pyright must make of pools, functions and futures. Checked by test_checkers.py, never run.

An `ignore` comment says that its line is an error: both checkers report those that are not needed.
"""

import concurrent.futures
from collections.abc import Iterator
from typing import Any

from typing_extensions import assert_type

import multipy_actors as multipy


def repeat(text: str, times: int = 2) -> list[str]:
    return [text] * times


@multipy.remote
def measure(text: str) -> int:
    return len(text)


# Pools -----------------------------------------------------------------------------------------------------

pool = multipy.Pool(2, preload=["numpy"], intra_op_threads="auto", env=multipy.PathEnvironment("packages"))
executor: concurrent.futures.Executor = pool
assert_type(multipy.init(interpreters=2, intra_op_threads=1), multipy.Pool)
assert_type(pool.submit(repeat, "a"), multipy.Future[list[str]])
assert_type(pool.submit(repeat, "a", times=3).result(), list[str])
assert_type(pool.broadcast(repeat, "a"), list[multipy.Future[list[str]]])
assert_type(pool.map(repeat, ["a", "b"]), Iterator[list[str]])
assert_type(pool.interpreters[0].submit(repeat, "a"), multipy.Future[list[str]])
assert_type(multipy.current_interpreter(), multipy.Interpreter | None)
with pool as entered:
    assert_type(entered, multipy.Pool)

pool.submit(repeat, 3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
pool.submit(repeat)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
pool.broadcast(repeat, "a", count=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
pool.interpreters[0].submit(repeat, 3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
multipy.init(interpreter=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
multipy.Pool(intra_op_threads="all")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

# Functions -------------------------------------------------------------------------------------------------

assert_type(measure("text"), int)
assert_type(measure.submit("text"), multipy.Future[int])
assert_type(measure.options(interpreter=0, pool=pool).submit("text"), multipy.Future[int])
assert_type(measure.map(["text", "more"]), Iterator[int])

measure.submit(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
measure.options(replicas=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]

# Futures ---------------------------------------------------------------------------------------------------

future = measure.submit("text")
base: concurrent.futures.Future[int] = future
assert_type(future.result(timeout=1), int)
assert_type(future.exception(), BaseException | None)
assert_type(future.cancel(interrupt=True), bool)
assert_type(multipy.get(future), int)
assert_type(multipy.get([future, future], timeout=1), list[int])
done, rest = multipy.wait([future, future], num_returns=1)
assert_type(multipy.get(done), list[int])
for ended in concurrent.futures.as_completed([future]):
    assert_type(ended.result(), int)


def called_back(ended: multipy.Future[int]) -> None:
    assert_type(ended.result(), int)


future.add_done_callback(called_back)


async def awaited() -> None:
    assert_type(await future, int)


assert_type(multipy.copied(repeat("a")), list[str])

# Packages and sessions -------------------------------------------------------------------------------------

with pool.load_package("model.pt") as package, open("model.pt", "rb") as file:
    assert_type(package, multipy.Package)
    assert_type(pool.load_package(file), multipy.Package)
    assert_type(package.load_pickle("model", "model.pkl", eager=True), multipy.ReplicatedObj[Any])
    assert_type(package.load_text("model", "licence.txt"), str)
    assert_type(package.load_binary("model", "bytes.bin"), bytes)
    assert_type(package.acquire(timeout=1), multipy.Session)
with pool.acquire(timeout=1) as session, pool.interpreters[0].acquire():
    assert_type(session, multipy.Session)
    assert_type(session.global_("torch.nn", "Linear")(2, 2, bias=False).attr("weight"), multipy.Obj)
    assert_type(session.from_value([1]).hasattr("append"), bool)
    assert_type(session.create_movable(session.from_value([1])), multipy.ReplicatedObj[Any])

pool.load_package(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
session.create_movable([1])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
