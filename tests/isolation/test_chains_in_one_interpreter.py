"""Actors of one interpreter that call each other are as much apart as those of several."""

import asyncio
import concurrent.futures
import contextlib
import decimal
import os
import sys
import threading
import time

import numpy as np
import pytest

import multipy_actors as multipy

PATIENCE = 60


@multipy.remote
class Link:
    """Calls the next one of a chain."""

    def __init__(self):
        self.running = 0
        self.kept = {}

    def thread(self):
        return threading.get_native_id()

    def chain(self, others):
        self.running += 1
        try:
            assert self.running == 1
            return [threading.get_native_id(), *(others[0].chain(others[1:]) if others else [])]
        finally:
            self.running -= 1

    def ask(self, other, count):
        return [(threading.get_native_id() == other.thread()) for _ in range(count)]

    def fail(self):
        raise LookupError("nothing here")

    def ask_in_vain(self, other):
        for _ in range(20):
            with pytest_raises(LookupError):
                other.fail()
        return "went on"

    def call(self, function, *args):
        return function(*args)

    def call_with_kept(self, function):
        return function(self.kept)


class pytest_raises:
    """What pytest has, which interpreters do not need to import."""

    def __init__(self, kind):
        self.kind = kind

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        assert kind is not None and issubclass(kind, self.kind), kind
        return True


@pytest.fixture
def pool():
    with multipy.Pool(1) as pool:
        yield pool


@pytest.fixture
def links(pool):
    links = [Link.options(pool=pool).remote() for _ in range(12)]
    for link in links:
        link.thread()
    return links


def test_chains_of_any_length_give_what_they_should(links):
    for _ in range(20):
        assert len(links[0].chain(links[1:])) == len(links)


def test_circles_are_found(links):
    first, second, third = links[:3]
    for _ in range(10):
        first.chain([second, third])
    for _ in range(10):
        with pytest.raises(multipy.DeadlockError, match="Link"):
            first.chain([second, third, first])
        assert len(first.chain([second, third])) == 3


def test_errors_come_to_who_waits(links):
    assert links[0].ask_in_vain(links[1]) == "went on"


def test_each_has_its_own_context(links):
    first, second = links[:2]

    def nested(other, digits, levels):
        with decimal.localcontext() as context:
            context.prec = digits
            told = other.call(nested_other, digits) if levels else None
            return str(decimal.Decimal(1) / 3), told

    def nested_other(digits):
        return str(decimal.Decimal(1) / 3), digits

    for digits in (2, 3, 4, 5, 6, 7):
        mine, (others, _) = first.call(nested, second, digits, 1)
        assert mine == "0." + "3" * digits and others == "0." + "3" * 28


def test_what_turns_out_to_take_long_holds_up_nobody_else(links):
    reader, writer = os.pipe()
    first, second, third = links[:3]
    first.ask(second, 20)

    def wait(other, reader):
        return other.call(os.read, reader, 1)

    with open("/dev/zero", "rb") as zeros:
        for _ in range(5):
            first.call(wait, second, zeros.fileno())
    waiting = first.call.submit(wait, second, reader)
    for _ in range(50):
        assert third.thread()
    assert not waiting.done()
    os.write(writer, b"x")
    assert waiting.result(PATIENCE) == b"x"


def spin(beats):
    while True:
        beats += 1


def ask_until_interrupted(other, function, *args):
    for _ in range(20):
        other.call(len, "")
    try:
        return other.call(function, *args)
    except multipy.Interrupted:
        return "the inner one was interrupted"


def wait_for_change(beats):
    before, deadline = beats[0].item(), time.monotonic() + PATIENCE
    while beats[0].item() == before:
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_an_interrupt_of_the_one_that_waits_ends_both(links):
    first, second = links[:2]
    for _ in range(5):
        beats = np.zeros(1)
        outer = first.call.submit(ask_until_interrupted, second, spin, beats)
        wait_for_change(beats)
        assert outer.cancel(interrupt=True)
        with contextlib.suppress(multipy.Interrupted):
            outer.result(PATIENCE)
        assert second.call(len, "abc") == 3
        assert first.call(len, "abc") == 3


def test_an_interrupt_of_the_one_that_runs_comes_to_who_waits_as_its_error(pool, links):
    first = links[0]
    for _ in range(5):
        limited = Link.options(pool=pool).remote()
        beats = np.zeros(1)
        outer = first.call.submit(ask_until_interrupted, limited, spin, beats)
        wait_for_change(beats)
        multipy.kill(limited)
        assert outer.result(PATIENCE) == "the inner one was interrupted"
        assert first.call(len, "abc") == 3


def test_what_is_to_end_begins_nothing_more(links):
    first, second = links[:2]
    beats = np.zeros(1)

    def go_on(other, beats):
        while True:
            other.call(len, "")
            beats += 1

    outer = first.call.submit(go_on, second, beats)
    wait_for_change(beats)
    outer.cancel(interrupt=True)
    with pytest.raises(multipy.Interrupted):
        outer.result(PATIENCE)


def test_an_actor_is_called_from_deep_recursion(links):
    first, second = links[:2]

    def deep(other, levels):
        if levels:
            return deep(other, levels - 1)
        return [other.call(len, "abc") for _ in range(20)]

    assert first.call(deep, second, sys.getrecursionlimit() - 150) == [3] * 20


def test_streams_of_ones_own_interpreter_are_read(links):
    @multipy.remote
    class Source:
        def items(self, count):
            yield from range(count)

    @multipy.remote
    class Reader:
        def total(self, source):
            return sum(source.items.stream(1000))

    pool = links[0]._pool
    source, reader = Source.options(pool=pool).remote(), Reader.options(pool=pool).remote()
    for _ in range(5):
        assert reader.total(source) == 499500


def test_an_error_does_not_carry_along_what_the_other_handles(links):
    first, second = links[:2]

    def fail():
        raise LookupError("within")

    def ask_while_handling(other):
        for _ in range(20):
            try:
                raise ValueError("beneath")
            except ValueError:
                try:
                    other.call(fail)
                except LookupError as error:
                    assert "beneath" not in str(error.__cause__)
                    seen = other.call(lambda: repr(sys.exc_info()[1]))
                    assert seen == "None", seen
                assert str(sys.exc_info()[1]) == "beneath"
        return True

    assert first.call(ask_while_handling, second)


def test_an_event_loop_that_runs_is_in_nobodys_way(links):
    first, second = links[:2]

    def run_a_loop():
        async def sleep():
            await asyncio.sleep(0)
            return 1

        return asyncio.run(sleep())

    def ask_from_within_one(other):
        async def ask():
            return sum(other.call(run_a_loop) for _ in range(10))

        return asyncio.run(ask())

    assert first.call(ask_from_within_one, second) == 10


def test_torchs_modes_are_those_of_the_actor_that_entered_them(links):
    pytest.importorskip("torch")
    first, second = links[:2]

    def state():
        import torch

        return torch.is_grad_enabled(), torch.is_inference_mode_enabled(), str(torch.empty(1).device)

    def ask_in_modes(other, state):
        import torch

        told = [other.call(state) for _ in range(10)]
        for mode in (torch.no_grad, torch.inference_mode, lambda: torch.device("meta")):
            with mode():
                mine = state()
                told += [other.call(state) for _ in range(10)]
                assert state() == mine
        assert state() == (True, False, "cpu")
        return set(told)

    assert first.call(ask_in_modes, second, state) == {(True, False, "cpu")}


def test_a_call_with_a_time_limit_is_not_waited_for_any_longer(pool, links):
    limited = Link.options(pool=pool, timeout=0.5).remote()
    first = links[0]

    def ask(other, function):
        for _ in range(10):
            other.call(len, "")
        try:
            other.call(function)
        except TimeoutError:
            return "it took too long"

    def sleep_long():
        for _ in range(2000):
            time.sleep(0.01)

    started = time.monotonic()
    assert first.call(ask, limited, sleep_long) == "it took too long"
    assert time.monotonic() - started < 15


def test_an_actor_of_several_calls_at_once_calls_itself(pool):
    @multipy.remote
    class Self:
        def meet(self, me):
            self.me = me

        def nest(self, levels):
            return 1 + self.me.nest(levels - 1) if levels else 0

    actor = Self.options(pool=pool, max_concurrency=3).remote()
    actor.meet(actor)
    for _ in range(20):
        assert actor.nest(2) == 2
    with pytest.raises(multipy.DeadlockError):
        actor.nest(3)


def test_clients_of_all_kinds_at_once_get_what_they_asked_for(pool, links):
    def ask(others, rounds):
        total = 0
        for number in range(rounds):
            total += len(others[number % len(others)].chain([]))
        return total

    fronts = [Link.options(pool=pool).remote() for _ in range(4)]
    futures = [front.call.submit(ask, links, 200) for front in fronts for _ in range(3)]
    futures += [pool.submit(ask, links, 200) for _ in range(4)]
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        chains = [threads.submit(links[i].chain, links[i + 1 : i + 3]) for i in range(9) for _ in range(20)]
        assert [len(chain.result(PATIENCE)) for chain in chains] == [3] * len(chains)
    assert [future.result(PATIENCE) for future in futures] == [200] * len(futures)


def test_each_has_a_cache_of_autocast_of_its_own(links):
    pytest.importorskip("torch")
    first, second = links[:2]

    def step(kept):
        import torch

        weights = kept.setdefault("weights", torch.nn.Parameter(torch.ones(2, 2)))
        with torch.autocast("cpu"):
            out = torch.nn.functional.linear(torch.ones(1, 2), weights)
        with torch.no_grad():
            weights += 1
        return out.sum().item()

    def steps(other, step):
        import torch

        with torch.autocast("cpu"):
            return [other.call_with_kept(step) for _ in range(8)]

    assert first.call(steps, second, step) == [4.0 + 4 * count for count in range(8)]


def test_each_may_recurse_as_deep_as_python_lets_it(links):
    first, second = links[:2]

    def deep(levels):
        return 1 + deep(levels - 1) if levels else 0

    def ask_from_below(other, function, levels):
        if levels:
            return ask_from_below(other, function, levels - 1)
        return [other.call(function, 600) for _ in range(8)]

    assert first.call(ask_from_below, second, deep, 400) == [600] * 8


def test_an_interrupt_comes_once_and_at_once(links):
    first, second = links[:2]

    def sleep_beside(other, beats):
        seen = 0
        try:
            for _ in range(8):
                other.call(len, "")
            beats += 1
            other.call(time.sleep, 20)
        except multipy.Interrupted:
            seen += 1
        for _ in range(100):
            try:
                sum(range(10_000))
            except multipy.Interrupted:
                seen += 1
        return seen

    for _ in range(2):
        beats = np.zeros(1)
        future = first.call.submit(sleep_beside, second, beats)
        wait_for_change(beats)
        started = time.monotonic()
        future.cancel(interrupt=True)
        assert future.result(PATIENCE) == 1
        assert time.monotonic() - started < 15
        second = Link.options(pool=first._pool).remote()
