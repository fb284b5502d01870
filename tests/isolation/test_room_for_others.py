"""Calls that wait make room for others of their interpreter, wherever actors and functions are placed."""

from __future__ import annotations

import concurrent.futures
import os
import random
import threading
import time

import pytest

import multipy_actors as multipy

PATIENCE = 60


class Asking:
    """Asks others before it answers; notes whether it was ever at two calls at once."""

    def __init__(self, others=()):
        self.others = others
        self.inside = 0
        self.most = 0

    def total(self, number, way=0):
        """Return how many nodes there are below, by paths, times `number`."""
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            return number + sum(self._asked(number, way))
        finally:
            self.inside -= 1

    def _asked(self, number, way):
        if way == 0:
            return [other.total(number, way) for other in self.others]
        if way == 1:
            return multipy.get([other.total.submit(number, way) for other in self.others])
        if way == 2:
            futures = [other.total.submit(number, way) for other in self.others]
            return [multipy.get(multipy.default_pool().submit(abs, future)) for future in futures]
        if way == 3:
            return [item for other in self.others for item in other.streamed.stream(number, way)]
        pool = multipy.default_pool()
        return multipy.get([pool.submit(ask, other, number, way) for other in self.others])

    def streamed(self, number, way):
        yield number
        yield from self._asked(number, way)

    def at_once(self):
        return self.most


@multipy.remote
class Node(Asking):
    pass


def ask(other, number, way):
    """Ask a node from a function."""
    return other.total(number, way)


@multipy.remote
class SlowNode(Asking):
    """Sleeps, or computes, before it asks and after."""

    def total(self, number, way=0):
        time.sleep(0.002 * (number % 3))
        value = super().total(number, way)
        end = time.monotonic() + 0.002 * (number % 2)
        while time.monotonic() < end:
            pass
        return value


@multipy.remote
class BatchNode:
    """Answers several at once."""

    def __init__(self, others=()):
        self.others = others

    @multipy.batch(max_batch_size=4, batch_wait=0.001)
    def total(self, numbers, ways):
        asked = [
            multipy.get([other.total.submit(number, ways[0]) for number in numbers]) for other in self.others
        ]
        return [sum(values) for values in zip(numbers, *asked, strict=True)]

    def streamed(self, number, way):
        yield number
        yield from (other.total(number, way) for other in self.others)

    def at_once(self):
        return 1


@multipy.remote
class AsyncNode:
    def __init__(self, others=()):
        self.others = others

    async def total(self, number, way=0):
        asked = [await other.total.submit(number, way) for other in self.others]
        return number + sum(asked)

    async def streamed(self, number, way):
        yield await self.total(number, 1)

    async def at_once(self):
        return 1


@multipy.remote
class Waiting:
    """Waits for what it is told to."""

    def __init__(self):
        self.served = 0

    def wait_for(self, future):
        self.served += 1
        return future[0].result()

    def spin(self):
        while True:
            pass

    def count(self):
        return self.served


@pytest.fixture(scope="module")
def one():
    with multipy.Pool(1, name="one") as pool:
        yield pool


def graph(drawn, pool, size, kinds):
    """Make actors at random places, each of which may ask some of those before it."""
    nodes, totals = [], []
    for _ in range(size):
        chosen = drawn.sample(range(len(nodes)), min(len(nodes), drawn.randint(0, 2)))
        kind = drawn.choice(kinds).options(pool=pool, interpreter=drawn.randrange(len(pool)))
        nodes.append(kind.remote([nodes[i] for i in chosen]))
        totals.append(1 + sum(totals[i] for i in chosen))
    return nodes, totals


KINDS = [[Node], [Node, Node, AsyncNode], [Node, SlowNode], [Node, SlowNode, AsyncNode, BatchNode]]


@pytest.mark.parametrize("interpreters", [1, 2])
@pytest.mark.parametrize("seed", range(8))
def test_any_graph_without_circles_gives_what_it_should(interpreters, seed):
    drawn = random.Random(f"{os.environ.get('SEED', 'graph')}/{seed}")
    with multipy.Pool(interpreters) as pool:
        nodes, totals = graph(drawn, pool, 8, KINDS[seed % len(KINDS)])

        def client(wishes):
            asked = []
            for place, number, way in wishes:
                if way == 3:
                    value = sum(nodes[place].streamed.stream(number, way))
                elif way == 4:
                    value = pool.submit(ask, nodes[place], number, way)
                else:
                    value = nodes[place].total.submit(number, way)
                asked.append((value, number * totals[place]))
            return [
                (value if isinstance(value, int) else value.result(PATIENCE), due) for value, due in asked
            ]

        def wish():
            return drawn.randrange(len(nodes)), drawn.randint(1, 9), drawn.randint(0, 4)

        with concurrent.futures.ThreadPoolExecutor(3) as clients:
            answers = list(clients.map(client, [[wish() for _ in range(30)] for _ in range(3)]))
        assert [value for told in answers for value, _ in told] == [
            due for told in answers for _, due in told
        ]
        for node in nodes:
            assert node.at_once() <= 1


def test_several_clients_of_one_chain_in_one_interpreter(one):
    model = Node.options(pool=one).remote()
    fronts = [Node.options(pool=one).remote([model]) for _ in range(4)]
    results = []

    def client(front):
        results.extend(front.total(number) == 2 * number for number in range(100))

    threads = [threading.Thread(target=client, args=(front,)) for front in fronts for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert results == [True] * 800
    assert [front.at_once() for front in fronts] == [1] * 4


def test_an_actor_that_waits_takes_its_calls_in_their_order(one):
    gate = multipy.Pool(1)
    opened = gate.submit(time.sleep, 0.2)
    waiting = Waiting.options(pool=one).remote()
    first = waiting.wait_for.submit([opened])
    then = [waiting.count.submit() for _ in range(3)]
    assert one.submit(abs, -3).result(PATIENCE) == 3
    assert not first.done()
    assert multipy.get(then, timeout=PATIENCE) == [1, 1, 1]
    gate.shutdown()


def test_what_waits_can_be_interrupted_while_others_run(one):
    endless = Waiting.options(pool=one).remote()
    waiting = Waiting.options(pool=one).remote()
    with multipy.Pool(1) as other:
        asleep = other.submit(time.sleep, 1)
        call = waiting.wait_for.submit([asleep])
        running = endless.spin.submit()
        while not running.running():
            pass
        assert call.running()
        assert call.cancel(interrupt=True)
        assert isinstance(call.exception(PATIENCE), multipy.Interrupted)
        assert not running.done()
        assert running.cancel(interrupt=True)
        assert isinstance(running.exception(PATIENCE), multipy.Interrupted)
        assert [waiting.count(), endless.count()] == [1, 0]


def test_who_waits_can_be_killed_and_dropped(one):
    with multipy.Pool(1) as other:
        asleep = other.submit(time.sleep, 1)
        killed, dropped = (Waiting.options(pool=one).remote() for _ in range(2))
        calls = [killed.wait_for.submit([asleep]), dropped.wait_for.submit([asleep])]
        while not all(call.running() for call in calls):
            pass
        multipy.kill(killed)
        assert isinstance(calls[0].exception(PATIENCE), multipy.Interrupted)
        del dropped
        assert one.submit(abs, -1).result(PATIENCE) == 1
        assert calls[1].result(PATIENCE) is None


def test_a_pool_closes_while_calls_wait_in_it():
    with multipy.Pool(1) as other:
        pool = multipy.Pool(1)
        asleep = other.submit(time.sleep, 0.3)
        waiting = [Waiting.options(pool=pool).remote() for _ in range(3)]
        calls = [actor.wait_for.submit([asleep]) for actor in waiting]
        pool.shutdown()
        assert multipy.get(calls, timeout=PATIENCE) == [None] * 3


def test_a_deep_wait_takes_many_threads_and_gives_them_back(run_script):
    run_script(
        """
        import os, time
        import multipy_actors as multipy

        def threads():
            return len(os.listdir("/proc/self/task"))

        def depth(levels):
            if levels == 0:
                return threads()
            return multipy.default_pool().submit(depth, levels - 1).result()

        with multipy.Pool(1) as pool:
            pool.submit(abs, 1).result()
            before = threads()
            assert 100 <= pool.submit(depth, 100).result() - before <= 105
            deadline = time.monotonic() + 60
            while threads() > before + 1:
                assert time.monotonic() < deadline, f"{threads()} threads, {before} before"
                time.sleep(0.1)
        """
    )


def test_a_call_that_runs_while_another_waits_has_the_grad_mode_of_the_interpreter(run_script):
    run_script(
        """
        import multipy_actors as multipy

        def no_grad():
            import torch
            torch.set_grad_enabled(False)

        def mode():
            import torch
            return torch.is_grad_enabled()

        def asked(levels):
            import torch
            with torch.enable_grad():
                submit = multipy.default_pool().submit
                return mode(), (submit(asked, levels - 1) if levels else submit(mode)).result()

        with multipy.Pool(1, initializer=no_grad) as pool:
            assert pool.submit(mode).result() is False
            assert pool.submit(asked, 2).result() == (True, (True, (True, False)))
            assert pool.submit(mode).result() is False
        """
    )
