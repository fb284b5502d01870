"""`@multipy.batch`: what can be marked, what the mark leaves as it is, and what the options do with it."""

from __future__ import annotations

import functools

import pytest

import multipy_actors as multipy
from multipy_actors.batching import batches_for, batches_of


@multipy.remote
class Model:
    def __call__(self, x):
        return x

    @multipy.batch
    def double(self, xs):
        return [2 * x for x in xs]

    @multipy.batch(max_batch_size=4, batch_wait=0.5)
    async def triple(self, xs):
        return [3 * x for x in xs]

    @multipy.batch()
    def any_way(self, *xs):
        return list(xs[0])

    def count(self, n):
        yield from range(n)


def test_a_marked_method_stays_itself_and_takes_the_batch_on_the_plain_object():
    def double(self, xs):
        """Doubles."""
        return [2 * x for x in xs]

    double.__qualname__ = "Other.double"
    assert multipy.batch(max_batch_size=3)(double) is double
    assert Model().double([1, 2]) == [2, 4] and Model().double.__name__ == "double"


def test_what_is_batched_is_marked_with_the_values_of_each_mark():
    assert batches_of(Model) == {"double": (32, 0.0), "triple": (4, 0.5), "any_way": (32, 0.0)}


def test_options_override_what_the_marks_say():
    assert batches_for(Model, None, None) == batches_of(Model)
    assert batches_for(Model, 8, None) == {"double": (8, 0.0), "triple": (8, 0.5), "any_way": (8, 0.0)}
    assert set(batches_for(Model, None, 0.25).values()) == {(32, 0.25), (4, 0.25)}
    assert batches_for(Model, 2, 0)["triple"] == (2, 0)


def test_a_method_that_overrides_a_marked_one_is_not_batched_without_a_mark_of_its_own():
    class Single(Model):
        def double(self, x):
            return 2 * x

    class Again(Single):
        @multipy.batch(max_batch_size=5)
        def double(self, xs):
            return [2 * x for x in xs]

    assert set(batches_of(Single)) == {"triple", "any_way"}
    assert batches_of(Again)["double"] == (5, 0.0)


def test_a_decorator_above_or_below_keeps_a_mark_if_it_uses_wraps():
    def noted(function):
        @functools.wraps(function)
        def call(*args, **kwargs):
            return function(*args, **kwargs)

        return call

    def bare(function):
        return lambda *args: function(*args)

    class Decorated:
        @noted
        @multipy.batch
        def above(self, xs):
            return xs

        @multipy.batch
        @noted
        def below(self, xs):
            return xs

        @multipy.batch
        @bare
        def below_bare(self, xs):
            return xs

    assert set(batches_of(Decorated)) == {"above", "below", "below_bare"}


def test_values_that_make_no_sense_are_refused_where_they_stand():
    for size in (0, -1, 2.5, True, "8", None):
        with pytest.raises(ValueError, match="max_batch_size must be a positive int, not"):
            multipy.batch(max_batch_size=size)
    for wait in (-1, -0.1, float("nan"), "1", None, True):
        with pytest.raises(ValueError, match="batch_wait must be a number of seconds, or 0, not"):
            multipy.batch(batch_wait=wait)


def test_a_number_in_the_place_of_the_method_is_pointed_out():
    with pytest.raises(TypeError, match=r"write @multipy.batch\(max_batch_size=8\)"):
        multipy.batch(8)


def define(body):
    """Run the body of a class."""
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    exec("class Wrong:\n" + lines, {"multipy": multipy})


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("@multipy.batch\ndef m(self, xs): yield xs", "Wrong.m is a generator"),
        ("@multipy.batch\nasync def m(self, xs): yield xs", "Wrong.m is a generator"),
        ("@multipy.batch\n@property\ndef m(self): pass", "is for methods, not for a property"),
        ("@multipy.batch\n@staticmethod\ndef m(xs): pass", "is for methods, not for a static method"),
        ("@multipy.batch()\n@classmethod\ndef m(cls, xs): pass", "is for methods, not for a class method"),
        ("@multipy.batch\nclass Inner: pass", "not for the class Wrong.Inner"),
        ("m = multipy.batch(len)", "not for what is of the type builtin_function_or_method"),
        ("@multipy.batch\ndef __init__(self, xs): pass", "no handle calls Wrong.__init__"),
        ("@multipy.batch\ndef __exit__(self, *xs): pass", "no handle calls Wrong.__exit__"),
        ("@multipy.batch\ndef m(self): pass", "Wrong.m has no parameter to take a batch with"),
    ],
)
def test_what_cannot_take_a_batch_is_refused_where_it_is_decorated(body, text):
    with pytest.raises(TypeError, match=text):
        define(body)


def test_a_function_outside_of_a_class_is_refused():
    with pytest.raises(TypeError, match="is a function outside of a class"):

        @multipy.batch
        def inside_of_a_function(xs):
            return xs

    with pytest.raises(TypeError, match="f is a function outside of a class"):
        exec("@multipy.batch(max_batch_size=3)\ndef f(xs): pass", {"multipy": multipy})


@pytest.mark.parametrize("kind", [staticmethod, classmethod, property, functools.cached_property])
def test_a_mark_below_what_makes_it_another_kind_of_member_is_refused_with_the_class(kind):
    class Wrong:
        @kind
        @multipy.batch
        def misplaced(self, xs):
            return xs

    with pytest.raises(TypeError, match=r"is for methods, and .*Wrong\.misplaced is "):
        multipy.remote(Wrong)
    with pytest.raises(TypeError, match="misplaced"):
        type("Inheriting", (multipy.Actor, Wrong), {})
    with pytest.raises(TypeError, match="misplaced"):
        type("Inheriting", (Model, Wrong), {}).remote()


def test_a_static_method_of_one_parameter_is_called_what_it_is():
    class Wrong:
        @staticmethod
        @multipy.batch
        def misplaced(xs):
            return xs

    with pytest.raises(TypeError, match=r"is for methods, and .*Wrong\.misplaced is a static method"):
        multipy.remote(Wrong)


def test_a_method_of_one_parameter_is_refused_with_the_class_whatever_that_is_called():
    class Wrong:
        @multipy.batch
        def method(this):
            return this

    with pytest.raises(TypeError, match=r"Wrong\.method has no parameter to take a batch with"):
        multipy.remote(Wrong)


@multipy.remote
class Several:
    def read(self):
        pass

    def write(self, x):
        pass


@multipy.remote
class One:
    limit = 3

    class Settings:
        pass

    def double(self, xs):
        return [2 * x for x in xs]

    def _inner(self):
        pass

    @property
    def size(self):
        return 1

    def count(self):
        yield 1


def test_the_option_is_for_the_only_public_method_of_a_class_without_marks():
    assert batches_for(One, 8, None) == {"double": (8, 0.0)}
    assert batches_for(One, 8, 0.5) == {"double": (8, 0.5)}
    assert batches_for(One, None, None) == {}


def test_with_several_methods_and_no_mark_the_option_is_refused_and_says_what_to_do():
    text = (
        r"class with one public method, and Several has read, write: .* @multipy\.batch\(max_batch_size=8\)"
    )
    with pytest.raises(ValueError, match=text):
        Several.options(max_batch_size=8)
    with pytest.raises(ValueError, match="and Empty has none"):
        multipy.remote(type("Empty", (), {"__qualname__": "Empty"})).options(max_batch_size=2)


def test_a_wait_without_a_size_or_a_mark_is_refused_when_the_actor_is_made():
    with pytest.raises(ValueError, match="'batch_wait' does nothing without 'max_batch_size'"):
        Several.options(batch_wait=0.1).remote()
    assert One.options(batch_wait=0.1).options(max_batch_size=8)
