"""Ray-style actors in isolated CPython interpreters inside one process.

`import multipy_actors as multipy`. Names are loaded on first use: a private interpreter imports this package
to run its worker loop, and start-up is part of the product.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from multipy_actors.actors.creation import get_actor, kill, replicate
    from multipy_actors.actors.decorator import Actor, remote
    from multipy_actors.actors.handle import RemoteMethod, ReplicatedObj
    from multipy_actors.actors.stream import Stream
    from multipy_actors.batching import batch
    from multipy_actors.deploy.packages import Package
    from multipy_actors.deploy.sessions import Obj, Session
    from multipy_actors.embedding import cmake_dir
    from multipy_actors.errors import (
        ActorClosedError,
        DeadlockError,
        ImageError,
        InterpreterDiedError,
        InterpreterStartError,
        Interrupted,
        LeftBehindWarning,
        MailboxFullError,
        MultipyError,
        PoolClosedError,
        RemoteError,
        RemoteTraceback,
        SerializationError,
        SessionError,
    )
    from multipy_actors.futures import Future, get, wait
    from multipy_actors.pool.default import default_pool, init, shutdown
    from multipy_actors.pool.interpreter import Environment, ImageInfo, Interpreter, PathEnvironment
    from multipy_actors.pool.pool import Pool, current_interpreter
    from multipy_actors.wire import copied

__version__ = "0.1.0"

_HOMES = {
    "actors.creation": ("get_actor", "kill", "replicate"),
    "batching": ("batch",),
    "actors.decorator": ("Actor", "remote"),
    "embedding": ("cmake_dir",),
    "errors": (
        "ActorClosedError",
        "DeadlockError",
        "ImageError",
        "InterpreterDiedError",
        "InterpreterStartError",
        "Interrupted",
        "LeftBehindWarning",
        "MailboxFullError",
        "MultipyError",
        "PoolClosedError",
        "RemoteError",
        "RemoteTraceback",
        "SerializationError",
        "SessionError",
        "SharedWriteWarning",
    ),
    "futures": ("Future", "get", "wait"),
    "actors.handle": ("RemoteMethod", "ReplicatedObj"),
    "pool.interpreter": ("Environment", "ImageInfo", "Interpreter", "PathEnvironment"),
    "deploy.packages": ("Package",),
    "pool.pool": ("Pool", "current_interpreter"),
    "deploy.sessions": ("Obj", "Session"),
    "pool.default": ("default_pool", "init", "shutdown"),
    "actors.stream": ("Stream",),
    "wire": ("copied",),
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Actor",
    "ActorClosedError",
    "DeadlockError",
    "Environment",
    "Future",
    "ImageError",
    "ImageInfo",
    "Interpreter",
    "InterpreterDiedError",
    "InterpreterStartError",
    "Interrupted",
    "LeftBehindWarning",
    "MailboxFullError",
    "MultipyError",
    "Obj",
    "Package",
    "PathEnvironment",
    "Pool",
    "PoolClosedError",
    "RemoteError",
    "RemoteMethod",
    "RemoteTraceback",
    "ReplicatedObj",
    "SerializationError",
    "Session",
    "SessionError",
    "SharedWriteWarning",
    "Stream",
    "batch",
    "cmake_dir",
    "copied",
    "current_interpreter",
    "default_pool",
    "get",
    "get_actor",
    "init",
    "kill",
    "remote",
    "replicate",
    "shutdown",
    "wait",
]


def __getattr__(name: str) -> Any:
    """Load a public name from the module that defines it."""
    try:
        module = _MODULE_OF[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted({*globals(), *__all__})
