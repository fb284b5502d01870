"""A call that sleeps, waits for something outside or computes for long holds up nobody but its own actor."""

import importlib
import os
import queue
import sys
import threading
import time

import pytest

import multipy_actors as multipy

PATIENCE = 60


@multipy.remote
class Blocking:
    """Does what takes long, until a byte comes."""

    def __init__(self, descriptor=None):
        if descriptor is not None:
            os.read(descriptor, 1)

    def read(self, descriptor):
        return os.read(descriptor, 1)

    def wait_for_queue(self, descriptor):
        received = queue.Queue()
        threading.Thread(target=lambda: received.put(os.read(descriptor, 1))).start()
        return received.get()

    def take_lock(self, descriptor):
        lock = threading.Lock()
        lock.acquire()
        threading.Thread(target=lambda: (os.read(descriptor, 1), lock.release())).start()
        with lock:
            return b"x"

    def compute(self, descriptor):
        os.set_blocking(descriptor, False)
        while True:
            try:
                return os.read(descriptor, 1)
            except BlockingIOError:
                sum(range(100))

    def items(self, descriptor):
        yield 1
        yield os.read(descriptor, 1)


@multipy.remote
class Counter:
    def __init__(self):
        self.count = 0

    def add(self):
        self.count += 1
        return self.count

    def thread(self):
        return threading.get_native_id()


@pytest.fixture
def pool():
    with multipy.Pool(1) as pool:
        yield pool


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    yield reader, lambda: os.write(writer, b"x")
    os.write(writer, b"x" * 100)
    os.close(writer)


@pytest.mark.parametrize("method", ["read", "wait_for_queue", "take_lock", "compute"])
def test_others_go_on(pool, pipe, method):
    reader, write = pipe
    blocking = Blocking.options(pool=pool).remote()
    counter = Counter.options(pool=pool).remote()
    call = getattr(blocking, method).submit(reader)
    assert [counter.add() for _ in range(100)] == list(range(1, 101))
    assert pool.submit(abs, -3).result(PATIENCE) == 3
    assert Counter.options(pool=pool).remote().add() == 1
    assert not call.done()
    write()
    assert call.result(PATIENCE) == b"x"


def test_an_init_that_takes_long_holds_up_its_own_actor_alone(pool, pipe):
    reader, write = pipe
    slow = Blocking.options(pool=pool).remote(reader)
    waiting = slow.read.submit(reader)
    assert Counter.options(pool=pool).remote().add() == 1
    assert not waiting.done()
    write()
    write()
    assert waiting.result(PATIENCE) == b"x"


def test_a_generator_that_waits_holds_up_nobody(pool, pipe):
    reader, write = pipe
    stream = Blocking.options(pool=pool).remote().items.stream(reader)
    assert next(stream) == 1
    assert Counter.options(pool=pool).remote().add() == 1
    write()
    assert list(stream) == [b"x"]


def test_a_function_that_waits_holds_up_actors_no_more_but_other_functions(pool, pipe):
    reader, write = pipe
    call = pool.submit(os.read, reader, 1)
    later = pool.submit(abs, -1)
    counter = Counter.options(pool=pool).remote()
    assert [counter.add() for _ in range(10)] == list(range(1, 11))
    assert not later.done()
    write()
    assert call.result(PATIENCE) == b"x" and later.result(PATIENCE) == 1


def test_the_calls_of_one_actor_still_run_one_at_a_time_and_in_order(pool):
    @multipy.remote
    class Log:
        def __init__(self):
            self.lines = []
            self.running = 0

        def write(self, line, seconds):
            self.running += 1
            assert self.running == 1
            time.sleep(seconds)
            self.lines.append(line)
            self.running -= 1

        def read(self):
            return self.lines

    logs = [Log.options(pool=pool).remote() for _ in range(4)]
    futures = [log.write.submit(line, 0.001 * (line % 4)) for line in range(40) for log in logs]
    multipy.get(futures)
    assert all(log.read() == list(range(40)) for log in logs)


def test_many_blocked_actors_take_a_thread_each_and_give_it_back(pool, pipe):
    reader, write = pipe
    before = len(os.listdir("/proc/self/task"))
    actors = [Blocking.options(pool=pool).remote() for _ in range(30)]
    calls = [actor.read.submit(reader) for actor in actors]
    counter = Counter.options(pool=pool).remote()
    while len(os.listdir("/proc/self/task")) < before + 30:
        assert counter.add()
    for _ in actors:
        write()
    assert multipy.get(calls) == [b"x"] * 30
    deadline = time.monotonic() + PATIENCE
    while len(os.listdir("/proc/self/task")) > before + 2:
        assert time.monotonic() < deadline
        time.sleep(0.5)


def test_plain_methods_run_at_once_if_their_actor_may(pool, pipe):
    reader, write = pipe
    threaded = Blocking.options(pool=pool, max_concurrency=3).remote()
    calls = [threaded.read.submit(reader) for _ in range(4)]
    counter = Counter.options(pool=pool).remote()
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        counter.add()
    write()
    write()
    write()
    write()
    assert multipy.get(calls) == [b"x"] * 4


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_no_more_plain_methods_run_at_once_than_may(pool, limit):
    @multipy.remote
    class Busy:
        def __init__(self):
            self.lock = threading.Lock()
            self.running = 0
            self.most = 0

        def work(self):
            with self.lock:
                self.running += 1
                self.most = max(self.most, self.running)
            time.sleep(0.05)
            with self.lock:
                self.running -= 1

        def told(self):
            return self.most

    busy = Busy.options(pool=pool, max_concurrency=limit).remote()
    multipy.get([busy.work.submit() for _ in range(4 * limit)])
    assert busy.told() == limit


def test_a_threaded_actor_may_call_itself_as_long_as_it_has_room(pool):
    @multipy.remote
    class Nested:
        def depth(self, itself, levels):
            return 0 if levels == 0 else 1 + itself.depth(itself, levels - 1)

    nested = Nested.options(pool=pool, max_concurrency=4).remote()
    assert nested.depth(nested, 3) == 3
    with pytest.raises(multipy.DeadlockError, match="Nested"):
        nested.depth(nested, 4)
    assert nested.depth(nested, 3) == 3


def test_a_blocked_actor_can_be_killed_and_timed_out_while_others_go_on(pool, pipe):
    reader, _ = pipe
    killed = Blocking.options(pool=pool).remote()
    late = Blocking.options(pool=pool, timeout=0.2).remote()
    spins = Blocking.options(pool=pool, timeout=0.2).remote()
    calls = [killed.read.submit(reader), late.read.submit(reader), spins.compute.submit(reader)]
    counter = Counter.options(pool=pool).remote()
    assert counter.add() == 1
    multipy.kill(killed)
    with pytest.raises((multipy.Interrupted, multipy.ActorClosedError)):
        calls[0].result(PATIENCE)
    for call in calls[1:]:
        with pytest.raises(TimeoutError):
            call.result(PATIENCE)
    assert counter.add() == 2


def test_a_pool_closes_though_one_actor_is_blocked_until_others_are_done(pipe):
    reader, write = pipe
    with multipy.Pool(1) as pool:
        blocking = Blocking.options(pool=pool).remote()
        counter = Counter.options(pool=pool).remote()
        counter.add()
        blocked = blocking.read.submit(reader)
        calls = [counter.add.submit() for _ in range(50)]
        calls[-1].add_done_callback(lambda _: write())
    assert [call.result() for call in calls] == list(range(2, 52))
    assert blocked.result() == b"x"


def test_an_actor_is_made_before_its_calls_run_whatever_functions_wait_for_their_turn(pool, pipe):
    reader, write = pipe
    blocked = pool.interpreters[0].submit(os.read, reader, 1)
    waiting = pool.interpreters[0].submit(abs, -1)
    for _ in range(20):
        assert Counter.options(pool=pool).remote().add() == 1
    assert not waiting.done()
    write()
    assert blocked.result(PATIENCE) == b"x" and waiting.result(PATIENCE) == 1


@multipy.remote
class Sum:
    def until(self, end, imports):
        """Compute until the clock says so, with `imports` by importing, too; how much CPU time it took."""
        rounds, started = 0, time.thread_time()
        while time.monotonic() < end:
            sum(range(200))
            rounds += 1
            if imports and rounds % 1000 == 0:
                for name in [name for name in sys.modules if name.partition(".")[0] == "json"]:
                    del sys.modules[name]
                importlib.import_module("json")
        return time.thread_time() - started


@pytest.mark.parametrize("imports", [False, True], ids=["none imports", "one imports"])
def test_actors_that_compute_at_once_get_about_as_much_of_the_interpreter(pool, imports):
    actors = [Sum.options(pool=pool).remote() for _ in range(4)]
    multipy.get([actor.until.submit(0, False) for actor in actors])
    end = time.monotonic() + 4.0
    times = multipy.get([actor.until.submit(end, imports and actor is actors[0]) for actor in actors])
    computing = times[imports:]  # one that imports gives way at each access to a file, as any thread does
    assert min(computing) > max(computing) / 4, times
