"""The default pool, which actors and remote functions use where no other is named.

Model: one per process, made by `init` or when it is first needed, and closed by `shutdown` or at exit,
without a warning. Inside an interpreter it is the pool that the interpreter belongs to, which `init` returns
there: a module that calls it when it is imported is imported in interpreters, too.

Threads and locks: any thread; `_default_lock` is held while the pool is made. In a forked child there is
none, until one is made there.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from multipy_actors.pool.interpreter import Interpreter
from multipy_actors.pool.pool import Pool, current_interpreter

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from multipy_actors.pool.pool import PoolOptions

__all__ = ["default_pool", "init", "resolve_pin", "shutdown"]

_default: Pool | None = None
_default_lock = threading.Lock()


def init(**pool_options: Unpack[PoolOptions]) -> Pool:
    """Make the default pool, with `Pool`'s options. RuntimeError if there is one already.

    In an interpreter it is there already, and returned; the options are those of who made it.
    """
    global _default
    if (interpreter := current_interpreter()) is not None:
        return interpreter._pool
    with _default_lock:
        if _default is not None and not _default._closed:
            raise RuntimeError("multipy is initialised already; call multipy.shutdown() first")
        _default = _unwarned(Pool(**pool_options))
        return _default


def default_pool() -> Pool:
    """Return the default pool; it is made, with the default options, when first asked for.

    In an interpreter it is the pool that the interpreter belongs to.
    """
    global _default
    if (interpreter := current_interpreter()) is not None:
        return interpreter._pool
    with _default_lock:
        if _default is None or _default._closed:
            _default = _unwarned(Pool())
        return _default


def shutdown(
    wait: bool = True,
    *,
    cancel_futures: bool = False,
    interrupt: bool = False,
    timeout: float | None = None,
) -> None:
    """Close the default pool, if there is one; see `Pool.shutdown`."""
    global _default
    with _default_lock:
        pool, _default = _default, None
    if pool is not None:
        pool.shutdown(wait, cancel_futures=cancel_futures, interrupt=interrupt, timeout=timeout)


def _unwarned(pool: Pool) -> Pool:
    pool._warns = False
    return pool


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


def _after_fork_in_child() -> None:
    global _default, _default_lock
    _default = None
    _default_lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork_in_child)
