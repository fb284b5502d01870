"""Handles of actors: objects that live in interpreters and are called from anywhere.

Model: a `ReplicatedObj` stands for one object with a replica in each of some interpreters of a pool; an actor
is one with a single replica. What all handles of it share is a `_native.Actor` in the core: a mailbox that
those interpreters serve. Each takes the oldest call when it is free, so calls go to the least loaded replica,
and with one replica they run in the order they were submitted. Creating posts one request per interpreter,
ahead of any call; what is sent, tensors included, is encoded once and shared by all replicas. When the last
reference to the actor goes, in whichever interpreter, the replicas are dropped, after the calls submitted
before.

A handle knows what it stands for by a description (`description.py`), so that an interpreter which is handed
one need not import the class. Actors are made in the module of that name.

The object itself may hold a handle of its actor: that alone does not keep it (see own_actor).

An `__init__` that raises does not raise here: the calls of that actor do, each with that error.

Threads: any. A handle may be sent to any interpreter of the process, and a call from one to another does not
pass through the host's Python.
"""

from __future__ import annotations

import difflib
import sys
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

from multipy_actors import _native, protocol, wire
from multipy_actors.actors.own_actor import OwnActor, is_called_here
from multipy_actors.actors.stream import Stream
from multipy_actors.description import description_of
from multipy_actors.errors import (
    ActorClosedError,
    InterpreterDiedError,
    MultipyError,
    PoolClosedError,
    SerializationError,
)
from multipy_actors.futures import Future, give_up, value_of
from multipy_actors.pool import module_level
from multipy_actors.pool.default import resolve_pin
from multipy_actors.pool.interpreter import Interpreter
from multipy_actors.pool.pool import Pool
from multipy_actors.wire import references
from multipy_actors.wire.sharing import chosen_level

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator

    from typing_extensions import Self

    from multipy_actors.wire.sharing import Share

T = TypeVar("T")
P = ParamSpec("P")
R = TypeVar("R")

__all__ = ["RemoteMethod", "ReplicatedObj"]


class RemoteMethod(Generic[P, R]):
    """A method of the object behind a handle. Call it and wait, or `submit` and get a future."""

    def __init__(self, handle: ReplicatedObj[Any], name: str, share: Share | None = None) -> None:
        """For the library alone: take the attribute of a handle."""
        self._handle = handle
        self._name = name
        self._share = share

    def options(self, *, share: Share | None = None, copy: bool | None = None) -> RemoteMethod[P, R]:
        """Return the method with another choice of what its calls share; `multipy.remote` lists them."""
        return RemoteMethod(self._handle, self._name, chosen_level(share, copy, self._handle._share))

    def submit(self, /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Call the method on the replica that is free first; its value is the future's."""
        return self._handle._submit(self._name, args, kwargs, self._share)

    def map(self, /, *iterables: Iterable[Any], timeout: float | None = None) -> Iterator[R]:
        """Call the method once for each of the zipped items; iterate over the values, in their order.

        All calls are submitted at once (as far as `max_pending` lets them), and go to whichever replica is
        free. `timeout` bounds the wait for each value from now on, in seconds.
        """
        submit: Callable[..., Future[R]] = self.submit
        calls: list[Future[R]] = []
        try:
            for items in zip(*iterables, strict=False):
                calls.append(submit(*items))
        except BaseException as error:
            give_up(calls, error)
            raise
        return _results(calls, timeout)

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the method and wait for its value."""
        value: R = value_of(self._handle._submit(self._name, args, kwargs, self._share))
        return value

    def stream(self, /, *args: P.args, **kwargs: P.kwargs) -> Stream[Any]:
        """Call a generator method; iterate over what it yields, with `for` or `async for`.

        The generator runs on the replica that is free first, a little ahead of its reader, and is closed
        when the stream is (see `multipy_actors.actors.stream`). The option `timeout` bounds the wait for each
        piece of it. Raises TypeError if the method is no generator.
        """
        if self._name not in self._handle._generators:
            kind, name = self._handle._members[self._name], f"{self._handle._actor.label}.{self._name}"
            raise TypeError(f"only generator methods stream, and {name} is a {kind}: use .submit(...)")
        return Stream(self._handle, self._name, args, kwargs, self._share)

    def __repr__(self) -> str:
        """Name the method and its handle."""
        return f"<RemoteMethod {self._name!r} of {self._handle!r}>"


if TYPE_CHECKING:

    class _GeneratorMethod(Generic[P, R]):
        """A RemoteMethod of a generator, which can only be streamed."""

        def stream(self, /, *args: P.args, **kwargs: P.kwargs) -> Stream[R]: ...
        def options(self, *, share: Share | None = None, copy: bool | None = None) -> Self: ...


def _results(futures: list[Future[R]], timeout: float | None) -> Iterator[R]:
    import time

    deadline = None if timeout is None else time.monotonic() + timeout
    futures.reverse()
    try:
        while futures:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            # It stays in line until it is done: who gives up on it has it cancelled as well.
            value = futures[-1].result(left)
            futures.pop()
            yield value
            del value
    except BaseException as error:
        give_up(futures, error)
        raise


class _BroadcastMethod(Generic[P, R]):
    """A method that runs on every replica."""

    def __init__(self, handle: ReplicatedObj[Any], name: str, share: Share | None = None) -> None:
        self._handle = handle
        self._name = name
        self._share = share

    def options(self, *, share: Share | None = None, copy: bool | None = None) -> _BroadcastMethod[P, R]:
        """Return the method with another choice of what its calls share; `multipy.remote` lists them."""
        return _BroadcastMethod(self._handle, self._name, chosen_level(share, copy, self._handle._share))

    def submit(self, /, *args: P.args, **kwargs: P.kwargs) -> list[Future[R]]:
        """Call the method once on every replica; one future each, in the order of `interpreters`."""
        return self._handle._submit_to_all(self._name, args, kwargs, self._share)

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> list[R]:
        """Call the method on every replica and wait for the values."""
        futures = self.submit(*args, **kwargs)
        try:
            return [future.result() for future in futures]
        except BaseException as error:
            give_up(futures, error)
            raise


class _Broadcast(Generic[T]):
    """`handle.broadcast`: its attributes are methods that run on every replica."""

    def __init__(self, handle: ReplicatedObj[T]) -> None:
        self._handle = handle

    __iter__ = None

    @overload
    def __getitem__(
        self, method: Callable[Concatenate[T, P], Coroutine[Any, Any, R]]
    ) -> _BroadcastMethod[P, R]: ...
    @overload
    def __getitem__(self, method: Callable[Concatenate[T, P], R]) -> _BroadcastMethod[P, R]: ...
    def __getitem__(self, method: Callable[..., Any]) -> _BroadcastMethod[..., Any]:
        """Return the method that the class has as `method`, as `handle[...]` does."""
        return _BroadcastMethod(self._handle, self._handle._name_of(method))

    def __getattr__(self, name: str) -> _BroadcastMethod[..., Any]:
        self._handle._kind_of(name)
        return _BroadcastMethod(self._handle, name)


class ReplicatedObj(Generic[T]):
    """A handle of an object that has a copy in one or more interpreters.

    `handle.method(...)` calls and waits, `handle.method.submit(...)` returns a future, `handle(...)` calls
    `__call__`, `handle.broadcast.method.submit(...)` calls all replicas. A property of the object is fetched
    when the handle's is read. Used in a `with` statement, it enters and leaves the object.

    To a type checker, what an attribute of a handle gives is Any. `handle[Embedder.embed]` is the same method
    as `handle.embed`, and is checked and completed by its signature.

    Handles compare equal if they stand for the same object (and are pinned alike). An attribute that handles
    have themselves (`on`, `unload`, ...) hides a method of that name: `@multipy.remote` refuses a class that
    defines one, and what a class inherits is reached as `handle[Class.method]`. Attributes of the object
    cannot be set through a handle.
    """

    def __init__(self, actor: _native.Actor, pin: int | None = None, pool: Pool | None = None) -> None:
        """For the library alone: handles come from `.remote(...)` and `multipy.replicate`."""
        if is_called_here(actor):
            self._own = OwnActor(actor)  # in place of `_actor`
        else:
            self._actor = actor
        self._pin = pin
        self._pool = pool or Pool._of(actor.pool)
        (
            self._members,
            self._waits,
            self._timeout,
            self._batching,
            self._share,
            self._retries,
            self._generators,
        ) = description_of(actor)

    @property
    def replicas(self) -> int:
        """How many interpreters hold a copy."""
        return len(self._interpreters)

    @property
    def interpreters(self) -> list[Interpreter]:
        """The interpreters that hold a copy."""
        return [self._pool.interpreters[index] for index in self._interpreters]

    @property
    def broadcast(self) -> _Broadcast[T]:
        """Its methods run on every replica: `handle.broadcast.method.submit(...)` → list of futures."""
        return _Broadcast(self)

    def on(self, interpreter: Interpreter | int) -> ReplicatedObj[T]:
        """Return a handle whose calls all go to the replica in `interpreter`."""
        _, index = resolve_pin(self._pool, interpreter)
        if self._pool._lost or self._actor.closed:
            raise self._closed_error()
        if index not in self._interpreters:
            raise ValueError(f"{self!r} has no replica in interpreter {index}")
        return ReplicatedObj(self._actor, index, self._pool)

    def unload(self, interpreter: Interpreter | int | None = None) -> None:
        """Drop the replica in `interpreter`, or all of them, after the calls that run.

        Calls that wait for this replica alone fail with ActorClosedError; others go to the rest of them. With
        the last replica the actor ends, and all calls that wait fail.
        """
        pinned = resolve_pin(self._pool, interpreter)[1]
        chosen = self._interpreters if pinned is None else [pinned]
        error, _ = wire.encode_exception(ActorClosedError(f"{self._name_it()} was unloaded"))
        for index in chosen:
            if not self._actor.unload(index, error) and interpreter is not None:
                raise ValueError(f"{self!r} has no replica in interpreter {index}")

    def hasattr(self, name: str) -> bool:
        """Ask the object, in the interpreter that is free first, whether it has an attribute `name`."""
        found: bool = value_of(self._post(protocol.has(self._actor.number, name), (), {}))
        return found

    def statistics(self) -> dict[str, int]:
        """Return the counts of calls `queued`, `done` and (of these) `failed`, and of `replicas`."""
        actor = self._actor
        # In a forked child nothing is queued, and a lock that guards it may be held for good.
        figures = {
            "queued": 0 if self._pool._lost else actor.queued,
            "done": actor.done,
            "failed": actor.failed,
        }
        return {"replicas": self.replicas, **figures}

    __iter__ = None  # Python would take what has `__getitem__` for a sequence

    @overload
    def __getitem__(
        self, method: Callable[Concatenate[T, P], Coroutine[Any, Any, R]]
    ) -> RemoteMethod[P, R]: ...
    @overload
    def __getitem__(  # type: ignore[overload-overlap]
        self, method: Callable[Concatenate[T, P], Iterator[R] | AsyncIterator[R]]
    ) -> _GeneratorMethod[P, R]: ...
    @overload
    def __getitem__(self, method: Callable[Concatenate[T, P], R]) -> RemoteMethod[P, R]: ...
    def __getitem__(self, method: Callable[..., Any]) -> Any:
        """Return the method that the class has as `method`: `handle[Embedder.embed]` is `handle.embed`."""
        return RemoteMethod(self, self._name_of(method))

    def __dir__(self) -> list[str]:
        """List what the handle has and what the object has, for completion."""
        return sorted({*super().__dir__(), *self._members})

    def __getattr__(self, name: str) -> Any:
        """Return the method `name` of the object, or the value of its property."""
        if name == "_actor" and "_own" in self.__dict__:
            return self._own.now()
        if self._kind_of(name) == "property":
            return value_of(self._post(protocol.get(self._actor.number, name), (), {}))
        return RemoteMethod(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse: it would be an attribute of this handle alone."""
        if not name.startswith("_"):
            raise AttributeError(
                f"{name!r} cannot be set through a handle, as the {self._actor.label!r} is in an "
                "interpreter: give its class a method that sets it, and call that"
            )
        object.__setattr__(self, name, value)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call the object itself (its `__call__`) and wait for the value."""
        if "__call__" not in self._members:
            raise TypeError(f"{self._actor.label!r} object is not callable")
        return value_of(self._submit("__call__", args, kwargs))

    def __enter__(self) -> Any:
        """Enter the object; its value, or this handle where the object returns itself."""
        if "__enter__" not in self._members or "__exit__" not in self._members:
            raise TypeError(f"{self._actor.label!r} object is no context manager")
        is_itself, value = value_of(self._post(protocol.enter(self._actor.number), (), {}))
        return self if is_itself else value

    def __exit__(self, *exception: Any) -> Any:
        """Leave the object. It is told the exception, but not the traceback, which stays where it is."""
        try:
            left = self._submit("__exit__", (*exception[:2], None), {})
        except SerializationError:
            # The object must be left whatever the exception is like; what cannot travel is described to it.
            error = wire.decode_exception(*wire.encode_exception(exception[1]))
            left = self._submit("__exit__", (type(error), error, None), {})
        return value_of(left)

    def __eq__(self, other: object) -> bool:
        """Say whether both stand for the same object and are pinned alike."""
        if not isinstance(other, ReplicatedObj):
            return NotImplemented
        return (self._actor.number, self._pin) == (other._actor.number, other._pin)

    def __hash__(self) -> int:
        """Agree with `==`."""
        return hash((self._actor.number, self._pin))

    def __repr__(self) -> str:
        """Name the class, the name if it has one, the state and the interpreters."""
        state = "closed" if self._pool._lost or self._actor.closed else "alive"
        where = ", ".join(map(str, self._interpreters)) or "none"
        pinned = "" if self._pin is None else f", pinned to {self._pin}"
        what = f"{self._name_it()} ({state}, interpreters {where} of {self._pool._name!r}{pinned})"
        return f"<multipy.ReplicatedObj of {what}>"

    def __copy__(self) -> ReplicatedObj[T]:
        """Return itself: what can be copied is the object, which is elsewhere."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> ReplicatedObj[T]:
        """Return itself, so that what holds handles can be copied."""
        return self

    def __reduce__(self) -> Any:
        """Refuse: only a call of this library takes a handle along."""
        raise TypeError("a handle can only be sent to an interpreter of this process")

    @property
    def _interpreters(self) -> list[int]:
        return [] if self._pool._lost else self._actor.interpreters

    def _name_it(self) -> str:
        named = self._actor.name and not module_level.is_hidden(self._actor.name)
        return f"{self._actor.label} {self._actor.name!r}" if named else self._actor.label

    def _kind_of(self, name: str) -> str:
        """Return what the object's attribute `name` is; AttributeError, naming the nearest, if none."""
        kind = self._members.get(name)
        if kind is not None and not name.startswith("__"):
            return kind
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        near = difflib.get_close_matches(name, self._members, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise AttributeError(f"{self._actor.label!r} has no method {name!r}{hint}")

    def _name_of(self, method: object) -> str:
        name = getattr(method, "__name__", None)
        if not callable(method) or not isinstance(name, str):
            what = type(method).__name__
            raise TypeError(f"a handle is indexed by a method, as handle[Class.method], not by {what}")
        if name != "__call__" or name not in self._members:
            self._kind_of(name)
        return name

    def _submit(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], share: Share | None = None
    ) -> Future[Any]:
        if name in self._generators:
            raise self._generator_error(name)
        operation = protocol.method(self._actor.number, name)
        if name in self._batching and self._pin is None and (args or kwargs):
            # Calls that pass their arguments alike can run together.
            batch = "\n".join([name, str(len(args)), *sorted(kwargs)])
            named = dict(sorted(kwargs.items()))
            return self._post(operation, args, named, batch, share, self._retries)
        return self._post(operation, args, kwargs, None, share, self._retries)

    def _generator_error(self, name: str) -> TypeError:
        text = f"{self._actor.label}.{name} is a generator"
        if name == "__call__":
            return TypeError(f"{text}: give it a name and use handle.<name>.stream(...)")
        return TypeError(f"{text}: use handle.{name}.stream(...)")

    def _post(
        self,
        operation: list[Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        batch: str | None = None,
        share: Share | None = None,
        retries: int = 0,
    ) -> Future[Any]:
        if self._pool._lost:
            raise self._closed_error()
        if sys.path != self._pool._host_paths:
            self._pool._follow_search_paths()
        data, attachments = wire.encode_call(
            operation, args, kwargs, inline=self._pool._inline, share=share or self._share
        )
        try:
            return Future(
                self._actor.post(
                    data, attachments, self._pin, self._waits, self._timeout, batch, retries=retries
                )
            )
        except PoolClosedError:
            raise self._closed_error() from None

    def _submit_to_all(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], share: Share | None
    ) -> list[Future[Any]]:
        if self._pool._lost or self._actor.closed:
            raise self._closed_error()
        if name in self._generators:
            raise self._generator_error(name)
        if sys.path != self._pool._host_paths:
            self._pool._follow_search_paths()
        operation = protocol.method(self._actor.number, name)
        data, attachments = wire.encode_call(
            operation, args, kwargs, inline=self._pool._inline, share=share or self._share
        )
        futures: list[Future[Any]] = []
        try:
            for index in self._interpreters:
                futures.append(Future(self._actor.post(data, attachments, index, self._waits, self._timeout)))
        except BaseException as error:
            give_up(futures, error)
            raise
        return futures

    def _closed_error(self) -> MultipyError:
        is_unloaded = self._pin is not None and self._pin not in self._interpreters
        if not self._pool._lost and not self._actor.closed and not is_unloaded:
            return InterpreterDiedError(f"{self!r}: the interpreters that could run the call have ended")
        if self._actor.lost and not self._pool._closed:
            return InterpreterDiedError(f"{self!r}: its interpreter has ended, and it is not made anew")
        why = "it was killed or unloaded"
        if isinstance(self._actor, OwnActor):
            why = "it has ended, as nobody but itself held a handle of it"
        elif self._pool._closed:
            why = "its pool is closed"
        return ActorClosedError(f"{self!r}: {why}")


def _take_apart(handle: ReplicatedObj[Any]) -> tuple[_native.Actor, tuple[int, ...]]:
    actor = handle._actor
    if isinstance(actor, OwnActor):
        raise handle._closed_error()
    return actor, () if handle._pin is None else (handle._pin,)


references.register(ReplicatedObj, "Actor", _take_apart, ReplicatedObj)
