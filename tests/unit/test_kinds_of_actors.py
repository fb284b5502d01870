"""Classes of all kinds as actors: what of them a handle reaches, and that they stay usable here."""

from __future__ import annotations

import dataclasses
import functools
from abc import ABC, abstractmethod

import pytest

import multipy_actors as multipy


class Base:
    """Not decorated itself."""

    def __init__(self, value=1):
        self.value = value
        self._asked = 0

    def inherited(self):
        return ("base", self.value)

    def overridden(self):
        return "base"

    @property
    def doubled(self):
        return 2 * self.value

    @functools.cached_property
    def costly(self):
        self._asked += 1
        return self._asked

    @classmethod
    def kind(cls):
        return cls.__name__

    @staticmethod
    def triple(number):
        return 3 * number

    def __call__(self, number, *, plus=0):
        return self.value * number + plus


@multipy.remote
class Derived(Base):
    def overridden(self):
        return ("derived", super().overridden())

    def by(self, factor, offset=0):
        return self.value * factor + offset

    twice = functools.partialmethod(by, 2)

    @functools.singledispatchmethod
    def describe(self, value):
        return "something"

    @describe.register
    def _(self, value: int):
        return "a number"

    @functools.cache  # noqa: B019
    def cached(self, number):
        return number

    def set_value(self, value):
        self.value = value


class Further(Derived):
    """A subclass of a decorated class, not decorated again."""

    def further(self):
        return ("further", self.inherited())


class Abstract(ABC):
    @abstractmethod
    def work(self): ...


@multipy.remote
class Concrete(Abstract):
    def work(self):
        return "done"


@multipy.remote
@dataclasses.dataclass
class Point:
    x: float
    y: float = 2.0
    tags: list = dataclasses.field(default_factory=list)

    def length(self):
        return (self.x**2 + self.y**2) ** 0.5

    def tag(self, name):
        self.tags.append(name)
        return self.tags


@multipy.remote
@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    x: int

    def get(self):
        return self.x


@multipy.remote
class Session:
    """A context manager that returns itself."""

    def __init__(self, swallow=False):
        self.swallow = swallow
        self.events = []

    def __enter__(self):
        self.events.append("enter")
        return self

    def __exit__(self, kind, error, traceback):
        self.events.append((kind and kind.__name__, error and str(error)))
        return self.swallow

    def history(self):
        return self.events


@multipy.remote
class Locked:
    """A context manager that returns something else."""

    def __enter__(self):
        return {"opened": True}

    def __exit__(self, *_):
        return None


def test_methods_of_bases_are_called_and_those_of_subclasses_win(pool):
    derived = Derived.options(pool=pool).remote(5)
    assert derived.inherited() == ("base", 5) and derived.overridden() == ("derived", "base")
    further = Further.options(pool=pool).remote(value=7)
    assert further.further() == ("further", ("base", 7)) and further.overridden() == ("derived", "base")
    assert "Further" in repr(further)


def test_class_and_static_methods_know_their_class(pool):
    further = Further.options(pool=pool).remote()
    assert further.kind() == "Further" and further.triple(4) == 12
    assert further.kind.submit().result() == "Further"


def test_properties_are_read_each_time_and_cached_ones_computed_once(pool):
    derived = Derived.options(pool=pool).remote(5)
    assert derived.doubled == 10
    derived.set_value(6)
    assert derived.doubled == 12
    assert [derived.costly, derived.costly] == [1, 1]


def test_other_descriptors_that_make_methods_are_methods(pool):
    derived = Derived.options(pool=pool).remote(5)
    assert derived.twice() == 10 and derived.twice.submit(offset=1).result() == 11
    assert [derived.describe("x"), derived.describe(1)] == ["something", "a number"]
    assert derived.cached(3) == 3


def test_calling_the_handle_calls_the_object_with_its_arguments(pool):
    assert Derived.options(pool=pool).remote(5)(3, plus=1) == 16


def test_the_class_stays_usable_here():
    local = Derived(5)
    assert local.inherited() == ("base", 5) and local.doubled == 10 and local.twice() == 10
    assert isinstance(local, Base) and isinstance(Derived, type) and Derived.__name__ == "Derived"
    assert Further(2).further() == ("further", ("base", 2))
    assert Point(3.0, 4.0).length() == 5.0 and Point(1.0) == Point(1.0)

    def annotated(value: Derived) -> Derived:
        return value

    assert annotated(local) is local


def test_a_class_may_be_decorated_again_by_its_subclass(pool):
    @multipy.remote
    class Again(Derived):
        def again(self):
            return self.kind()

    assert Again.options(pool=pool).remote().again() == "Again"
    assert Derived.options(pool=pool).remote().kind() == "Derived"


def test_abstract_classes_work_through_what_they_make_concrete(pool):
    assert Concrete.options(pool=pool).remote().work() == "done"


def test_dataclasses_are_actors(pool):
    point = Point.options(pool=pool).remote(3.0, y=4.0)
    assert point.length() == 5.0 and point.tag("a") == ["a"] and point.tag("b") == ["a", "b"]
    with pytest.raises(TypeError, match="Point: missing a required argument: 'x'"):
        Point.options(pool=pool).remote()
    frozen = Frozen.options(pool=pool).remote(3)
    assert frozen.get() == 3 and frozen.x == 3


def test_an_actor_is_a_context_manager_if_its_class_is(pool):
    session = Session.options(pool=pool).remote()
    with session as entered:
        assert entered is session and entered.history() == ["enter"]
    with pytest.raises(KeyError), session:
        raise KeyError("k")
    assert session.history() == ["enter", (None, None), "enter", ("KeyError", "'k'")]
    with Session.options(pool=pool).remote(swallow=True):
        raise ValueError("swallowed")
    with Locked.options(pool=pool).remote() as value:
        assert value == {"opened": True}
    derived = Derived.options(pool=pool).remote()
    with pytest.raises(TypeError, match="'Derived' object is no context manager"), derived:
        pass


@pytest.mark.parametrize(
    ("name", "near"),
    [("inherite", "inherited"), ("overriden", "overridden"), ("costy", "costly"), ("desribe", "describe")],
)
def test_a_typo_fails_where_it_is_made_and_names_what_was_meant(pool, name, near):
    further = Further.options(pool=pool).remote()
    for holder in (further, further.broadcast, further.on(further.interpreters[0])):
        with pytest.raises(AttributeError, match=f"'Further' has no method '{name}'; did you mean '{near}'"):
            getattr(holder, name)
    with pytest.raises(AttributeError) as caught:
        further.quite_something_else  # noqa: B018
    assert "did you mean" not in str(caught.value)


def test_a_class_with_an_attribute_that_would_be_hidden_is_refused():
    for name in ("remote", "options"):
        with pytest.raises(TypeError, match=f"has an attribute '{name}' already"):
            multipy.remote(type("Hidden", (), {name: lambda self: None}))
