"""Making actors, and finding and ending them.

Model: an actor is opened in the core (`_native.Actor`, with its mailbox), then each interpreter that is to
hold a replica is sent one request to make it, ahead of any call. The arguments, tensors included, are encoded
once and shared by all replicas. See handles for how it is called.

Threads: any.
"""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any, TypeVar

from multipy_actors import _native, protocol, wire
from multipy_actors.actors.handle import ReplicatedObj
from multipy_actors.batching import batches_for
from multipy_actors.description import introduction_of, members_of
from multipy_actors.errors import ActorClosedError, MultipyError
from multipy_actors.futures import Future
from multipy_actors.pool import module_level
from multipy_actors.pool.default import resolve_pin
from multipy_actors.pool.pool import Pool, find_actor
from multipy_actors.wire.sharing import chosen_level

if TYPE_CHECKING:
    from collections.abc import Callable

    from multipy_actors.batching import Batching
    from multipy_actors.pool.interpreter import Interpreter
    from multipy_actors.wire.sharing import Share

T = TypeVar("T")

__all__ = ["create_replicas", "get_actor", "gpu_number", "kill", "make_replicas", "replicate"]

_ASYNCHRONOUS = frozenset(("coroutine", "async generator"))
_DEFAULT_CONCURRENCY = 100
_turns = itertools.count()  # of GPUs that are chosen one after the other


def create_replicas(
    cls: Callable[..., T],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    pool: Pool | None = None,
    replicas: int | str = 1,
    interpreter: Interpreter | int | None = None,
    max_batch_size: int | None = None,
    batch_wait: float | None = None,
    **options: Any,
) -> ReplicatedObj[T]:
    """Have `cls(*args, **kwargs)` made in the interpreters the options choose; returns at once.

    While a module is imported in an interpreter, what the process has made there already is returned.
    """
    made_by: Any = cls
    batching = batches_for(made_by, max_batch_size, batch_wait)

    def make() -> ReplicatedObj[T]:
        chosen_pool, chosen = _choose(pool, replicas, interpreter)
        handle, _ = make_replicas(
            chosen_pool,
            chosen,
            made_by.__qualname__,
            members_of(made_by),
            batching,
            lambda number: protocol.create(number, cls),
            args,
            kwargs,
            **options,
        )
        return handle

    place = module_level.place()
    if place is None:
        return make()
    name = options["name"] = options.get("name") or place
    if _native.current_worker() is not None:
        return _find_or_make(name, made_by.__qualname__, make)
    if name is place and find_actor(name) is not None:
        options["name"] = None  # the module was imported anew, and what it made before is in use
    return make()


class _NameTakenError(ValueError):
    """There is an actor of that name, or will be."""


def _find_or_make(name: str, label: str, make: Callable[[], ReplicatedObj[T]]) -> ReplicatedObj[T]:
    """Return the actor of that name, of the class `label`; if there is none, what `make` makes."""
    while (actor := find_actor(name)) is None or actor.closed:
        try:
            return make()
        except _NameTakenError:  # it is being made: it can be found in a moment
            time.sleep(0.001)
    if actor.label != label:
        raise ValueError(f"there is an actor named {name!r} already, of the class {actor.label}")
    return ReplicatedObj(actor)


def replicate(
    obj: T, pool: Pool | None = None, *, share: Share | None = None, copy: bool | None = None
) -> ReplicatedObj[T]:
    """Copy `obj` (an `nn.Module`, say) into every interpreter of `pool`; its tensors are shared.

    Data frames and estimators are copied, each replica has its own; `share="all"` has their arrays in memory
    once, where they are only read. `multipy.remote` lists the values of `share` and `copy`.
    """
    chosen_pool, chosen = _choose(pool, "all", None)
    label, members, batching = introduction_of(obj)
    handle, adopted = make_replicas(
        chosen_pool,
        chosen,
        label,
        members,
        batching,
        protocol.adopt,
        (obj,),
        {},
        share=share,
        copy=copy,
        max_restarts=-1 if chosen_pool._restarts else 0,
    )
    for future in adopted:
        future.result()
    return handle


def make_replicas(
    pool: Pool,
    interpreters: list[int],
    label: str,
    members: dict[str, str],
    batching: Batching,
    operation: Callable[[int], list[Any]],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    number: int | None = None,
    name: str | None = None,
    max_pending: int | None = None,
    on_full: str = "wait",
    timeout: float | None = None,
    max_concurrency: int | None = None,
    device: object = None,
    share: Share | None = None,
    copy: bool | None = None,
    max_restarts: int = 0,
    max_task_retries: int = 0,
) -> tuple[ReplicatedObj[Any], list[Future[Any]]]:
    """Open an actor and have its replicas made by `operation(number)`; returns also the calls that do so.

    `interpreters` count the replica already. `label` is what messages call the actor.
    """
    number = number or _native.Actor.next_number()
    options: dict[str, Any] = {}  # what the interpreter has to know
    if (max_restarts or max_task_retries) and not pool._restarts:
        option = "max_restarts" if max_restarts else "max_task_retries"
        raise ValueError(f"{option} needs a pool that replaces interpreters: multipy.Pool(restart=True)")
    if max_task_retries and not max_restarts:
        raise ValueError(
            "max_task_retries needs max_restarts: calls are tried again where the actor is made anew"
        )
    if name and not module_level.is_hidden(name):
        options["name"] = name
    if not _ASYNCHRONOUS.isdisjoint(members.values()):
        options["max_concurrency"] = max_concurrency or _DEFAULT_CONCURRENCY
    if batching:
        options["batching"] = batching
    if device is not None:
        options["gpus"] = _gpus_for(interpreters, device)
    if timeout is not None:
        options["timeout"] = timeout
    try:
        level = chosen_level(share, copy, pool._share)
        data, attachments = wire.encode_call(
            [*operation(number), options], args, kwargs, inline=pool._inline, share=level
        )
        description = [
            members,
            on_full == "wait",
            timeout,
            batching,
            level,
            max_task_retries,
        ]
        actor = pool._actor_class(
            pool=pool._native,
            number=number,
            interpreters=interpreters,
            label=label,
            name=name or "",
            description=wire.encode(description)[0],
            farewell=wire.encode_call(protocol.drop(number), (), {})[0],
            limit=max_pending or 0,
            restarts=max_restarts,
            at_once=1 if "max_concurrency" in options else max_concurrency or 1,
        )
    except BaseException as error:
        if type(error) is MultipyError:
            raise _NameTakenError(str(error)) from None
        for index in interpreters:
            pool._native.count_actors(index, -1)
        raise
    made: list[Future[Any]] = [Future(actor.make_replica(index, data, attachments)) for index in interpreters]
    actor.announce()
    return ReplicatedObj(actor, None, pool), made


def _gpus_for(interpreters: list[int], device: object) -> dict[int, tuple[int, bool]]:
    """Return the GPU of each replica, and whether that is to be divided by how many there are."""
    number = gpu_number(device)
    if number is not None:
        return dict.fromkeys(interpreters, (number, False))
    return {index: (next(_turns), True) for index in interpreters}


def gpu_number(device: object) -> int | None:
    """Return the number in "cuda:1", a `torch.device` or the like, or None if it is not the name of a GPU."""
    if isinstance(device, int) and not isinstance(device, bool) and device >= 0:
        return device
    kind, _, number = str(device).partition(":")
    return int(number or "0") if kind == "cuda" and (number or "0").isdecimal() else None


def get_actor(name: str) -> ReplicatedObj[Any]:
    """Return a handle of the actor made with the option `name`; ValueError if there is none."""
    actor = find_actor(name)
    if actor is None or actor.closed:
        raise ValueError(f"there is no actor named {name!r}")
    return ReplicatedObj(actor)


def kill(handle: ReplicatedObj[Any]) -> None:
    """End an actor now: calls that wait fail with ActorClosedError, those that run are interrupted."""
    if not isinstance(handle, ReplicatedObj):
        raise TypeError(f"kill takes the handle of an actor, not {type(handle).__name__}")
    if not handle._pool._lost:
        error = ActorClosedError(f"{handle._name_it()} was killed")
        handle._actor.kill(wire.encode_exception(error)[0])


def _choose(
    pool: Pool | None, replicas: int | str, interpreter: Interpreter | int | None
) -> tuple[Pool, list[int]]:
    pool, interpreter = resolve_pin(pool, interpreter)
    pool._mailbox(None)  # raises if it is closed
    if interpreter is not None:
        if replicas not in (1, "all"):
            raise ValueError("an actor that is pinned to one interpreter has one replica")
        pool._native.count_actors(interpreter, 1)
        return pool, [interpreter]
    if replicas == "all":
        return pool, pool._native.place(len(pool))
    if not isinstance(replicas, int) or isinstance(replicas, bool) or not 1 <= replicas <= len(pool):
        raise ValueError(
            f'replicas must be "all" or from 1 to {len(pool)}, the interpreters of the pool, not {replicas!r}'
        )
    return pool, pool._native.place(replicas)
