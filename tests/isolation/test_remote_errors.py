"""What remote code raises is raised here again, in its own type, with the remote traceback."""

from __future__ import annotations

import asyncio
import builtins
import subprocess
import threading
import traceback

import pytest

import multipy_actors as multipy


class Coded(Exception):
    """An exception of the user's, importable by name."""

    def __init__(self, code, *, detail=None):
        super().__init__(code)
        self.code = code
        self.detail = detail


class Unpicklable(Exception):
    def __init__(self, text):
        super().__init__(text)
        self.lock = threading.Lock()


class Awkward(Exception):
    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


def fail(error):
    raise error


def nested():
    try:
        {}["missing"]
    except KeyError as error:
        raise Coded(7, detail="kept") from error


@multipy.remote
class Fragile:
    def __init__(self, error=None):
        if error is not None:
            raise error

    def fail(self, error):
        raise error

    def local(self):
        class Inner(Exception):
            pass

        raise Inner("made here")

    def unpicklable_result(self):
        return {"deep": [threading.Lock()]}

    def ok(self):
        return "ok"


def test_an_exception_arrives_in_its_own_type_with_its_attributes(pool):
    with pytest.raises(Coded) as caught:
        pool.submit(nested).result()
    error = caught.value
    assert type(error) is Coded and error.args == (7,) and (error.code, error.detail) == (7, "kept")


def test_the_remote_traceback_is_its_cause_and_is_printed(pool):
    with pytest.raises(Coded) as caught:
        pool.submit(nested).result()
    assert isinstance(caught.value.__cause__, multipy.RemoteTraceback)
    text = "".join(traceback.format_exception(caught.value))
    for line in ("in nested", "KeyError: 'missing'", "direct cause", "test_remote_errors.py", "Coded: 7"):
        assert line in text
    assert "worker/serve.py" not in text
    assert "worker/operations.py" not in text


@pytest.mark.parametrize(
    "error",
    [
        ValueError("v"),
        KeyError(("a", 1)),
        OSError(2, "No such file", "/x"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        subprocess.CalledProcessError(3, ["cmd"]),
        AssertionError(),
        multipy.ActorClosedError("closed"),
        asyncio.CancelledError("a"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_exceptions_of_all_kinds_arrive_equal(pool, error):
    received = pool.submit(fail, error).exception()
    assert type(received) is type(error) and received.args == error.args and str(received) == str(error)


def test_what_cannot_travel_is_described(pool):
    received = pool.submit(lambda: fail(Unpicklable("no way"))).exception()
    assert isinstance(received, multipy.RemoteError)
    assert received.text == "no way" and "in fail" in received.traceback
    assert received.type_name.endswith("Unpicklable")


def test_a_constructor_that_takes_other_arguments_is_not_called_again(pool):
    received = pool.submit(lambda: fail(Awkward("no", "way"))).exception()
    assert type(received) is Awkward and str(received) == "no and way"


def test_an_exception_class_made_inside_arrives(pool):
    fragile = Fragile.options(pool=pool).remote()
    with pytest.raises(Exception, match="made here") as caught:
        fragile.local()
    assert type(caught.value).__name__ == "Inner"


def test_an_error_in_init_is_raised_by_every_call(pool):
    fragile = Fragile.options(pool=pool, replicas=2).remote(Coded(3))
    for _ in range(3):
        with pytest.raises(Coded) as caught:
            fragile.ok()
        assert caught.value.code == 3 and "in __init__" in str(caught.value.__cause__)


@pytest.mark.parametrize("how", [SystemExit(2), KeyboardInterrupt(), GeneratorExit()])
def test_what_would_end_a_process_fails_one_call(pool, how):
    fragile = Fragile.options(pool=pool).remote()
    with pytest.raises(type(how)):
        fragile.fail(how)
    assert fragile.ok() == "ok"
    broken = Fragile.options(pool=pool).remote(how)
    for _ in range(2):
        with pytest.raises(type(how)):
            broken.ok()
    assert fragile.ok() == "ok"


def test_a_result_that_cannot_be_sent_is_named(pool):
    fragile = Fragile.options(pool=pool).remote()
    with pytest.raises(multipy.SerializationError, match=r"result\['deep'\]\[0\].*lock"):
        fragile.unpicklable_result()
    assert fragile.ok() == "ok"


def test_an_argument_that_cannot_be_sent_is_named_before_anything_is_sent(pool):
    fragile = Fragile.options(pool=pool).remote()
    with pytest.raises(multipy.SerializationError, match=r"argument 'error'.*lock"):
        fragile.fail.submit(error=threading.Lock())
    with pytest.raises(multipy.SerializationError, match="argument 0"):
        Fragile.options(pool=pool).remote(threading.Lock())


def test_an_argument_that_cannot_be_rebuilt_fails_the_call(pool):
    class Trap:
        def __reduce__(self):
            return int, ("not a number",)

    with pytest.raises(multipy.SerializationError, match="not a number"):
        pool.submit(abs, Trap()).result()
    assert pool.submit(abs, -1).result() == 1


def test_a_result_that_cannot_be_rebuilt_raises_where_it_is_asked_for(pool):
    def trap():
        class Trap:
            def __reduce__(self):
                return int, ("not a number",)

        return Trap()

    future = pool.submit(trap)
    for _ in range(2):
        with pytest.raises(multipy.SerializationError, match="not a number"):
            future.result()


def test_an_error_passes_through_two_interpreters_with_both_tracebacks(pool):
    first = pool.interpreters[0].submit(nested).exception()
    second = pool.interpreters[1].submit(fail, first).exception()
    assert type(second) is Coded and "in fail" in str(second.__cause__)


def test_an_exception_group_arrives_whole(pool):
    group = getattr(builtins, "ExceptionGroup", None)
    if group is None:
        pytest.skip("exception groups are of Python 3.11")
    received = pool.submit(fail, group("several", [ValueError(1), Coded(2)])).exception()
    assert type(received) is group
    assert [type(each) for each in received.exceptions] == [ValueError, Coded]
