"""The decorator: what it adds to classes and functions, and that they stay what they are."""

from __future__ import annotations

import inspect
import pickle

import pytest

import multipy_actors as multipy
from multipy_actors import _native


@multipy.remote
class Base:
    """A doc string."""

    def __init__(self, name: str, *, size: int = 1) -> None:
        self.name = name
        self.size = size

    def describe(self):
        return type(self).__name__, self.name, self.size


class Derived(Base):
    def __init__(self, name):
        super().__init__(name, size=7)


@multipy.remote
def where(*args, **kwargs):
    """Say where it runs."""
    worker = _native.current_worker()
    return None if worker is None else worker.index, args, kwargs


@pytest.fixture(scope="module", autouse=True)
def default_pool():
    yield multipy.init(interpreters=2)
    multipy.shutdown()


def test_a_decorated_class_stays_itself():
    assert inspect.isclass(Base) and Base.__doc__ == "A doc string."
    assert Base("x", size=2).describe() == ("Base", "x", 2)
    assert isinstance(Derived("y"), Base)
    assert pickle.loads(pickle.dumps(Base)) is Base


def test_remote_makes_an_actor_in_the_default_pool():
    assert Base.remote("a", size=3).describe() == ("Base", "a", 3)
    assert isinstance(Base.remote("a"), multipy.ReplicatedObj)


def test_a_subclass_makes_actors_of_its_own():
    assert Derived.remote("b").describe() == ("Derived", "b", 7)
    assert Derived.options(replicas=2).remote("b").broadcast.describe() == [("Derived", "b", 7)] * 2


def test_options_are_chosen_one_after_the_other_and_later_ones_win():
    options = Base.options(replicas=2).options(replicas=1).options(interpreter=1)
    handle = options.remote("c")
    assert [interpreter.id for interpreter in handle.interpreters] == [1]
    assert "Base" in repr(options) and "interpreter" in repr(options)


def test_wrong_arguments_of_init_fail_where_they_are_given():
    for args, kwargs in (((), {}), (("a", "b"), {}), (("a",), {"colour": 1})):
        with pytest.raises(TypeError, match="Base"):
            Base.remote(*args, **kwargs)


@pytest.mark.parametrize("target", [Base, where])
def test_unknown_options_are_refused_with_those_known(target):
    with pytest.raises(TypeError, match=r"unknown option 'replica'; known are pool.*interpreter"):
        target.options(replica=2)
    with pytest.raises(TypeError, match="'pool' must be"):
        target.options(pool=2)


def test_a_class_that_has_such_an_attribute_already_is_refused():
    class Taken:
        def remote(self):
            pass

    with pytest.raises(TypeError, match="Taken has an attribute 'remote' already"):
        multipy.remote(Taken)


@pytest.mark.parametrize("name", ["statistics", "on", "broadcast", "replicas"])
def test_a_class_that_defines_what_handles_hide_is_refused(name):
    body = {name: lambda self: None}
    with pytest.raises(TypeError, match=rf"Own\.{name} would be hidden .*\(handle\.{name}\)"):
        multipy.remote(type("Own", (), dict(body)))
    with pytest.raises(TypeError, match=rf"Own\.{name} would be hidden"):
        type("Own", (multipy.Actor,), dict(body))
    inherits = multipy.remote(type("Inherits", (type("Library", (), dict(body)),), {}))
    assert hasattr(inherits, "remote")


def test_a_class_decorated_twice_is_as_one_decorated_once():
    again = multipy.remote(multipy.remote(type("Twice", (Base,), {})))
    assert again.remote("t").describe() == ("Twice", "t", 1)


@pytest.mark.parametrize("target", [3, "text", None, len, Base("instance")])
def test_only_classes_and_functions_can_be_decorated(target):
    with pytest.raises(TypeError, match="takes a class or a function"):
        multipy.remote(target)


def test_a_local_class_travels_by_value():
    secret = 42

    @multipy.remote
    class Local:
        def tell(self):
            return secret

    assert Local.remote().tell() == 42
    assert Local.options(replicas="all").remote().broadcast.tell() == [42, 42]


def test_a_decorated_function_stays_itself():
    assert where(1, key=2) == (None, (1,), {"key": 2})
    assert where.__name__ == "where" and where.__doc__ == "Say where it runs."
    assert pickle.loads(pickle.dumps(where)) is where


def test_submit_of_a_function_runs_it_in_an_interpreter():
    index, args, kwargs = where.submit(1, fn=2, self=3).result()
    assert index in (0, 1) and args == (1,) and kwargs == {"fn": 2, "self": 3}


def test_options_of_a_function_choose_where_it_runs(default_pool):
    assert where.options(interpreter=1).submit().result()[0] == 1
    assert where.options(interpreter=default_pool.interpreters[0]).submit().result()[0] == 0
    with multipy.Pool(1) as other:
        assert where.options(pool=other).submit().result()[0] == 0
        assert where.options(interpreter=1).options(pool=other, interpreter=None).submit().result()[0] == 0
    assert where.options(interpreter=1)(5) == (None, (5,), {})


def test_a_local_decorated_function_travels_by_value():
    base = 40

    @multipy.remote
    def add(number):
        return base + number

    assert add(1) == 41 and add.submit(2).result() == 42


def test_a_decorated_function_may_be_an_argument():
    index, _, _ = multipy.default_pool().submit(lambda function: function(), where).result()
    assert index in (0, 1)


def test_a_pin_outside_the_pool_is_refused():
    for index in (9, -1):
        with pytest.raises(ValueError, match=f"no interpreter {index}"):
            where.options(interpreter=index).submit()


def test_an_interpreter_of_another_pool_is_refused(default_pool):
    with multipy.Pool(1) as other, pytest.raises(ValueError, match="is not in"):
        where.options(pool=other, interpreter=default_pool.interpreters[0]).submit()
