# requires: torch, msgspec, pydantic
# Classes of the script, of all kinds: in an interpreter they are what their statements made, are found as
# `__main__.Name`, and their objects come back as the script's own.
from __future__ import annotations

import abc
import enum
import functools
import io
import pickle
import typing
from dataclasses import dataclass, field

import msgspec
import pydantic
import torch

import multipy_actors as multipy

T = typing.TypeVar("T")


class Slotted:
    __slots__ = ("__hidden", "x")

    def __init__(self, x):
        self.x = x
        self.__hidden = -x

    def hidden(self):
        return self.__hidden


@dataclass(slots=True)
class Box:
    x: int
    more: list[Box] = field(default_factory=list)


@dataclass(slots=True, frozen=True)
class Fixed:
    x: int


class Plugin:
    known: typing.ClassVar[dict[str, type]] = {}

    def __init_subclass__(cls, *, key, **others):
        super().__init_subclass__(**others)
        cls.key = key
        Plugin.known[key] = cls


class First(Plugin, key="first"):
    pass


class Mapping(dict, Plugin, key="mapping"):
    __slots__ = ()


class Meta(abc.ABCMeta):
    def __new__(cls, name, bases, namespace, *, flavour):
        made = super().__new__(cls, name, bases, namespace)
        made.flavour = flavour
        return made

    def __init__(cls, name, bases, namespace, *, flavour):
        super().__init__(name, bases, namespace)


class Sweet(metaclass=Meta, flavour="sweet"):
    @abc.abstractmethod
    def taste(self): ...


class Sweeter(Sweet, flavour="sweeter"):
    def taste(self):
        return super().taste(), self.flavour


class Planet(enum.Enum):
    MERCURY = (3.3, 2.4)
    EARTH = (5.9, 6.3)
    GLOBE = (5.9, 6.3)

    def __init__(self, mass, radius):
        self.mass = mass
        self.radius = radius

    @property
    def density(self):
        return self.mass / self.radius


class Right(enum.IntFlag):
    READ = 1
    WRITE = 2


class Pair(typing.NamedTuple):
    first: int
    second: object = None


class Movie(typing.TypedDict, total=False):
    title: str


class Named(typing.Protocol):
    name: str


@typing.runtime_checkable
class Sized(typing.Protocol):
    def size(self) -> int: ...


class Stack(typing.Generic[T]):
    def __init__(self):
        self.items: list[T] = []

    def size(self):
        return len(self.items)


class Ints(Stack[int]):
    pass


class Positive:
    def __set_name__(self, owner, name):
        self.name = f"_{name}"

    def __get__(self, instance, owner):
        return self if instance is None else getattr(instance, self.name)

    def __set__(self, instance, value):
        if value < 0:
            raise ValueError(value)
        setattr(instance, self.name, value)


class Account:
    balance = Positive()

    def __init__(self, balance):
        self.balance = balance

    @functools.cached_property
    def double(self):
        return 2 * self.balance

    @classmethod
    def of(cls, balance):
        return cls(balance)

    class Part:
        def whole(self):
            return Account(1)


class Event(msgspec.Struct, tag="event", rename="camel", frozen=True):
    my_name: str
    number: int = 3


class Late(Event, tag="late", kw_only=True):
    seen: list[str] = []
    when: float

    def __post_init__(self):
        assert super().my_name is not None
        self.seen.append("made")

    def told(self):
        return f"{self.my_name} at {self.when}"


class Order(pydantic.BaseModel, frozen=True):
    number: int
    parts: list[Order] = []

    @pydantic.field_validator("number")
    @classmethod
    def positive(cls, value):
        assert value > 0
        return value


class Wrong(Exception):
    __slots__ = ("code",)

    def __init__(self, code):
        super().__init__(code)
        self.code = code


class Net(torch.nn.Linear):
    def forward(self, x):
        return super().forward(x) * 2


class Node:
    def __init__(self):
        self.me = self


Node.root = Node()


def use():
    """Use all of these, and return objects of them."""
    assert Slotted(1).hidden() == -1 and not hasattr(Slotted(1), "__dict__")
    assert not hasattr(Box(1), "__dict__") and Box(1, [Box(2)]) == Box(1, [Box(2)])
    assert hash(Fixed(3)) == hash(Fixed(3))
    assert First.key == "first" and Plugin.known["first"] is First
    assert First.__bases__ == (Plugin,) and Mapping.__bases__ == (dict, Plugin)

    class Second(Plugin, key="second"):
        pass

    assert Plugin.known["second"] is Second
    assert Sweeter().taste() == (None, "sweeter")
    assert Planet.EARTH.density == 5.9 / 6.3 and Planet.GLOBE is Planet.EARTH
    assert Planet((3.3, 2.4)) is Planet.MERCURY and pickle.loads(pickle.dumps(Planet.EARTH)) is Planet.EARTH
    assert Right(3) == Right.READ | Right.WRITE
    assert Pair(1)._asdict() == {"first": 1, "second": None} and Pair._fields == ("first", "second")
    assert Movie.__total__ is False and Movie(title="x") == {"title": "x"}
    assert isinstance(Stack(), Sized) and issubclass(Stack, Sized) and Ints.__orig_bases__ == (Stack[int],)
    assert Stack.__parameters__ == (T,) and Stack[int]().size() == 0
    account = Account.of(4)
    assert account.double == 8 and type(Account.Part().whole()) is Account
    try:
        account.balance = -1
    except ValueError:
        pass
    else:
        raise AssertionError("a descriptor does not work")
    assert msgspec.json.encode(Event("e")) == b'{"type":"event","myName":"e","number":3}'
    late = Late("l", when=1.5)
    assert late.told() == "l at 1.5" and late.seen == ["made"] and Late("k", when=2).seen == ["made"]
    assert msgspec.json.decode(msgspec.json.encode(late), type=Late).seen == ["made", "made"]
    try:
        Late("l", 4, [], 1.5)
    except TypeError:
        pass
    else:
        raise AssertionError("fields by name alone are taken by place")
    assert Order(number="3", parts=[Order(number=1)]).parts[0].number == 1
    try:
        Order(number=-1)
    except pydantic.ValidationError:
        pass
    else:
        raise AssertionError("a model does not validate")
    file = io.BytesIO()
    torch.save(Net(2, 2), file)
    file.seek(0)
    assert type(torch.load(file, weights_only=False)) is Net
    assert typing.get_type_hints(Box) == {"x": int, "more": list[Box]}
    assert type(Node.root) is Node and Node.root.me is Node.root
    for obj in (Slotted(1), Box(1), Fixed(2), Pair(1), Order(number=1), Event("e"), late, Node(), Wrong(3)):
        assert type(pickle.loads(pickle.dumps(obj))) is type(obj)
    made = [
        Slotted(1),
        Box(1, [Box(2)]),
        Fixed(2),
        First(),
        Mapping(a=1),
        Sweeter(),
        Planet.EARTH,
        Right.READ,
    ]
    made += [Pair(1), Ints(), account, Event("e"), late, Order(number=1), Wrong(3), Net(1, 1), Node()]
    return [*made, Account.Part()]


def types_of(objects):
    return [type(obj) for obj in objects], [pickle.dumps(obj) for obj in objects]


with multipy.Pool(2) as pool:
    there = pool.submit(use).result()
    here = use()
    assert [type(obj) for obj in there] == [type(obj) for obj in here]
    for future in pool.broadcast(use):
        assert [type(obj) for obj in future.result()] == [type(obj) for obj in here]
    kinds, pickles = pool.submit(types_of, there).result()
    assert kinds == [type(obj) for obj in here]
    assert [type(pickle.loads(data)) for data in pickles] == kinds
    assert Plugin.known.keys() == {"first", "mapping", "second"}
print("all kinds")
