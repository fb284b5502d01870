"""The pool as an executor: what it runs where, in which order, and what its options do."""

from __future__ import annotations

import concurrent.futures
import gc
import itertools
import os
import sys
import threading
import warnings

import pytest

import multipy_actors as multipy


def number_of_this_interpreter():
    from multipy_actors import _native

    worker = _native.current_worker()
    return None if worker is None else worker.index


def fail(text):
    raise ValueError(text)


def arguments(*args, **kwargs):
    return args, kwargs


def module_is_loaded(name):
    return name in sys.modules


def variable(name):
    return os.environ.get(name)


def set_marker(*values):
    sys.marker = values


def marker():
    return sys.marker


# Calls -----------------------------------------------------------------------------------------------------


def test_a_pool_is_an_executor(pool):
    assert isinstance(pool, concurrent.futures.Executor)
    assert pool.submit(pow, 2, 10).result() == 1024


def test_arguments_arrive_as_they_were_given(pool):
    # The names of submit's own parameters are free for the function's.
    future = pool.submit(arguments, 1, "two", fn=3, self=4, args=5)
    assert future.result() == ((1, "two"), {"fn": 3, "self": 4, "args": 5})


def test_lambdas_and_closures_travel_by_value(pool):
    base = 40
    assert pool.submit(lambda x: base + x, 2).result() == 42


def test_calls_run_in_interpreters_not_in_the_host(pool):
    assert number_of_this_interpreter() is None
    assert pool.submit(number_of_this_interpreter).result() in (0, 1)


def test_two_calls_run_at_once_in_two_interpreters(pool, gate):
    futures = [pool.submit(lambda: (gate.stop(), number_of_this_interpreter())[1]) for _ in range(2)]
    gate.arrivals(2)
    gate.open()
    assert sorted(multipy.get(futures)) == [0, 1]


def test_a_call_goes_to_the_interpreter_that_is_free(pool, gate):
    busy = pool.interpreters[0].submit(gate.stop)
    gate.arrivals()
    assert multipy.get(pool.submit(number_of_this_interpreter) for _ in range(10)) == [1] * 10
    gate.open()
    busy.result()


def test_calls_of_one_interpreter_run_in_the_order_submitted(pool):
    pool.interpreters[1].submit(set_marker, "start")
    futures = [
        pool.interpreters[1].submit(lambda n: setattr(sys, "marker", (*sys.marker, n)), number)
        for number in range(50)
    ]
    multipy.get(futures)
    assert pool.interpreters[1].submit(marker).result() == ("start", *range(50))


def test_an_interpreter_knows_its_number_and_its_figures(pool):
    first, second = pool.interpreters
    assert (first.id, second.id) == (0, 1) and "Interpreter 1" in repr(second)
    before = second.statistics()
    second.submit(abs, 1).result()
    assert second.submit(fail, "x").exception() is not None
    # The last call's end is counted after its future is told of it.
    second.submit(abs, 1).result()
    after = second.statistics()
    assert after["done"] - before["done"] in (2, 3)
    assert after["failed"] - before["failed"] == 1
    assert after["queued"] == 0 and after["busy_seconds"] > before["busy_seconds"]


def test_broadcast_runs_once_in_every_interpreter(pool):
    assert multipy.get(pool.broadcast(number_of_this_interpreter)) == [0, 1]
    assert multipy.get(pool.broadcast(arguments, 1, fn=2)) == [((1,), {"fn": 2})] * 2


def test_what_cannot_be_sent_is_named_where_it_is_submitted(pool):
    with pytest.raises(multipy.SerializationError, match=r"argument 1\['lock'\]"):
        pool.submit(arguments, 1, {"lock": threading.Lock()})
    with pytest.raises(multipy.SerializationError, match="argument 'key'"):
        pool.broadcast(arguments, key=threading.Lock())
    with pytest.raises(TypeError, match="result"):
        pool.submit(threading.Lock).result()
    assert pool.submit(abs, -1).result() == 1


# map -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunksize", [1, 3, 100])
@pytest.mark.parametrize("buffersize", [None, 1, 2, 50])
def test_map_returns_values_in_the_order_of_the_items(pool, chunksize, buffersize):
    values = pool.map(pow, range(20), itertools.repeat(2), chunksize=chunksize, buffersize=buffersize)
    assert list(values) == [number**2 for number in range(20)]


def test_map_of_nothing_is_empty(pool):
    assert list(pool.map(abs, [])) == [] and list(pool.map(abs)) == []


def test_map_submits_at_once_even_if_nobody_asks_for_the_values(pool, gate):
    values = pool.map(gate.stop, range(2))
    gate.arrivals(2)
    gate.open()
    assert list(values) == [0, 1]


def test_with_a_buffersize_map_reads_the_iterable_as_the_values_are_consumed(pool):
    drawn = []
    items = (drawn.append(number) or number for number in itertools.count())
    values = pool.map(abs, items, buffersize=3)
    assert drawn == [0, 1, 2]
    assert [next(values), next(values)] == [0, 1]
    assert drawn == [0, 1, 2, 3, 4]
    values.close()


def test_map_raises_what_an_item_raised_after_the_values_before_it(pool):
    values = pool.map(lambda n: 1 // (2 - n), range(4))
    assert [next(values), next(values)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(values)


def test_map_gives_up_after_its_timeout_and_takes_back_the_rest(pool, gate):
    values = pool.map(gate.stop, range(6), timeout=0.01)
    gate.arrivals(2)
    with pytest.raises(concurrent.futures.TimeoutError):
        next(values)
    gate.open()
    # Nothing of it is left in the queues: had the other calls not been cancelled, they would arrive.
    assert multipy.get(pool.broadcast(number_of_this_interpreter)) == [0, 1]


@pytest.mark.parametrize("wrong", [{"chunksize": 0}, {"buffersize": 0}, {"chunksize": -1}])
def test_map_refuses_sizes_below_one(pool, wrong):
    with pytest.raises(ValueError, match="at least 1"):
        pool.map(abs, [1], **wrong)


# Options ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "error"), [(0, ValueError), (-1, ValueError), ("2", TypeError), (True, TypeError)]
)
def test_the_number_of_interpreters_must_be_a_positive_int(count, error):
    with pytest.raises(error, match="interpreters must be"):
        multipy.Pool(count)


def test_by_default_there_is_one_interpreter_per_usable_cpu():
    with multipy.Pool() as pool:
        assert len(pool) == len(pool.interpreters) == len(os.sched_getaffinity(0))


def test_a_pool_prints_its_name_its_size_and_whether_it_is_closed():
    with multipy.Pool(1, name="serving") as pool:
        assert pool and repr(pool) == "<multipy.Pool 'serving' of 1 interpreters>"
    assert "closed" in repr(pool)


def test_preload_and_initializer_run_in_every_interpreter_before_any_call():
    with multipy.Pool(2, preload=["colorsys"], initializer=set_marker, initargs=(1, "x")) as pool:
        assert multipy.get(pool.broadcast(module_is_loaded, "colorsys")) == [True, True]
        assert multipy.get(pool.broadcast(marker)) == [(1, "x"), (1, "x")]
        assert not hasattr(sys, "marker")


def test_an_initializer_that_raises_fails_the_pool_with_its_error():
    with pytest.raises(ValueError, match="no start") as caught:
        multipy.Pool(2, initializer=fail, initargs=("no start",))
    assert isinstance(caught.value.__cause__, multipy.RemoteTraceback)


def test_a_module_that_cannot_be_preloaded_fails_the_pool():
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        multipy.Pool(1, preload=["no_such_module"])


def test_a_path_environment_adds_package_folders_before_the_hosts(tmp_path):
    (tmp_path / "only_inside.py").write_text("VALUE = 'inside'")
    (tmp_path / "colorsys.py").write_text("VALUE = 'shadow'")
    with multipy.Pool(1, env=multipy.PathEnvironment(tmp_path)) as pool:
        assert pool.submit(lambda: __import__("only_inside").VALUE).result() == "inside"
        assert pool.submit(lambda: __import__("colorsys").VALUE).result() == "shadow"
    assert "only_inside" not in sys.modules and str(tmp_path) not in sys.path


def test_an_environment_may_choose_the_whole_search_path(tmp_path):
    class Extended(multipy.Environment):
        def search_paths(self, host):
            return [*host, str(tmp_path)]

    with multipy.Pool(1, env=Extended()) as pool:
        assert pool.submit(lambda: sys.path).result() == [*sys.path, str(tmp_path)]


def test_interpreters_see_the_host_as_it_is_configured(pool):
    for name in ("path", "argv", "prefix", "exec_prefix", "base_prefix", "executable", "platlibdir"):
        assert pool.submit(lambda name: getattr(sys, name), name).result() == getattr(sys, name), name
    for name in ("optimize", "dev_mode", "utf8_mode", "no_site", "bytes_warning", "dont_write_bytecode"):
        there = pool.submit(lambda name: getattr(sys.flags, name), name).result()
        assert there == getattr(sys.flags, name), name


def test_the_threads_of_torch_openmp_and_blas_are_divided_among_the_interpreters(monkeypatch):
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    share = max(1, len(os.sched_getaffinity(0)) // 2)
    with multipy.Pool(2) as pool:
        assert multipy.get(pool.broadcast(variable, "OMP_NUM_THREADS")) == [str(share)] * 2
    with multipy.Pool(1, intra_op_threads=3) as pool:
        assert pool.submit(variable, "OPENBLAS_NUM_THREADS").result() == "3"
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    with multipy.Pool(1, intra_op_threads=3) as pool:
        assert pool.submit(variable, "OMP_NUM_THREADS").result() == "3"
    with multipy.Pool(1) as pool:
        assert pool.submit(variable, "OMP_NUM_THREADS").result() == "7"
        assert pool.submit(variable, "MKL_NUM_THREADS").result() is None  # it follows the other


@pytest.mark.parametrize("threads", [0, -1, "many", 1.5])
def test_a_number_of_threads_that_makes_no_sense_is_refused(threads):
    with pytest.raises(ValueError, match="intra_op_threads"):
        multipy.Pool(1, intra_op_threads=threads)


# Closing ---------------------------------------------------------------------------------------------------


def test_leaving_the_with_block_runs_what_is_queued():
    with multipy.Pool(1) as pool:
        futures = [pool.submit(abs, -number) for number in range(100)]
    assert [future.result(timeout=0) for future in futures] == list(range(100))


def test_a_closed_pool_refuses_every_call():
    with multipy.Pool(1) as pool:
        interpreter = pool.interpreters[0]
    for call in (
        lambda: pool.submit(abs, 1),
        lambda: pool.map(abs, [1]),
        lambda: pool.broadcast(abs, 1),
        lambda: interpreter.submit(abs, 1),
    ):
        with pytest.raises(multipy.PoolClosedError) as caught:
            call()
        assert isinstance(caught.value, RuntimeError)


def test_shutdown_may_be_called_again():
    pool = multipy.Pool(1)
    for _ in range(3):
        pool.shutdown()
    pool.shutdown(cancel_futures=True)


def test_shutdown_cancels_what_is_queued_if_told_so(gate):
    pool = multipy.Pool(1)
    running = pool.submit(gate.stop, "ran")
    gate.arrivals()
    queued = [pool.submit(abs, 1) for _ in range(10)]
    pool.shutdown(wait=False, cancel_futures=True)
    assert all(future.cancelled() for future in queued)
    gate.open()
    assert running.result() == "ran"
    pool.shutdown()


def test_shutdown_without_waiting_still_runs_what_is_queued(gate):
    pool = multipy.Pool(1)
    running = pool.submit(gate.stop, "ran")
    queued = pool.submit(abs, -2)
    pool.shutdown(wait=False)
    assert not queued.done()
    gate.open()
    assert (running.result(), queued.result()) == ("ran", 2)
    pool.shutdown()


def test_an_exception_in_the_with_block_cancels_and_interrupts(gate):
    def spin():
        gate.report()
        while True:
            pass

    with pytest.raises(KeyError, match="mine"), multipy.Pool(1) as pool:
        endless = pool.submit(spin)
        gate.arrivals()
        queued = pool.submit(abs, 1)
        raise KeyError("mine")
    assert queued.cancelled()
    with pytest.raises(multipy.Interrupted):
        endless.result(timeout=0)


def test_a_pool_that_is_dropped_warns_and_closes():
    pool = multipy.Pool(1)
    future = pool.submit(abs, -1)
    future.result()
    with pytest.warns(ResourceWarning, match="never shut down"):
        del pool
        gc.collect()


def test_a_pool_that_is_dropped_with_work_in_it_leaves_no_future_waiting(gate):
    pool = multipy.Pool(1)
    running = pool.submit(gate.stop)
    gate.arrivals()
    queued = pool.submit(abs, 1)
    with pytest.warns(ResourceWarning, match="never shut down"):
        del pool
        gc.collect()
    assert queued.cancelled()
    gate.open()
    assert running.exception(timeout=60) is None or isinstance(running.exception(), multipy.Interrupted)


# The default pool ------------------------------------------------------------------------------------------


@pytest.fixture
def no_default_pool():
    yield
    multipy.shutdown()


def test_the_default_pool_is_made_once_with_the_options_of_init(no_default_pool):
    pool = multipy.init(interpreters=1, name="default")
    assert multipy.default_pool() is pool and len(pool) == 1
    with pytest.raises(RuntimeError, match="already"):
        multipy.init()
    multipy.shutdown()
    multipy.shutdown()
    with pytest.raises(multipy.PoolClosedError):
        pool.submit(abs, 1)
    again = multipy.init(interpreters=1)
    assert again is not pool and again.submit(abs, -1).result() == 1


def test_a_default_pool_that_was_closed_is_replaced(no_default_pool):
    first = multipy.init(interpreters=1)
    first.shutdown()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert multipy.default_pool() is not first
