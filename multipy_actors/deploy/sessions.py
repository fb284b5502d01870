"""Sessions: one interpreter for oneself, and its objects at one's fingertips.

Problem: some work is done step by step with objects that are never to leave their interpreter: look up a
class, make an instance, call it, look at an attribute. Each step is a call, and nobody else's may come
between.

Model: `pool.acquire()` asks the core to hold an interpreter (`_native.Session`); until the session is
closed it runs only what the session causes: calls that the thread which acquired it makes, and what these
call in turn. An `Obj` is the number of an object in the session's table (see worker/session_objects). An
operation on one is a call to the held interpreter; its result is another Obj, until `value()` fetches it.

Life: an Obj that is dropped is forgotten over there; with the session the whole table goes. A session that is
dropped unclosed warns and is closed. Sessions nest: a thread that has one may acquire another, which is of
another interpreter if one is free, and else of the same.

Threads: any may use a session, its operations run one after the other. Which calls get through to the held
interpreter depends on the thread, see above.
"""

from __future__ import annotations

import contextlib
import sys
import threading
import warnings
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import TYPE_CHECKING, Any, NoReturn

from multipy_actors import protocol, wire
from multipy_actors.actors.creation import make_replicas
from multipy_actors.actors.handle import ReplicatedObj
from multipy_actors.errors import InterpreterDiedError, PoolClosedError, SessionError
from multipy_actors.futures import Future, value_of
from multipy_actors.worker import session_objects

if TYPE_CHECKING:
    from multipy_actors import _native
    from multipy_actors.pool.interpreter import Interpreter
    from multipy_actors.pool.pool import Pool

__all__ = ["Obj", "Session", "acquire", "wait_for"]

_sending = threading.local()  # `session`: the one whose call this thread encodes


def acquire(
    pool: Pool, interpreter: int | None, timeout: float | None, package: Future[Any] | None = None
) -> Session:
    """Wait for an interpreter, or a certain one, and return a session of it."""
    pool._mailbox(interpreter)  # raises if the pool is closed
    native = pool._native.request_session(interpreter)
    granted: Future[int] = Future(native.granted)
    try:
        if not native.granted.wait(timeout):
            raise FutureTimeoutError(f"no interpreter of {pool!r} was free within {timeout} seconds")
        granted.result()  # raises if the pool was closed meanwhile
    except BaseException:
        native.end()
        raise
    return Session(pool, native, package)


class Session:
    """Exclusive use of one interpreter: `with pool.acquire() as session: ...`.

    Closing it lets go of the interpreter and of all its objects.
    """

    def __init__(self, pool: Pool, native: _native.Session, package: Future[Any] | None) -> None:
        """For the library alone: sessions come from `acquire`."""
        self._pool = pool
        self._native = native
        self._package = package
        self._id = native.id
        self.interpreter: Interpreter = pool.interpreters[native.interpreter]

    def global_(self, module: str, name: str) -> Obj:
        """Import `module` and return its `name`, as an object of the session.

        In a session of a package, the module is the package's if it has one of that name.
        """
        return self._obj(protocol.session_global(module, name), self._package_if_any())

    @property
    def self(self) -> Obj:
        """The importer of the package that the session is of; SessionError if it is of none."""
        if self._package is None:
            raise SessionError("only a session that a package has acquired has a `self`")
        return self._obj(protocol.session_self(), self._package_if_any())

    def from_value(self, value: object) -> Obj:
        """Send `value` to the interpreter; tensors in it are shared."""
        return self._obj(protocol.session_put(), (value,))

    def create_movable(self, obj: Obj) -> ReplicatedObj[Any]:
        """Return a handle of a copy of `obj` in every interpreter of the pool; its tensors are shared.

        The object is pickled now, and rebuilt in an interpreter when the handle first needs it there.
        """
        number = self._number_of(obj)
        label, members, batching = self._ask(protocol.session_describe(number))
        moved = self._post(protocol.session_movable(number), (), {})
        wait_for(moved)
        handle, _ = make_replicas(
            self._pool,
            self._pool._native.place(len(self._pool)),
            label,
            members,
            batching,
            protocol.adopt_lazily,
            ([moved],),
            {"label": label},
        )
        return handle

    def from_movable(self, handle: ReplicatedObj[Any]) -> Obj:
        """Return the object that `handle` stands for in this interpreter."""
        if not isinstance(handle, ReplicatedObj):
            raise TypeError(f"from_movable takes a handle, not {type(handle).__name__}")
        if self.interpreter not in handle.interpreters:
            raise SessionError(f"{handle!r} has no replica in {self.interpreter!r}")
        return self._obj(protocol.session_from_movable(handle._actor.number))

    def is_owner(self, obj: Obj) -> bool:
        """Say whether `obj` is an object of this session."""
        return obj._session is self

    def close(self) -> None:
        """Let go of the interpreter. What was an object of the session is none any more."""
        if self._pool._closed or self._native.ended:
            return
        with contextlib.suppress(PoolClosedError):
            self._native.post(
                *wire.encode_call(protocol.in_session(self._id, protocol.session_end()), (), {})
            )
        self._native.end()

    def __enter__(self) -> Session:
        """Return itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close it."""
        self.close()

    def __del__(self) -> None:
        """Warn of a session that was dropped unclosed, and close it."""
        if "interpreter" in self.__dict__ and not self._pool._closed and not self._native.ended:
            warnings.warn(f"{self!r} was never closed", ResourceWarning, source=self, stacklevel=2)
            self.close()

    def __reduce__(self) -> Any:
        """Refuse: it belongs to who acquired it."""
        raise TypeError("a session cannot be sent to an interpreter")

    def __repr__(self) -> str:
        """Name the interpreter and whether it has ended."""
        state = ", ended" if self._native.ended else ""
        return f"<multipy.{self._told()}{state}>"

    def _told(self) -> str:
        return f"Session {self._id} of interpreter {self.interpreter.id} of {self._pool._name!r}"

    def _package_if_any(self) -> tuple[Any, ...]:
        return () if self._package is None else (self._package,)

    def _number_of(self, obj: object) -> int:
        if not isinstance(obj, Obj):
            raise TypeError(f"an object of the session is needed, an Obj, not {type(obj).__name__}")
        if obj._session is not self:
            raise SessionError(f"{obj!r} is of another session than {self!r}")
        return obj._number

    def _obj(
        self, operation: list[Any], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Obj:
        return Obj(self, self._ask(operation, args, kwargs))

    def _ask(
        self, operation: list[Any], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return value_of(self._post(operation, args, kwargs or {}))

    def _post(self, operation: list[Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Future[Any]:
        if self._pool._lost or self._native.ended:
            raise SessionError(f"{self!r} has ended")
        if sys.path != self._pool._host_paths:
            self._pool._follow_search_paths()
        outer = getattr(_sending, "session", None)
        _sending.session = self
        try:
            request = wire.encode_call(
                protocol.in_session(self._id, operation),
                args,
                kwargs,
                inline=self._pool._inline,
                share=self._pool._share,
            )
        finally:
            _sending.session = outer
        try:
            return Future(self._native.post(*request))
        except PoolClosedError:
            if self._pool._closed or self._native.ended:
                raise
            raise InterpreterDiedError(f"{self!r}: its interpreter has ended") from None


class Obj:
    """An object of a session, in its interpreter. It can be called with other objects of the session, too."""

    __slots__ = ("_number", "_session")

    def __init__(self, session: Session, number: int) -> None:
        """For the library alone: objects come from a session."""
        self._session = session
        self._number = number

    def __call__(self, /, *args: object, **kwargs: object) -> Obj:
        """Call it; the result stays in the interpreter as well."""
        session = self._session
        places: list[tuple[int | str, object]] = [*enumerate(args), *kwargs.items()]
        objects = {place: session._number_of(arg) for place, arg in places if isinstance(arg, Obj)}
        sent = tuple(None if isinstance(arg, Obj) else arg for arg in args)
        named = {name: None if isinstance(arg, Obj) else arg for name, arg in kwargs.items()}
        return session._obj(protocol.session_call(self._number, objects), sent, named)

    def attr(self, name: str) -> Obj:
        """Return its attribute `name`."""
        return self._session._obj(protocol.session_attr(self._number, name))

    def hasattr(self, name: str) -> bool:
        """Say whether it has an attribute `name`."""
        found: bool = self._session._ask(protocol.session_hasattr(self._number, name))
        return found

    def value(self) -> Any:
        """Fetch it: a copy, whose tensors are shared.

        SerializationError if it cannot leave its interpreter.
        """
        return self._session._ask(protocol.session_value(self._number))

    def __reduce__(self) -> Any:
        """Travel as what it is called over there, with calls of its own session only."""
        if getattr(_sending, "session", None) is not self._session:
            self._refuse()
        return session_objects.resolve, (self._session._id, self._number)

    def _refuse(self) -> NoReturn:
        raise SessionError(f"{self!r} can only be an argument of objects of its session; use value()")

    def __del__(self) -> None:
        """Have it forgotten over there."""
        session = getattr(self, "_session", None)
        if session is None or session._pool._closed or session._native.ended:
            return
        forget = protocol.in_session(session._id, protocol.session_forget([self._number]))
        with contextlib.suppress(PoolClosedError):  # it may end in this moment
            session._native.post(*wire.encode_call(forget, (), {}))

    def __repr__(self) -> str:
        """Name the session."""
        return f"<multipy.Obj {self._number} of {self._session._told()}>"


def wait_for(future: Future[Any]) -> None:
    """Wait for a value that is for others; raises what its call raised."""
    future._call.wait()
    if future._call.state != "succeeded":
        future.result()
