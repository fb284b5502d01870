"""The decorator `@multipy.remote`, for classes and functions.

Model: a decorated class stays itself; it gains `remote`, which makes an actor, and `options`, which chooses
where. A decorated function stays itself; it gains `submit` and `options`. Subclasses of a decorated class
inherit both and make actors of their own class. The base class `Actor` gives a class the same two; checkers
know of inheritance, while mypy takes no notice of what a decorator does to a class.

Everything here is stateless and may be used from any thread. What is decorated may be defined in `__main__`:
it travels by value; if it is defined in an importable module it travels by name, so the interpreters import
that module.
"""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from multipy_actors.actors.creation import create_replicas, gpu_number
from multipy_actors.actors.handle import ReplicatedObj
from multipy_actors.batching import batches_for, batches_of, is_batch_size, is_batch_wait
from multipy_actors.description import members_of
from multipy_actors.pool.default import resolve_pin
from multipy_actors.pool.pool import Pool
from multipy_actors.wire.sharing import ARRAYS, chosen_level

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Literal, TypedDict

    from typing_extensions import Unpack

    from multipy_actors.futures import Future
    from multipy_actors.pool.interpreter import Interpreter
    from multipy_actors.wire.sharing import Share

    class FunctionOptions(TypedDict, total=False):
        """The options of a function, for checkers; `remote` explains them."""

        pool: Pool | None
        interpreter: Interpreter | int | None
        share: Share | None
        copy: bool | None

    class ActorOptions(FunctionOptions, total=False):
        """The options of a class, for checkers; `remote` explains them."""

        replicas: int | Literal["all"]
        name: str | None
        max_pending: int | None
        on_full: Literal["wait", "raise"]
        timeout: float | None
        max_concurrency: int | None
        max_batch_size: int | None
        batch_wait: float | None
        device: str | int | None
        max_restarts: int
        max_task_retries: int


T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C", bound=type)

__all__ = ["Actor", "remote"]

_CLASS_OPTIONS = (
    "pool",
    "replicas",
    "interpreter",
    "name",
    "max_pending",
    "on_full",
    "timeout",
    "max_concurrency",
    "max_batch_size",
    "batch_wait",
    "device",
    "share",
    "copy",
    "max_restarts",
    "max_task_retries",
)
_FUNCTION_OPTIONS = ("pool", "interpreter", "share", "copy")


class _ActorClass(Generic[P, T]):
    """What `cls.options(...)` returns: `remote` makes an actor as the options say."""

    def __init__(self, cls: type[T], options: dict[str, Any]) -> None:
        self._cls = cls
        self._options = options

    def remote(self, /, *args: P.args, **kwargs: P.kwargs) -> ReplicatedObj[T]:
        """Make the actor; returns at once. What `__init__` raises, the actor's calls raise."""
        _check_arguments(self._cls, args, kwargs)
        return create_replicas(self._cls, args, kwargs, **self._options)

    def options(self, **options: Unpack[ActorOptions]) -> _ActorClass[P, T]:
        """Choose more options; later ones win."""
        chosen: dict[str, Any] = {**options}
        _check_options(chosen, _CLASS_OPTIONS)
        chosen = {**self._options, **chosen}
        if chosen.get("max_batch_size") is not None:
            batches_for(self._cls, chosen["max_batch_size"], chosen.get("batch_wait"))
        return _ActorClass(self._cls, chosen)

    def __repr__(self) -> str:
        """Name the class and the options."""
        return f"<actor class {self._cls.__qualname__} with {self._options}>"


class _ForClass:
    """An attribute of a decorated class that is about whichever subclass it is read from."""

    is_for_classes = True  # and so no member of the actors

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, owner: type) -> Any:
        return getattr(_ActorClass(owner, {}), self._name)


class Actor:
    """A base class that gives `remote` and `options` as `@multipy.remote` does, in a way checkers understand.

    With it `Embedder.remote(...)` is checked by the signature of `__init__` and gives a
    `ReplicatedObj[Embedder]`. The class stays an ordinary one otherwise; decorating it as well does no harm.
    """

    if TYPE_CHECKING:

        @classmethod
        def remote(cls: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> ReplicatedObj[T]:
            """Make the actor; returns at once. What `__init__` raises, the actor's calls raise."""
            ...

        @classmethod
        def options(cls: Callable[P, T], **options: Unpack[ActorOptions]) -> _ActorClass[P, T]:
            """Choose where and how actors are made; `multipy.remote` lists the options."""
            ...
    else:
        remote = _ForClass("remote")
        options = _ForClass("options")

        def __init_subclass__(cls, **arguments: Any) -> None:
            """Refuse a class with members that handles hide, or that cannot take batches."""
            super().__init_subclass__(**arguments)
            _refuse_members(cls)


class _RemoteFunction(Generic[P, R]):
    """The `submit`, `map` and `options` of a decorated function."""

    def __init__(self, function: Callable[P, R], options: dict[str, Any]) -> None:
        self._function = function
        self._options = options

    def submit(self, /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Run the function in an interpreter; its value is the future's."""
        pool, interpreter = resolve_pin(self._options.get("pool"), self._options.get("interpreter"))
        return pool._submit_to(interpreter, self._function, args, kwargs, self._share(pool))

    def map(
        self, /, *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1
    ) -> Iterator[R]:
        """Return the values of the function over the zipped iterables, in their order, as `Pool.map` does."""
        pool, interpreter = resolve_pin(self._options.get("pool"), self._options.get("interpreter"))
        if interpreter is not None:
            raise ValueError("map spreads its calls over the pool; the option 'interpreter' is for submit")
        return pool._map(self._function, iterables, timeout, chunksize, None, self._share(pool))

    def _share(self, pool: Pool) -> Share:
        return chosen_level(self._options.get("share"), self._options.get("copy"), pool._share)

    def options(self, **options: Unpack[FunctionOptions]) -> _RemoteFunction[P, R]:
        """Choose where it runs; later options win."""
        chosen: dict[str, Any] = {**options}
        _check_options(chosen, _FUNCTION_OPTIONS)
        return _RemoteFunction(self._function, {**self._options, **chosen})

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the function here."""
        return self._function(*args, **kwargs)


class _FunctionAttribute:
    """`submit`, `map` or `options` of a decorated function; unlike a bound method it travels along."""

    def __init__(self, function: Callable[..., Any], name: str) -> None:
        self._function = function
        self._name = name

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        method: Callable[..., Any] = getattr(_RemoteFunction(self._function, {}), self._name)
        return method(*args, **kwargs)


@overload
def remote(target: C) -> C: ...  # type: ignore[overload-overlap]
@overload
def remote(target: Callable[P, R]) -> _RemoteFunction[P, R]: ...
def remote(target: Any) -> Any:
    """Make actors of a class, or remote calls of a function; the class or function stays what it is.

    A class gains `.remote(...)`, which makes an actor and returns its handle, and `.options(...)` for it:

    - `pool`: where; default: the default pool
    - `replicas`: in how many interpreters, or "all"; default: 1
    - `interpreter`: which one, by number or as an `Interpreter`
    - `name`: under which `multipy.get_actor` finds it, as long as somebody holds a handle
    - `max_pending`: how many calls may wait for it; with `on_full="wait"` (the default) callers wait when
      there are as many, with "raise" they get MailboxFullError. Calls to one replica by `on`, and broadcasts,
      are not counted
    - `timeout`: seconds, from when it is submitted, after which a call ends with TimeoutError; the code that
      runs it is interrupted. `__init__` has as long from when it begins
    - `max_concurrency`: how many calls of one replica may be under way at once; the others wait in their
      order. Of a class with `async def` methods, all methods of which run on an event loop, these are
      coroutines (default: 100); of others, methods on threads (default: 1). `__init__` runs alone
    - `max_batch_size`: how many calls run as one, at most, of each method that `@multipy.batch` marks, in
      place of what the mark says. Without marks it is for a class with one public method, which takes
      batches then as if it were marked; ValueError if there are several
    - `device`: the GPU that is the current one when its code runs, which torch calls "cuda": "cuda:1", 1, or
      "auto", with which replicas, and actors one after the other, get one GPU after the other
    - `share`: what calls, `__init__` among them, and their results share: "arrays" (tensors, arrays and large
      buffers, but not those inside data frames and estimators, which are copied), "all" (those too) or
      "nothing" (everything is copied, as processes do). Default: as the pool says
    - `copy`: True is short for `share="nothing"`, False for `share="arrays"`
    - `batch_wait`: seconds for which the first call of a batch waits for more, for the same methods. Default:
      as the mark says, or 0, only those that are queued already
    - `max_restarts`: how often a replica is made anew, from the arguments of its class, when its interpreter
      has ended and a pool with `restart=True` replaces it; -1: always. Default: 0
    - `max_task_retries`: how often a call is made again whose replica is made anew while it runs or waits;
      -1: as often as that happens. Default: 0, such calls fail with InterpreterDiedError

    A function gains `.submit(...)`, `.map(...)` and `.options(pool=, interpreter=, share=, copy=)`. For a
    single call of an actor it is `handle.method.options(share=, copy=)`.
    """
    names = ("remote", "options") if isinstance(target, type) else ("submit", "map", "options")
    if not isinstance(target, type) and not inspect.isfunction(target):
        raise TypeError(f"@multipy.remote takes a class or a function, not {type(target).__name__}")
    if isinstance(target, type):
        _refuse_members(target)
    for name in names:
        present = inspect.getattr_static(target, name, None)
        if present is not None and not isinstance(present, (_ForClass, _FunctionAttribute)):
            text = f"{target.__qualname__} has an attribute {name!r} already, which @multipy.remote adds"
            raise TypeError(text)
        attribute = _ForClass(name) if isinstance(target, type) else _FunctionAttribute(target, name)
        setattr(target, name, attribute)
    return target


_HIDING = frozenset(name for name in vars(ReplicatedObj) if not name.startswith("_"))


def _refuse_members(cls: type) -> None:
    """Raise TypeError if `cls` itself defines what no handle of it would lead to, or a mark is misplaced."""
    batches_of(cls)
    for name in _HIDING.intersection(vars(cls), members_of(cls)):
        raise TypeError(
            f"{cls.__qualname__}.{name} would be hidden by what every handle has under that name "
            f"(handle.{name}): give it another one"
        )


def _check_options(options: dict[str, Any], known: tuple[str, ...]) -> None:
    for name in options:
        if name not in known:
            raise TypeError(f"unknown option {name!r}; known are {', '.join(known)}")
    pool = options.get("pool")
    if pool is not None and not isinstance(pool, Pool):
        raise TypeError(f"option 'pool' must be a multipy.Pool, not {type(pool).__name__}")
    chosen_level(options.get("share"), options.get("copy"), ARRAYS)
    for name, (fits, wanted) in _CHECKS.items():
        value = options.get(name)
        if value is not None and not fits(value):
            raise ValueError(f"option {name!r} must be {wanted}, not {value!r}")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_repetition(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -1 <= value < 2**31


def _is_duration(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0


def _is_gpu(value: Any) -> bool:
    return value == "auto" or gpu_number(value) is not None


_CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "name": (lambda value: isinstance(value, str) and value != "", "a string that is not empty"),
    "max_pending": (_is_count, "a positive int"),
    "on_full": (lambda value: value in ("wait", "raise"), '"wait" or "raise"'),
    "timeout": (_is_duration, "a positive number of seconds"),
    "max_concurrency": (_is_count, "a positive int"),
    "max_batch_size": (is_batch_size, "a positive int"),
    "device": (_is_gpu, '"cuda:1" for example, the number of a GPU, or "auto"'),
    "max_restarts": (_is_repetition, "the number of restarts, or -1 for any"),
    "max_task_retries": (_is_repetition, "the number of retries, or -1 for any"),
    "batch_wait": (is_batch_wait, "a number of seconds, or 0"),
}


@functools.lru_cache(maxsize=256)
def _signature_of(cls: type) -> inspect.Signature | None:
    try:
        return inspect.signature(cls)
    except (TypeError, ValueError):
        return None


def _check_arguments(cls: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Let wrong arguments of `__init__` fail here, where the user's code is, not in the interpreter."""
    signature = _signature_of(cls)
    if signature is not None:
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{cls.__qualname__}: {error}") from None
