"""Errors of awkward kinds: each ends its own call with something clear, and the actor and pool go on."""

from __future__ import annotations

import builtins
import gc
import sys
import threading

import pytest
from sample_actors import Counter

import multipy_actors as multipy

PATIENCE = 60


class TwoArguments(Exception):
    """Its constructor takes other arguments than it passes on."""

    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


class KeywordOnly(Exception):
    def __init__(self, *, code):
        super().__init__(code)
        self.code = code


class Evil(Exception):
    """Raises from everything that could describe it."""

    def __str__(self):
        raise RuntimeError("no str")

    __repr__ = __str__

    def __reduce__(self):
        raise RuntimeError("no reduce")


class Exiting(Exception):
    """Wants to end the process when it is rebuilt."""

    def __reduce__(self):
        return sys.exit, (3,)


class WithReduce(Exception):
    def __init__(self, code, detail):
        super().__init__(code, detail)
        self.detail = detail

    def __reduce__(self):
        return WithReduce, self.args


class Falsy(Exception):
    def __bool__(self):
        return False

    def __len__(self):
        return 0


class NoInit(BaseException):
    """Not even an Exception."""


@multipy.remote
class Raiser:
    """Raises what it is told to, in its methods, in its property, or as it is made."""

    def __init__(self, make=None):
        if make is not None:
            raise make()

    def fail(self, make):
        raise make()

    @property
    def failing(self):
        raise LookupError("property")

    def give(self, make):
        return make()

    def recurse(self):
        return self.recurse()

    def ok(self):
        return "ok"


def evil():
    return Evil("x")


def exiting():
    return Exiting("x")


def with_lock():
    error = ValueError("locked")
    error.lock = threading.Lock()
    return error


@pytest.fixture
def raiser(pool):
    return Raiser.options(pool=pool, interpreter=0).remote()


@pytest.mark.parametrize(
    ("make", "text"),
    [(lambda: TwoArguments(1, 2), "1 and 2"), (lambda: KeywordOnly(code=5), "5")],
    ids=["two arguments", "keyword only"],
)
def test_an_exception_whose_constructor_takes_other_arguments_arrives_as_itself(raiser, make, text):
    for _ in range(2):
        error = raiser.fail.submit(make).exception(PATIENCE)
        assert type(error) is type(make()) and str(error) == text


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (evil, "cannot be told"),
        (exiting, "x"),
        (with_lock, "locked"),
    ],
    ids=["evil", "exiting", "unpicklable attribute"],
)
def test_an_exception_that_cannot_travel_is_described(raiser, make, text):
    for _ in range(2):
        error = raiser.fail.submit(make).exception(PATIENCE)
        assert isinstance(error, multipy.RemoteError)
        assert text in str(error) and error.type_name.endswith(type(make()).__name__)
        assert raiser.ok() == "ok"


@pytest.mark.parametrize(
    "make",
    [
        lambda: WithReduce(1, ["d"]),
        lambda: Falsy("f"),
        lambda: NoInit("b"),
        lambda: StopIteration(5),
        lambda: StopAsyncIteration(),
        lambda: GeneratorExit(),
        lambda: SystemExit("bye"),
        lambda: SystemExit(None),
        lambda: KeyboardInterrupt("ctrl"),
        lambda: multipy.Interrupted("mine"),
        lambda: multipy.DeadlockError("mine"),
        lambda: multipy.PoolClosedError("mine"),
        lambda: multipy.MailboxFullError("mine"),
        lambda: TimeoutError("mine"),
        lambda: ImportError("n", name="n", path="p"),
        lambda: OSError(2, "No", "file"),
        lambda: UnicodeEncodeError("ascii", "ä", 0, 1, "no"),
        lambda: SyntaxError("s", ("f", 1, 2, "text")),
        lambda: RecursionError("own"),
        lambda: MemoryError(),
        lambda: Warning("w"),
    ],
    ids=lambda make: type(make()).__name__,
)
def test_an_exception_arrives_as_what_it_is(raiser, make):
    sent, error = make(), raiser.fail.submit(make).exception(PATIENCE)
    assert type(error) is type(sent) and error.args == sent.args and str(error) == str(sent)
    for name in ("detail", "code", "name", "path", "filename", "lineno"):
        assert getattr(error, name, None) == getattr(sent, name, None)
    assert "in fail" in str(error.__cause__)
    with pytest.raises(type(sent)):
        raiser.fail(make)
    assert raiser.ok() == "ok"


def test_notes_causes_and_contexts_are_told(raiser):
    def make():
        try:
            try:
                {}["inner"]
            except KeyError as inner:
                raise ValueError("middle") from inner
        except ValueError as middle:
            error = TypeError("outer")
            error.__cause__ = middle
            if hasattr(error, "add_note"):
                error.add_note("a note")
            return error

    error = raiser.fail.submit(make).exception(PATIENCE)
    for text in ("KeyError: 'inner'", "ValueError: middle", "TypeError: outer"):
        assert text in str(error.__cause__)
    assert getattr(error, "__notes__", ["a note"]) == ["a note"]


@pytest.mark.skipif(not hasattr(builtins, "ExceptionGroup"), reason="exception groups are of Python 3.11")
def test_exception_groups_arrive_whole_and_can_be_split(raiser):
    group = builtins.ExceptionGroup

    def make():
        return group("outer", [ValueError(1), group("inner", [KeyError("k"), OSError(2, "No")])])

    with pytest.raises(group) as caught:
        raiser.fail(make)
    matching, rest = caught.value.split(OSError)
    assert matching.exceptions[0].exceptions[0].errno == 2
    assert type(rest.exceptions[0]) is ValueError and rest.exceptions[1].message == "inner"

    def base():
        return builtins.BaseExceptionGroup("base", [SystemExit(1), ValueError(2)])

    error = raiser.fail.submit(base).exception(PATIENCE)
    assert [type(each) for each in error.exceptions] == [SystemExit, ValueError]

    def unfit():
        return group("unfit", [with_lock()])

    error = raiser.fail.submit(unfit).exception(PATIENCE)
    assert isinstance(error, multipy.RemoteError) and "locked" in error.traceback
    assert raiser.ok() == "ok"


def test_endless_recursion_is_an_error_of_the_call(raiser):
    for _ in range(2):
        with pytest.raises(RecursionError, match="maximum recursion depth"):
            raiser.recurse()
        assert raiser.ok() == "ok"


def test_what_is_nested_too_deeply_is_told_on_both_ways(raiser):
    def nest(depth=100_000):
        value = []
        for _ in range(depth):
            value = [value]
        return value

    with pytest.raises(multipy.SerializationError, match=r"argument 0.*nested too deeply"):
        raiser.give.submit(nest())
    with pytest.raises(multipy.SerializationError, match=r"result.*nested too deeply"):
        raiser.give(nest)
    assert raiser.ok() == "ok"


def test_a_property_that_raises_raises_where_it_is_read(raiser):
    with pytest.raises(LookupError, match="property"):
        raiser.failing  # noqa: B018
    assert raiser.ok() == "ok"


@pytest.mark.parametrize("make", [evil, with_lock, lambda: SystemExit(1), lambda: KeyboardInterrupt()])
def test_an_init_that_raises_fails_every_call_in_the_same_way(pool, make):
    broken = Raiser.options(pool=pool, replicas=2).remote(make)
    wanted = multipy.RemoteError if make in (evil, with_lock) else type(make())
    calls = [broken.ok.submit() for _ in range(4)] + broken.broadcast.ok.submit()
    for future in calls:
        error = future.exception(PATIENCE)
        assert type(error) is wanted
    with pytest.raises(wanted):
        broken.failing  # noqa: B018
    assert multipy.get(pool.broadcast(abs, -1)) == [1, 1]


def test_the_error_of_an_init_is_told_in_the_same_words_however_often(pool):
    broken = Raiser.options(pool=pool, interpreter=0).remote(lambda: ValueError("at first"))
    texts = {str(broken.ok.submit().exception().__cause__) for _ in range(50)}
    assert len(texts) == 1 and "in __init__" in texts.pop()

    def depth():
        """How many entries the tracebacks have that actors of this interpreter keep."""
        depths = []
        for error in (obj for obj in gc.get_objects() if isinstance(obj, ValueError)):
            entry, depth = error.__traceback__, 0
            while entry is not None:
                entry, depth = entry.tb_next, depth + 1
            depths.append(depth)
        return max(depths)

    before = pool.interpreters[0].submit(depth).result()
    for _ in range(50):
        broken.ok.submit().exception()
    assert pool.interpreters[0].submit(depth).result() == before


def test_wrong_arguments_of_a_constructor_are_told_at_once():
    with pytest.raises(TypeError, match="Raiser: too many positional arguments"):
        Raiser.remote(1, 2)
    with pytest.raises(TypeError, match="Raiser: got an unexpected keyword argument 'wrong'"):
        Raiser.options(replicas="all").remote(wrong=1)


def test_wrong_arguments_of_a_method_fail_the_call(raiser):
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        raiser.ok(wrong=1)
    assert raiser.ok() == "ok"


@pytest.mark.parametrize(
    ("make", "path"),
    [
        (lambda: threading.Lock(), r"^result: cannot serialize _thread.lock"),
        (lambda: {"a": [0, (x for x in ())]}, r"^result\['a'\]\[1\]: cannot serialize generator"),
        (lambda: [sys._getframe()], r"^result\[0\]: cannot serialize frame"),
    ],
)
def test_a_result_that_cannot_travel_is_named(raiser, make, path):
    with pytest.raises(multipy.SerializationError, match=path):
        raiser.give(make)
    assert raiser.ok() == "ok"


def test_an_argument_that_cannot_travel_is_named_and_nothing_is_sent(raiser):
    for attempt, name in (
        (lambda: raiser.give(threading.Lock()), "argument 0"),
        (lambda: raiser.give.submit(make=[threading.Lock()]), r"argument 'make'\[0\]"),
        (lambda: raiser.give.map([threading.Lock()]), "argument 0"),
    ):
        with pytest.raises(multipy.SerializationError, match=name):
            attempt()
    assert raiser.statistics() == {"replicas": 1, "queued": 0, "done": 0, "failed": 0}


def test_a_with_block_that_raises_what_cannot_travel_leaves_the_object_all_the_same(pool):
    @multipy.remote
    class Room:
        def __init__(self):
            self.left = []

        def __enter__(self):
            return self

        def __exit__(self, kind, error, traceback):
            self.left.append((kind and kind.__name__, str(error), traceback))

        def visits(self):
            return self.left

    room = Room.options(pool=pool).remote()
    with pytest.raises(ValueError, match="locked"), room:
        raise with_lock()
    with pytest.raises(KeyError), room:
        raise KeyError("k")
    with room:
        pass
    visits = room.visits()
    assert visits[0][0] == "RemoteError" and "locked" in visits[0][1]
    assert visits[1:] == [("KeyError", "'k'", None), (None, "None", None)]


def test_errors_pass_through_a_chain_of_actors_with_all_tracebacks(pool):
    inner = Raiser.options(pool=pool, interpreter=0).remote()

    def outer(inner):
        return inner.fail(lambda: WithReduce(7, "deep"))

    error = pool.interpreters[1].submit(outer, inner).exception(PATIENCE)
    assert type(error) is WithReduce and error.args == (7, "deep")
    assert "in fail" in str(error.__cause__) and "in outer" in str(error.__cause__)


def test_failures_are_counted(pool):
    counter = Counter.options(pool=pool).remote()
    for _ in range(3):
        counter.fail.submit(ValueError()).exception()
    assert counter.statistics()["failed"] == 3
