# requires: torch, msgspec, pydantic
# seconds: 240
# Classes whose bases or metaclasses have hooks: in an interpreter they are what they are here, whatever they
# are laid out like, and what the hooks did has happened once.
import abc
import collections
import dataclasses
import enum
import inspect
import os
import sys
import tempfile
import typing

import msgspec
import pydantic
import torch

import multipy_actors as multipy

LIBRARY = """
noted = []

class Base:
    def __init_subclass__(cls, kind="usual", **options):
        super().__init_subclass__(**options)
        noted.append((cls.__name__, kind))

class NeedsKind:
    def __init_subclass__(cls, *, kind):
        noted.append((cls.__name__, kind))
        cls.kind = kind

def make():
    class Outer:
        made = []
        def __init_subclass__(cls):
            Outer.made.append(cls.__name__)

    class Inner(Outer):
        pass

    return Inner
"""

folder = tempfile.mkdtemp()
with open(os.path.join(folder, "a_library.py"), "w") as file:
    file.write(LIBRARY)
sys.path.append(folder)
import a_library  # noqa: E402

T = typing.TypeVar("T")
ran = []  # each time that a hook runs
registry = {}


class Hooked:
    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        ran.append(cls.__name__)


class Plain(Hooked):
    pass


class Grandchild(Plain):
    pass


class Slots(Hooked):
    __slots__ = ("a",)


class NoSlots(Hooked):
    __slots__ = ()


class Slotted:
    __slots__ = ("__hidden", "a")

    def __init_subclass__(cls):
        ran.append(cls.__name__)

    def __init__(self):
        self.a, self.__hidden = 1, 2

    def hidden(self):
        return self.__hidden


class OnSlotted(Slotted):
    pass


class SlotsOnSlotted(Slotted):
    __slots__ = ("__hidden", "b")


class WeakOnSlotted(Slotted):
    __slots__ = ("__weakref__",)


class DictOnSlotted(SlotsOnSlotted):
    __slots__ = ("__dict__",)


class OfDict(dict, Hooked):
    pass


class OfInt(Hooked, int):
    __slots__ = ()


class OfTuple(Hooked, tuple):
    pass


class OfError(Hooked, ValueError):
    pass


class Coded(Exception):
    def __init_subclass__(cls, *, code):
        ran.append(cls.__name__)
        cls.code = code


class OfCoded(Coded, code=3):
    pass


class OfOrdered(Hooked, collections.OrderedDict):
    __slots__ = ("extra",)


class Other:
    pass


class SecondOfTwo(Other, Hooked):
    pass


class FirstOfTwo(Hooked, Other):
    pass


class ThirdOfTwo(Hooked, typing.Sized):
    def __len__(self):
        return 5


class Diamond(FirstOfTwo, ThirdOfTwo):
    def __init__(self):
        super().__init__()


class Abstract(abc.ABC):
    def __init_subclass__(cls):
        ran.append(cls.__name__)

    @abc.abstractmethod
    def f(self): ...


class StillAbstract(Abstract):
    pass


class Concrete(Abstract):
    def f(self):
        return super().f()


Abstract.register(Other)


class Container(typing.Generic[T]):
    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        ran.append(cls.__name__)


class OfInts(Container[int]):
    pass


class OfAnything(Container[T], typing.Generic[T]):
    pass


class BehindGeneric(typing.Generic[T], Hooked):
    pass


class HookBehindLibrary(BehindGeneric):
    pass


class Shape(typing.Protocol):
    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        ran.append(cls.__name__)

    def area(self): ...


class Square(Shape):
    def area(self):
        return 4


class Meta(type):
    def __new__(cls, name, bases, namespace, **options):
        ran.append(f"new {name}")
        return super().__new__(cls, name, bases, namespace, **options)

    def __init__(cls, name, bases, namespace, **options):
        ran.append(f"init {name}")

    def __init_subclass__(cls):
        ran.append(cls.__name__)

    def __setattr__(cls, name, value):
        super().__setattr__(name, value)
        type.__setattr__(cls, "changed", name)


class SubMeta(Meta):
    def mro(cls):
        return [*super().mro()]


class Constant(type):
    def __setattr__(cls, name, value):
        raise AttributeError("it is constant")

    def __delattr__(cls, name):
        raise AttributeError("it is constant")


class Limits(Hooked, metaclass=Constant):
    low = 1

    def both(self):
        return self.low, Limits.low


class OfMeta(metaclass=Meta):
    def __init_subclass__(cls, **options):
        ran.append(cls.__name__)


class OfSubMeta(OfMeta, metaclass=SubMeta, option=1):
    pass


class AbstractMeta(abc.ABCMeta):
    def __init__(cls, name, bases, namespace):
        super().__init__(name, bases, namespace)
        ran.append(name)


class OfAbstractMeta(Hooked, metaclass=AbstractMeta):
    @abc.abstractmethod
    def f(self): ...


class Colour(enum.Enum):
    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        ran.append(cls.__name__)

    def shout(self):
        return self.name + "!"


class Light(Colour):
    RED = 1
    GREEN = 2


class Level(Hooked, enum.IntEnum):
    LOW = 1
    HIGH = 2


@dataclasses.dataclass
class Data:
    x: int = 1

    def __init_subclass__(cls):
        ran.append(cls.__name__)
        cls.tag = cls.__name__


@dataclasses.dataclass
class MoreData(Data):
    y: int = 2


@dataclasses.dataclass(slots=True)
class SlotData(Hooked):
    z: int = 3


class Layer(torch.nn.Module):
    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        ran.append(cls.__name__)


class Linear(Layer):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(1, 1)

    def forward(self, x):
        return self.inner(x)


class Struct(msgspec.Struct):
    x: int = 1

    def __init_subclass__(cls, **options):
        ran.append(cls.__name__)


class SubStruct(Struct):
    y: str = ""


class Model(pydantic.BaseModel):
    x: int = 1

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        ran.append(cls.__name__)


class SubModel(Model):
    y: list[int] = []


class Named:
    def __set_name__(self, owner, name):
        ran.append(f"{owner.__name__}.{name}")


class WithNamed(Hooked):
    field = Named()


class OfLibrary(a_library.Base):
    pass


class PassesOn(a_library.Base):
    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        ran.append(cls.__name__)


class PassedOn(PassesOn):
    pass


class KeepsBack(a_library.Base):
    def __init_subclass__(cls, **options):
        ran.append(cls.__name__)


class KeptBack(KeepsBack):
    pass


class WithKind(a_library.NeedsKind, kind="special"):
    pass


class Steps:
    def wash(self): ...
    def dry(self): ...
    def fold(self): ...

    limit = None


class MoreSteps(Steps, Hooked):
    def iron(self): ...

    dry = Steps.dry
    limit = None


class KnowsItself:
    subclasses: typing.ClassVar[list[type]] = []

    def __init_subclass__(cls, key=None, **options):
        KnowsItself.subclasses.append(cls)
        registry[key] = cls
        cls.home = KnowsItself


class Known(KnowsItself, key="known"):
    pass


class KnownToo(Known, key="too"):
    def up(self):
        return super().home, KnownToo.home


def made_inside():
    class Base:
        made: typing.ClassVar[list[str]] = []

        def __init_subclass__(cls):
            Base.made.append(cls.__name__)

    class Inner(Base):
        pass

    return Inner


Inner = made_inside()
InnerOfLibrary = a_library.make()
CLASSES = [
    value
    for value in list(globals().values())
    if isinstance(value, type) and value.__module__ == "__main__" and value is not Named
]


# What Python adds when it is first asked for, keeps elsewhere, or need not be there.
LATE = (
    "__hash__",
    "__annotations__",
    "__annotations_cache__",
    "__firstlineno__",
    "__slotnames__",
    "__static_attributes__",
    "_abc_impl",
    "changed",
)


def about(cls):
    """What can be told of a class, in any interpreter."""
    told = [cls.__name__, cls.__qualname__, cls.__module__, type(cls).__name__]
    told += [[base.__name__ for base in bases] for bases in (cls.__bases__, cls.__mro__)]
    told += [cls.__basicsize__, cls.__dictoffset__, cls.__weakrefoffset__, cls.__itemsize__]
    told += [inspect.isabstract(cls), sorted(getattr(cls, "__abstractmethods__", ()))]
    own = {name for name in vars(cls) if name not in LATE}
    told += [sorted(own)]
    subclasses = {subclass.__name__ for subclass in type.__subclasses__(cls)}
    told += [sorted(subclasses - {"Actor"})]  # which is sent when it is made
    return told


def about_all(classes):
    return [about(cls) for cls in classes]


def hidden_parts():
    return [cls().hidden() for cls in (OnSlotted, SlotsOnSlotted, WeakOnSlotted, DictOnSlotted)]


def kinds():
    diamond, linear = Diamond(), Linear()
    return [
        OfDict(a=1),
        Limits().both(),
        OfInt(3) + 1,
        tuple(OfTuple((1, 2))),
        str(OfError("text")),
        OfCoded.code,
        OfOrdered(a=2),
        diamond.__dict__,
        issubclass(Other, Abstract),
        Concrete().f(),
        OfInts.__orig_bases__[0].__args__[0].__name__,
        OfAnything[str]().__orig_class__.__args__[0].__name__,
        Square().area(),
        [member.shout() for member in Light],
        Light(2) is Light.GREEN,
        Level.LOW < Level.HIGH,
        (MoreData(5), MoreData.tag),
        SlotData(4).z,
        linear(torch.zeros(1, 1)).shape,
        SubStruct(x=3, y="z").y,
        SubModel(x="5").x,
    ]


def registries():
    same = [cls is registry[key] for cls, key in ((Known, "known"), (KnownToo, "too"))]
    both = [cls.__name__ for cls in KnowsItself.subclasses]
    return same, both, KnownToo.home is KnowsItself, KnownToo().up() == (KnowsItself, KnowsItself)


def hooks_that_ran():
    return list(ran)


def noted_by_library():
    return sorted(name for name, kind in a_library.noted if kind == "usual"), WithKind.kind


def order_of_definition():
    """Return what is in classes, in that order; what it inherits anyway is a class's own as well."""
    names = [[name for name in vars(cls) if not name.startswith("__")] for cls in (Steps, MoreSteps)]
    Steps.limit = 5
    limit = MoreSteps.limit
    Steps.limit = None
    return names, limit


def a_new_one():
    """Hooks are in force for what is defined later."""
    before = len(ran)

    class Late(Plain):
        pass

    class LateLight(Colour):
        ON = 1

    class LateStruct(Struct):
        z: int = 0

    return ran[before:]


def made_and_returned():
    class Base:
        def __init_subclass__(cls, **options):
            cls.number = getattr(Base, "number", 0) + 1

    class Kid(Base):
        pass

    return Kid()


@multipy.remote
class Actor(Hooked):
    def name(self):
        return type(self).__name__, list(ran)


if __name__ == "__main__":
    everything = repr(kinds()), about_all(CLASSES), registries(), hooks_that_ran()
    asked = [lambda: repr(kinds()), lambda: about_all(CLASSES), registries, hooks_that_ran]
    with multipy.Pool(1) as pool:
        for expected, ask in zip(everything, asked, strict=True):
            got = pool.submit(ask).result()
            if isinstance(got, list):
                for mine, other in zip(expected, got, strict=True):
                    assert mine == other, (mine, other)
            assert got == expected, (got, expected)
        assert pool.submit(hidden_parts).result() == hidden_parts() == [2, 2, 2, 2]
        assert pool.submit(hooks_that_ran).result() == ran
        assert pool.submit(a_new_one).result() == a_new_one() == ["Late", "LateLight", "LateStruct"]
        assert pool.submit(noted_by_library).result() == noted_by_library()
        assert pool.submit(order_of_definition).result() == order_of_definition()
        kid = pool.submit(made_and_returned).result()
        assert type(kid).__name__ == "Kid" and kid.number == 1
        assert type(kid).__base__.__subclasses__() == [type(kid)]
        assert pool.submit(Inner.mro).result() == Inner.mro()
        assert pool.submit(lambda: Inner.made).result() == ["Inner"] == Inner.made
        assert pool.submit(lambda: InnerOfLibrary.made).result() == ["Inner"] == InnerOfLibrary.made
        assert Actor.options(pool=pool).remote().name()[0] == "Actor"
    alone = (
        Limits,
        Slots,
        DictOnSlotted,
        Diamond,
        Concrete,
        OfInts,
        OfSubMeta,
        Level,
        SubStruct,
        SubModel,
        KnownToo,
    )
    for cls in alone:  # the first that arrives
        with multipy.Pool(1) as pool:
            assert pool.submit(lambda cls=cls: cls.__name__).result() == cls.__name__
            assert pool.submit(about, cls).result()[:12] == about(cls)[:12], cls
            assert pool.submit(lambda cls=cls: cls).result() is cls
    print("ok")
