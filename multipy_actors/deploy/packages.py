"""torch packages in the interpreters of a pool: code for each, weights in memory once.

Model: a `Package` stands for an archive of `torch.package` that one interpreter has read into memory and
the others open on that memory when they first need it (see worker/torch_packages). It holds the call that
read it: a future whose value is never fetched here, so the host needs no torch, but goes as an argument
with everything that is asked of the package. What is loaded becomes a handle with a replica in every
interpreter; the interpreter that is free first loads at once, the others when a call comes to them, or
eagerly.

Life: an interpreter keeps a package open until this object is closed or dropped. Handles go on working.

Threads: any.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

from multipy_actors import _native, protocol, wire
from multipy_actors.actors.creation import make_replicas
from multipy_actors.deploy.sessions import Session, acquire, wait_for
from multipy_actors.errors import PoolClosedError
from multipy_actors.futures import Future, get, value_of

if TYPE_CHECKING:
    from typing import IO

    from multipy_actors.actors.handle import ReplicatedObj
    from multipy_actors.pool.pool import Pool

__all__ = ["Package", "load_package", "register_module_source"]


def load_package(pool: Pool, source: str | os.PathLike[str] | IO[bytes]) -> Package:
    """Have an interpreter of `pool` read a package, and return it."""
    number = _native.Actor.next_number()
    if isinstance(source, (str, os.PathLike)):
        contents: object = os.path.abspath(os.fspath(source))
        name = str(contents)
    elif callable(getattr(source, "read", None)):
        contents = source.read()
        if not isinstance(contents, (bytes, bytearray, memoryview)):
            raise TypeError(f"a package is read from a binary file, and its read() gave {_kind_of(contents)}")
        contents = memoryview(contents)
        name = str(getattr(source, "name", "<file>"))
    else:
        raise TypeError(f"a package is loaded from a path or a file, not from {_kind_of(source)}")
    opened = pool._post(pool._mailbox(None), protocol.open_package(number, name), (contents,), {})
    wait_for(opened)
    return Package(pool, opened, number, name)


def register_module_source(pool: Pool, name: str, source: str) -> None:
    """Make `source` importable as `name` in every interpreter of `pool`."""
    compile(source, f"<registered module {name}>", "exec", dont_inherit=True)
    pool._mailbox(None)
    data, attachments = wire.encode_call(protocol.source(name, source), (), {})
    pool._native.keep_setup(data, attachments)
    for own in pool._own:
        pool._native.post(own, data, attachments)


def _kind_of(value: object) -> str:
    return type(value).__name__


class Package:
    """A `torch.package` archive whose code and models are used in the interpreters of a pool.

    Use it in a `with` statement or `close` it to have the interpreters let go of it, or just drop it.
    """

    def __init__(self, pool: Pool, opened: Future[Any], number: int, name: str) -> None:
        """For the library alone: packages come from `pool.load_package`."""
        self._pool = pool
        self._opened: Future[Any] | None = opened  # None: closed
        self._number = number
        self.name = name

    def load_pickle(
        self, package: str, resource: str, *, eager: bool = False, map_location: Any = None
    ) -> ReplicatedObj[Any]:
        """Unpickle a resource of the package; returns a handle with a replica in every interpreter.

        The weights are in memory once, whatever the number of interpreters. One interpreter loads at once,
        and what that raises is raised here; each of the others loads when it is first called, or now if
        `eager`. `map_location` is that of `torch.load`; storages that it moves are moved once.
        """
        number = _native.Actor.next_number()
        load = self._post(protocol.load_from_package(number), package, resource, map_location)
        source = ["pickle", self._open, load, package, resource, map_location]
        return self._handle(number, load, source, eager)

    def import_module(self, name: str) -> ReplicatedObj[Any]:
        """Import a module of the package; returns a handle whose methods are the module's functions."""
        number = _native.Actor.next_number()
        load = self._post(protocol.import_from_package(number), name)
        return self._handle(number, load, ["module", self._open, name], False)

    def load_text(self, package: str, resource: str, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Return a text of the package."""
        text: str = value_of(
            self._post(protocol.ask_package("load_text"), package, resource, encoding, errors)
        )
        return text

    def load_binary(self, package: str, resource: str) -> bytes:
        """Return a binary resource of the package."""
        data: bytes = value_of(self._post(protocol.ask_package("load_binary"), package, resource))
        return data

    def acquire(self, timeout: float | None = None) -> Session:
        """Wait for an interpreter, and return a session in which the package's modules come first.

        `session.self` is the package's importer there. See `Pool.acquire`.
        """
        return acquire(self._pool, None, timeout, self._open)

    def close(self) -> None:
        """Have the interpreters let go of the package. Handles of what was loaded go on working."""
        opened, self._opened = self._opened, None
        if opened is None or self._pool._closed:
            return
        data, attachments = wire.encode_call(protocol.close_package(self._number), (), {})
        with contextlib.suppress(PoolClosedError):
            for own in self._pool._own:
                self._pool._native.post(own, data, attachments)

    def __enter__(self) -> Package:
        """Return itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close it."""
        self.close()

    def __del__(self) -> None:
        """Close it."""
        if "_number" in self.__dict__:
            self.close()

    def __reduce__(self) -> Any:
        """Refuse: what is loaded from it can be sent."""
        raise TypeError("a package cannot be sent to an interpreter; handles of what is loaded from it can")

    def __repr__(self) -> str:
        """Name the file and whether it is closed."""
        return f"<multipy.Package {self.name!r} in {self._pool!r}{'' if self._opened else ', closed'}>"

    @property
    def _open(self) -> Future[Any]:
        if self._opened is None:
            raise ValueError(f"{self!r} was closed")
        return self._opened

    def _post(self, operation: list[Any], *args: Any) -> Future[Any]:
        """Ask the interpreter that is free first; the package is the first argument."""
        return self._pool._post(self._pool._mailbox(None), operation, (self._open, *args), {})

    def _handle(self, number: int, load: Future[Any], source: list[Any], eager: bool) -> ReplicatedObj[Any]:
        """Return a handle of what `load` has loaded as actor `number`, in one interpreter so far."""
        wait_for(load)
        pool = self._pool
        loader = pool._own[load._call.interpreter]
        try:
            label, members, batching = value_of(pool._post(loader, protocol.describe(number), (), {}))
            handle, _ = make_replicas(
                pool,
                pool._native.place(len(pool)),
                label,
                members,
                batching,
                protocol.adopt_lazily,
                (source,),
                {"label": label},
                number=number,
                max_restarts=-1 if pool._restarts else 0,
            )
        except BaseException:
            with contextlib.suppress(PoolClosedError):
                pool._post(loader, protocol.drop(number), (), {})
            raise
        if eager:
            request = wire.encode_call(protocol.load(number), (), {})
            get([Future(handle._actor.post(*request, index)) for index in range(len(pool))])
        return handle
