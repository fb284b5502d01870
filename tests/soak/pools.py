"""Operations of the soak: pools made and closed meanwhile, forked children, logging, programs."""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import CancelledError
from random import Random

import workers
from world import PATIENCE, World, check, operation, raised

import multipy_actors as multipy

# The libraries of ended interpreters stay. So each thread makes so many here, the others in children.
MOST_ENDED = 8
FORKS = os.environ.get("FORKS") != "0"


class Collected(logging.Handler):
    """Has the numbers that were logged, each as often as it was."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers: list[int] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.numbers.append(int(record.getMessage().rpartition(" ")[2]))


collected = Collected()


@operation(0.3)
def pools(world: World, drawn: Random) -> None:
    """A pool is made, used and closed, in one of the ways there are."""
    count, end = (
        drawn.randint(1, 2),
        drawn.choice(["with", "shutdown", "cancel", "interrupt", "error", "nowait"]),
    )
    in_child_or_here(world, drawn.random() < 0.7, count, lambda: made_and_closed(count, end))


def made_and_closed(count: int, end: str) -> None:
    pool = multipy.Pool(count, initializer=setattr, initargs=(workers, "made", end))
    actor = workers.Actor.options(pool=pool).remote(3)
    check(4, actor.add(1))
    check([end] * count, multipy.get(pool.broadcast(getattr, workers, "made"), timeout=PATIENCE))
    calls = [pool.submit(workers.answer, i) for i in range(5)]
    if end == "with":
        with pool:
            pass
    elif end == "error":
        with contextlib.suppress(LookupError), pool:
            raise LookupError
    else:
        pool.shutdown(wait=end != "nowait", cancel_futures=end == "cancel", interrupt=end == "interrupt")
    for i, call in enumerate(calls):
        try:
            check(workers.answer(i), call.result(PATIENCE))
        except (CancelledError, multipy.Interrupted, multipy.PoolClosedError):
            assert end in ("cancel", "interrupt", "error"), f"a call was lost at the end by {end}"
    pool.shutdown()
    raised(multipy.PoolClosedError, pool.submit, workers.answer, 1)
    raised(multipy.ActorClosedError, actor.add, 1)


@operation(0.1)
def interpreters_replaced(world: World, drawn: Random) -> None:
    """An interpreter ends while its pool is open: nothing is lost in silence, and another takes its place."""
    rounds, waiting, tried_again = drawn.randint(1, 3), drawn.randint(0, 20), drawn.random() < 0.5
    in_child_or_here(world, True, 2 + rounds, lambda: replaced(rounds, waiting, tried_again))


def replaced(rounds: int, waiting: int, tried_again: bool) -> None:
    with multipy.Pool(2, restart=True, initializer=setattr, initargs=(workers, "made", "anew")) as pool:
        options = {"pool": pool, "interpreter": 0, "max_restarts": -1}
        actor = workers.Actor.options(**options, max_task_retries=-1 if tried_again else 0).remote(3)
        for number in range(1, rounds + 1):
            check(4, actor.add(1))
            ended = pool.interpreters[0].submit(workers.end_this_interpreter)
            calls = [actor.echo.submit(i) for i in range(waiting)]
            ended.exception(PATIENCE)
            for i, call in enumerate(calls):
                try:
                    check(i, call.result(PATIENCE))
                except multipy.InterpreterDiedError:
                    assert not tried_again, "a call that may be tried again was lost"
            while True:
                try:
                    check("anew", pool.interpreters[0].submit(getattr, workers, "made").result(PATIENCE))
                    break
                except multipy.InterpreterDiedError:  # what came before the end was seen
                    continue
            check(number, pool.statistics()[0]["restarts"])
        check([workers.answer(i) for i in range(9)], list(pool.map(workers.answer, range(9))))


@operation(0.5)
def inline_pools(world: World, drawn: Random) -> None:
    """The same without interpreters."""
    with multipy.Pool(2, inline=True) as pool:
        actor = workers.Actor.options(pool=pool, replicas="all").remote(drawn.randint(0, 9))
        assert len(set(actor.broadcast.add(1))) == 1
        check([(i, [str(i)]) for i in range(5)], list(actor.numbers.stream(5)))
        check([workers.answer(i) for i in range(9)], list(pool.map(workers.answer, range(9))))


@operation(0.3)
def forked_children(world: World, drawn: Random) -> None:
    """In a child of the host, pools say that they are closed."""
    if not FORKS:
        return
    actor = world.actor(workers.Actor, drawn.randrange(len(world.pool)))
    done = world.pool.submit(workers.answer, 3)
    done.result(PATIENCE)

    def look() -> None:
        raised(multipy.PoolClosedError, world.pool.submit, workers.answer, 1)
        raised(multipy.ActorClosedError, actor.add, 1)
        check(workers.answer(3), done.result())

    in_forked_child(look)


@operation(0.3)
def children_of_interpreters(world: World, drawn: Random) -> None:
    """Code in interpreters forks, and runs programs."""
    number, text = drawn.randint(0, 99), f"text-{drawn.randint(0, 99)}"
    if drawn.random() < 0.5:
        check(number, world.pool.submit(workers.fork, number).result(PATIENCE))
    else:
        check((text, 3), world.pool.submit(workers.shell, text).result(PATIENCE))


@operation(1)
def logs(world: World, drawn: Random) -> None:
    """What is logged in interpreters reaches the host's handlers, each record once."""
    numbers = [(world.thread * 10**9 + world.number) * 100 + i for i in range(drawn.randint(1, 20))]
    list(world.pool.map(workers.log, numbers))
    assert world.pool.flush_logging(PATIENCE)
    mine = [number for number in list(collected.numbers) if number // 100 == numbers[0] // 100]
    check(numbers, sorted(mine))


def in_child_or_here(world: World, in_child: bool, interpreters: int, work: Callable[[], None]) -> None:
    """Have work done in which so many interpreters end; not at all if neither is possible any more."""
    if FORKS and (in_child or world.interpreters_ended + interpreters > MOST_ENDED):
        in_forked_child(work)
    elif world.interpreters_ended + interpreters <= MOST_ENDED:
        world.interpreters_ended += interpreters
        work()


def in_forked_child(work: Callable[[], None]) -> None:
    """Have a forked child do the work, and wait for it."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            faulthandler.dump_traceback_later(PATIENCE * 0.8, exit=True)
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == 0, f"a forked child ended with {status}"
