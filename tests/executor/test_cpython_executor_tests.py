"""CPython's own tests of executors, run against a pool.

`TAKEN` are the mixins that CPython runs against each of its executors. What is left out of them, and which
classes of the test package are not taken, is listed below with the reason; the lists are checked to be
complete and to name nothing that does not exist.
"""

from __future__ import annotations

import gc
import re

import cpython_tests
import pytest

if cpython_tests.folder() is None:
    pytest.skip(f"no Python here has {cpython_tests.NAME}", allow_module_level=True)

from pool_executor import PoolExecutor, run_python
from test import support

import multipy_actors as multipy

# Class and test → why not. These are run all the same, and must fail: else they are no exclusions any more.
EXCLUDED = {
    "ExecutorTest.test_max_workers_negative": (
        "asks for the word max_workers in the message; Pool's parameter is `interpreters`, and its "
        "ValueError is tested in tests/unit/test_pool.py"
    ),
    "ExecutorShutdownTest.test_submit_after_interpreter_shutdown": (
        "asks for the words of the standard library's RuntimeError; Pool's is a PoolClosedError, which is "
        "one, as tested in test_executor_contract.py"
    ),
}
# Class and test → why they may fail. They are not run.
LEFT_TO_CHANCE = {
    "ExecutorShutdownTest.test_cancel_futures": (
        "asks that of fifty calls one has begun when shutdown(cancel_futures=True) is called at once, which "
        "nothing promises; tests/unit/test_pool.py sees to it that one has"
    ),
    "ExecutorShutdownTest.test_interpreter_shutdown": (
        "a pool that was never shut down must not hold up the end of the process, so its calls are cancelled "
        "and interrupted; tests/isolation/test_exit_of_the_process.py"
    ),
}
# Class → why not.
NOT_TAKEN = {
    "FutureTests": "makes futures by hand and sets their private fields; ours are views of a call",
    "FailingInitializerMixin": (
        "expects the executor to be made and to break later; Pool's constructor waits for initializers and "
        "raises what they raised, as tested in tests/unit/test_pool.py"
    ),
    "FailingInitializerResourcesTest": "is about the resource tracker of multiprocessing",
    "ExecutorDeadlockTest": "kills worker processes; interpreters share one, and crashes are not isolated",
    "ThreadPoolExecutorTest": "shares lists, locks and events with the workers, and counts their threads",
    "ThreadPoolShutdownTest": "makes ThreadPoolExecutors itself, and joins their threads",
    "ThreadPoolWaitTests": "shares an event with the workers",
    "ProcessPoolExecutorTest": "kills and counts worker processes; test_map_chunksize alone is taken, below",
    "ProcessPoolShutdownTest": "makes ProcessPoolExecutors itself, and joins their processes",
}
NOT_IN_EVERY_VERSION = {"FailingInitializerResourcesTest"}
TAKEN = ("ExecutorTest", "WaitTests", "AsCompletedTests", "ExecutorShutdownTest", "InitializerMixin")

CLASSES = cpython_tests.classes()
EVERYWHERE = {name: each for module in cpython_tests.modules() for name, each in vars(module).items()}


class PoolMixin(EVERYWHERE["ExecutorMixin"]):
    """What ThreadPoolMixin is to a ThreadPoolExecutor."""

    executor_type = PoolExecutor
    worker_count = 3  # the fewest that every test is content with: each starts its own


def pool_tests(name, only=None):
    """Return CPython's class `name` as tests of a pool, changed as the lists above say."""
    mixin = CLASSES[name][0]
    # Which of two calls ends first is not to depend on how long an interpreter imports the tests.
    members = {"__module__": __name__, "__doc__": None, "executor_kwargs": {"preload": [mixin.__module__]}}
    for test in filter(re.compile("test_").match, dir(mixin)):
        if only and test not in only:
            members[test] = None
        elif reason := LEFT_TO_CHANCE.get(f"{name}.{test}"):
            members[test] = pytest.mark.skip(reason=reason)(unchanged(mixin, test))
        elif reason := EXCLUDED.get(f"{name}.{test}"):
            members[test] = pytest.mark.xfail(reason=reason, raises=AssertionError, strict=True)(
                unchanged(mixin, test)
            )
    return type(f"TestPool{name}", (mixin, PoolMixin, EVERYWHERE["BaseTestCase"]), members)


def unchanged(mixin, test):
    """Return the test as a function of its own, for a mark that is not to be on CPython's."""

    def run(self):
        getattr(mixin, test)(self)

    return run


for _name in TAKEN:
    globals()[f"TestPool{_name}"] = pool_tests(_name)
TestPoolProcessPoolExecutorTest = pool_tests("ProcessPoolExecutorTest", only=["test_map_chunksize"])


@pytest.fixture(autouse=True, scope="module")
def _scripts_know_the_pool():
    """Have what the tests run in a Python of its own find the pool where it looks for executors."""
    # Without this the first test would be told off for the thread that runs callbacks from then on.
    multipy.Pool(1).shutdown()
    # The tests collect garbage often, and what other tests have left in memory is much to look through.
    gc.collect()
    gc.freeze()
    with pytest.MonkeyPatch.context() as patch:
        for module in cpython_tests.modules():
            if hasattr(module, "assert_python_ok"):
                patch.setattr(module, "assert_python_ok", run_python)
        yield
    gc.unfreeze()


def test_every_class_of_cpythons_tests_is_taken_or_left_out_for_a_reason():
    assert set(CLASSES) - set(TAKEN) == set(NOT_TAKEN) - (NOT_IN_EVERY_VERSION - set(CLASSES))


def test_what_is_excluded_exists_and_has_a_reason():
    tests = {f"{name}.{test}" for name in TAKEN for test in CLASSES[name][1]}
    assert {*EXCLUDED, *LEFT_TO_CHANCE} <= tests
    assert all([*EXCLUDED.values(), *LEFT_TO_CHANCE.values(), *NOT_TAKEN.values()])


def test_the_tests_are_those_of_this_python():
    if cpython_tests.is_borrowed():
        pytest.skip(f"it has none, and {cpython_tests.folder()} was taken instead")


def test_no_test_left_a_thread_or_a_process_behind():
    assert not support.environment_altered
