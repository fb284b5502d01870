"""What an object's handle of its own actor refers to.

Problem: an actor lives as long as somebody holds a handle of it. An object that holds one of its own would
keep itself alive.

Model: a handle that an object gets in a call of its own actor, as an argument, as a value or by name, refers
to the actor weakly: by an `OwnActor`, which stands for it until it is gone, and for one that is closed
afterwards. What is made of such a handle for others, an argument or a value, refers to the actor itself.

Threads: any.
"""

from __future__ import annotations

from typing import Any

from multipy_actors import _native
from multipy_actors.errors import PoolClosedError

__all__ = ["OwnActor", "is_called_here"]


def is_called_here(actor: _native.Actor) -> bool:
    """Say whether the code that asks is run by a call of `actor`."""
    if _native.current_worker() is None:
        return actor.is_called(0)
    from multipy_actors.worker import output

    return actor.is_called(output.actor.get())


class OwnActor:
    """Stands for an actor without keeping it; closed when that is gone."""

    closed = True
    lost = False
    queued = done = failed = 0
    interpreters: tuple[int, ...] = ()

    def __init__(self, actor: _native.Actor) -> None:
        """Refer to `actor`."""
        self._weak = actor.weak()
        self.number = actor.number
        self.label = actor.label
        self.name = actor.name

    def now(self) -> Any:
        """Return the actor, or what stands for it when it is gone."""
        return self._weak() or self

    def post(self, *_: Any, **__: Any) -> Any:
        """Refuse."""
        raise PoolClosedError("the actor is gone")

    def kill(self, error: bytes) -> None:
        """Do nothing: it has ended."""

    def unload(self, interpreter: int, error: bytes) -> bool:
        """Say that there is nothing to drop."""
        return False
