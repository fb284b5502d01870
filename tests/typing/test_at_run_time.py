"""What is there for the sake of checkers does at run time what it says to them."""

import ast
import importlib
import inspect
from pathlib import Path

import pytest

import multipy_actors as multipy

# Both modules have the name of something that the package exports.
pools = importlib.import_module("multipy_actors.pool.pool")
remotes = importlib.import_module("multipy_actors.actors.decorator")


class Counter(multipy.Actor):
    def __init__(self, value=0):
        self.value = value

    def add(self, amount=1):
        self.value += amount
        return self.value

    def __call__(self):
        return self.value

    @property
    def is_positive(self):
        return self.value > 0


class Bounded(Counter):
    def add(self, amount=1):
        return super().add(min(amount, 3))


@pytest.fixture
def counter(pool):
    return Counter.options(pool=pool).remote(5)


def typed_dict(module, name):
    """The keys of a TypedDict that exists for checkers alone."""
    tree = ast.parse(Path(module.__file__).read_text())
    (found,) = (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == name)
    return [item.target.id for item in found.body if isinstance(item, ast.AnnAssign)]


def test_checkers_know_the_options_that_there_are():
    functions = typed_dict(remotes, "FunctionOptions")
    assert functions == list(remotes._FUNCTION_OPTIONS)
    assert sorted(functions + typed_dict(remotes, "ActorOptions")) == sorted(remotes._CLASS_OPTIONS)
    parameters = list(inspect.signature(multipy.Pool).parameters)
    assert typed_dict(pools, "PoolOptions") == parameters


def test_a_class_that_derives_from_actor_makes_actors_of_its_own_class(pool):
    assert Bounded.options(pool=pool).remote(1).add(10) == 4
    assert Bounded(1).add(10) == 4
    assert multipy.remote(Bounded) is Bounded
    assert Bounded.options(pool=pool).remote(1).add(10) == 4


def test_wrong_arguments_of_such_a_class_fail_at_the_call(pool):
    with pytest.raises(TypeError, match=r"Counter: too many positional arguments"):
        Counter.options(pool=pool).remote(1, 2)


def test_a_method_can_be_taken_by_the_method_of_the_class(counter, pool):
    assert counter[Counter.add](2) == 7
    assert counter[Counter.add].submit(amount=1).result() == 8
    assert list(counter[Counter.add].map([1, 1])) == [9, 10]
    assert counter.broadcast[Counter.add](1) == [11]
    assert counter[Counter.__call__]() == 11
    assert Bounded.options(pool=pool).remote()[Counter.add](9) == 3  # the object's own method


def test_what_is_no_method_of_the_object_cannot_be_taken(counter):
    def ad():
        pass

    with pytest.raises(AttributeError, match=r"'Counter' has no method 'ad'; did you mean 'add'\?"):
        counter[ad]
    with pytest.raises(
        TypeError, match=r"a handle is indexed by a method, as handle\[Class.method\], not by str"
    ):
        counter["add"]
    with pytest.raises(TypeError, match="not by property"):
        counter[Counter.is_positive]
    with pytest.raises(AttributeError, match="__init__"):
        counter[Counter.__init__]


def test_a_handle_is_no_sequence(counter):
    with pytest.raises(TypeError, match="not iterable"):
        iter(counter)
    with pytest.raises(TypeError, match="not iterable"):
        iter(counter.broadcast)
    with pytest.raises(TypeError):
        assert 1 not in counter


def test_a_handle_lists_the_methods_of_the_object_for_completion(counter):
    assert {"add", "is_positive", "on", "broadcast", "replicas"} <= set(dir(counter))
