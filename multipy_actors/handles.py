"""Handles of actors: objects that live in interpreters and are called from here.

Model: a `ReplicatedObj` stands for one object with a replica in each of some interpreters of a pool; an actor
is one with a single replica. It owns a mailbox that those interpreters serve: each takes the oldest call when
it is free, so calls go to the least loaded replica, and with one replica they run in the order they were
submitted. Creating posts one request per interpreter, ahead of any call; what is sent, tensors included, is
encoded once and shared by all replicas. When the last reference to the handle goes, the replicas are dropped,
after the calls submitted before.

An `__init__` that raises does not raise here: the calls of that actor do, each with that error.

Threads: any. A handle belongs to the interpreter that made it and cannot be sent to others.
"""

from __future__ import annotations

import difflib
import itertools
import weakref
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from multipy_actors import values
from multipy_actors.errors import ActorClosedError, SerializationError
from multipy_actors.futures import Future
from multipy_actors.interpreter import Interpreter
from multipy_actors.pool import Pool, default_pool

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")

__all__ = ["RemoteMethod", "ReplicatedObj", "create_replicas", "replicate", "resolve_pin"]

_numbers = itertools.count(1)


class RemoteMethod:
    """A method of the object behind a handle. Call it and wait, or `submit` and get a future."""

    def __init__(self, handle: ReplicatedObj[Any], name: str) -> None:
        """For the library alone: take the attribute of a handle."""
        self._handle = handle
        self._name = name

    def submit(self, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call the method on the replica that is free first; its value is the future's."""
        return self._handle._submit(self._name, args, kwargs)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call the method and wait for its value."""
        return self._handle._submit(self._name, args, kwargs).result()

    def __repr__(self) -> str:
        """Name the method and its handle."""
        return f"<RemoteMethod {self._name!r} of {self._handle!r}>"


class _BroadcastMethod:
    """A method that runs on every replica."""

    def __init__(self, handle: ReplicatedObj[Any], name: str) -> None:
        self._handle = handle
        self._name = name

    def submit(self, /, *args: Any, **kwargs: Any) -> list[Future[Any]]:
        """Call the method once on every replica; one future each, in the order of `interpreters`."""
        return self._handle._submit_to_all(self._name, args, kwargs)

    def __call__(self, /, *args: Any, **kwargs: Any) -> list[Any]:
        """Call the method on every replica and wait for the values."""
        return [future.result() for future in self.submit(*args, **kwargs)]


class _Broadcast:
    """`handle.broadcast`: its attributes are methods that run on every replica."""

    def __init__(self, handle: ReplicatedObj[Any]) -> None:
        self._handle = handle

    def __getattr__(self, name: str) -> _BroadcastMethod:
        self._handle._check_method(name)
        return _BroadcastMethod(self._handle, name)


class ReplicatedObj(Generic[T]):
    """A handle of an object that has a copy in one or more interpreters.

    `handle.method(...)` calls and waits, `handle.method.submit(...)` returns a future, `handle(...)` calls
    `__call__`, `handle.broadcast.method.submit(...)` calls all replicas.
    """

    def __init__(self, pool: Pool, interpreters: Sequence[int], cls: type) -> None:
        """For the library alone: handles come from `.remote(...)` and `multipy.replicate`."""
        self._pool = pool
        self._interpreters = list(interpreters)
        self._cls = cls
        self._number = next(_numbers)
        native = pool._native
        self._mailbox = native.open_mailbox(self._interpreters)
        # Runs when the handle goes, and must not keep it alive; the pool's end makes it unnecessary.
        self._finalizer = weakref.finalize(
            self, _drop_replicas, pool, self._mailbox, self._number, self._interpreters
        )
        self._finalizer.atexit = False

    @property
    def interpreters(self) -> list[Interpreter]:
        """The interpreters that hold a replica."""
        return [self._pool.interpreters[index] for index in self._interpreters]

    @property
    def broadcast(self) -> _Broadcast:
        """Its methods run on every replica: `handle.broadcast.method.submit(...)` → list of futures."""
        return _Broadcast(self)

    def __getattr__(self, name: str) -> RemoteMethod:
        """Return the method `name` of the object."""
        self._check_method(name)
        return RemoteMethod(self, name)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call the object itself (its `__call__`) and wait for the value."""
        if not any("__call__" in base.__dict__ for base in self._cls.__mro__):
            raise TypeError(f"{self._cls.__qualname__!r} object is not callable")
        return self._submit("__call__", args, kwargs).result()

    def __repr__(self) -> str:
        """Name the class and the interpreters."""
        where = ", ".join(map(str, self._interpreters))
        state = "closed, " if self._pool._closed else ""
        what = f"{self._cls.__qualname__} ({state}interpreters {where} of {self._pool._name!r})"
        return f"<multipy.ReplicatedObj of {what}>"

    def __reduce__(self) -> Any:
        """Refuse: a handle belongs to the interpreter that made it."""
        raise SerializationError("a handle cannot be sent to another interpreter")

    def _check_method(self, name: str) -> None:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        attribute = getattr(self._cls, name, None)
        if callable(attribute):
            return
        known = [
            each
            for each in dir(self._cls)
            if not each.startswith("_") and callable(getattr(self._cls, each, None))
        ]
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise AttributeError(f"{self._cls.__qualname__!r} has no method {name!r}{hint}")

    def _submit(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Future[Any]:
        self._check_open()
        return self._pool._post(self._mailbox, ["method", self._number, name], args, kwargs)

    def _submit_to_all(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Future[Any]]:
        self._check_open()
        return _post_to_each(self._pool, self._interpreters, ["method", self._number, name], args, kwargs)

    def _check_open(self) -> None:
        if self._pool._closed:
            raise ActorClosedError(f"{self!r}: its pool is closed")


def _post_to_each(
    pool: Pool,
    interpreters: Sequence[int],
    operation: list[Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> list[Future[Any]]:
    """Post one request to several interpreters; it is encoded once, so they share its tensors."""
    data, tensors = values.encode_call(operation, args, kwargs)
    return [Future(pool._native.post(pool._mailbox(index), data, tensors)) for index in interpreters]


def _drop_replicas(pool: Pool, mailbox: int, number: int, interpreters: list[int]) -> None:
    """Drop the replicas after the calls submitted so far, then the mailbox."""
    if pool._closed:
        return
    pool._displace(interpreters)
    left = itertools.count(len(interpreters) - 1, -1)

    def dropped(_: Any) -> None:
        if next(left) == 0:
            pool._native.close_mailbox(mailbox)

    for future in _post_to_each(pool, interpreters, ["drop", number], (), {}):
        future.add_done_callback(dropped)


def create_replicas(
    cls: Callable[..., T],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    pool: Pool | None,
    replicas: int | str,
    interpreter: Interpreter | int | None,
) -> ReplicatedObj[T]:
    """Have `cls(*args, **kwargs)` made in the interpreters the options choose; returns at once."""
    chosen_pool, chosen = _choose(pool, replicas, interpreter)
    handle: ReplicatedObj[T] = ReplicatedObj(chosen_pool, chosen, cls)  # type: ignore[arg-type]
    _post_to_each(chosen_pool, chosen, ["create", handle._number, cls], args, kwargs)
    return handle


def replicate(obj: T, pool: Pool | None = None) -> ReplicatedObj[T]:
    """Copy `obj` (an `nn.Module`, say) into every interpreter of `pool`; its tensors are shared."""
    chosen_pool, chosen = _choose(pool, "all", None)
    handle: ReplicatedObj[T] = ReplicatedObj(chosen_pool, chosen, type(obj))
    for future in _post_to_each(chosen_pool, chosen, ["adopt", handle._number], (obj,), {}):
        future.result()
    return handle


def resolve_pin(pool: Pool | None, interpreter: Interpreter | int | None) -> tuple[Pool, int | None]:
    """Return the pool that the options mean, and the number of the interpreter if one is chosen."""
    if isinstance(interpreter, Interpreter):
        if pool is not None and interpreter._pool is not pool:
            raise ValueError(f"{interpreter!r} is not in {pool!r}")
        return interpreter._pool, interpreter.id
    pool = pool or default_pool()
    if interpreter is not None and not 0 <= interpreter < len(pool):
        raise ValueError(f"{pool!r} has no interpreter {interpreter}")
    return pool, interpreter


def _choose(
    pool: Pool | None, replicas: int | str, interpreter: Interpreter | int | None
) -> tuple[Pool, list[int]]:
    pool, interpreter = resolve_pin(pool, interpreter)
    if interpreter is not None:
        if replicas not in (1, "all"):
            raise ValueError("an actor that is pinned to one interpreter has one replica")
        with pool._lock:
            pool._actor_counts[interpreter] += 1
        return pool, [interpreter]
    if replicas == "all":
        return pool, pool._place(len(pool))
    if not isinstance(replicas, int) or isinstance(replicas, bool) or not 1 <= replicas <= len(pool):
        raise ValueError(
            f'replicas must be "all" or from 1 to {len(pool)}, the interpreters of the pool, not {replicas!r}'
        )
    return pool, pool._place(replicas)
