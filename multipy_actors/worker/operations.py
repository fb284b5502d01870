"""What calls ask of an interpreter: to run functions, to make, call and drop actors, and all the rest.

Model: a request is `[operation, args, kwargs]`; the operation is a list whose first item names one of
`OPERATIONS`, and the rest are its operands. Actors live in `_actors`, by the number their handle carries.
Those with `async` methods are in `_on_loop` instead (see async_actors). An operation that hands a call over
to the loop, gathers others to run with it (see batching) or sends a piece of a stream (see generators)
returns a `Deferred`, which ends the call by itself. Those modules are imported when there is need.

Threads: all on worker threads, several at once, but for one actor one at a time.
"""

from __future__ import annotations

import sys
from _thread import RLock, get_ident

from multipy_actors import _native, gpu
from multipy_actors.interrupts import is_interruption
from multipy_actors.modules import imported
from multipy_actors.wire import sharing
from multipy_actors.worker import calls, output, thread_state
from multipy_actors.worker.calls import as_told, interrupted, kept_traceback, took_too_long

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from multipy_actors.wire.write_checks import WriteChecks
    from multipy_actors.worker.async_actors import AsyncActor
    from multipy_actors.worker.batching import Batcher
    from multipy_actors.worker.generators import Stream

__all__ = [
    "OPERATIONS",
    "Deferred",
    "awaits_by_itself",
    "close_streams",
    "enter_gpu",
    "forget_actors",
    "keep_failure",
    "leave_gpu",
    "run_checked",
]


class _Broken:
    """Stands for an actor whose `__init__` raised: every call raises the same again."""

    def __init__(self, error: BaseException) -> None:
        self.error = error
        self._traceback = kept_traceback(error)

    def fail(self) -> None:
        raise self.error.with_traceback(self._traceback)  # it would grow with each call


class _Lazy:
    """Stands for an actor that is not there yet: the first call that needs it makes it."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._lock = RLock()
        self._is_being_made = False

    def made(self, number: int) -> Any:
        """Put the actor in its own place, unless another call has, and return what is there."""
        with self._lock:
            if _actors[number] is not self:
                return _actors[number]
            if self._is_being_made:
                from multipy_actors.errors import DeadlockError

                raise DeadlockError("the object is needed while it is being loaded")
            self._is_being_made = True
            try:
                actor = _actors[number] = self._make()
            except BaseException as error:
                if not is_interruption(error):  # that call has been given up, but not the object
                    _actors[number] = _Broken(error)
                raise
            finally:
                self._is_being_made = False
            return actor


class _Anywhere:
    """Stands for the GPU of an actor for which none was chosen."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


_ANYWHERE = _Anywhere()


class Deferred:
    """What an operation returns when the call is not over: `run` ends it and says whether it succeeded.

    None: the call, or the figures, are in the hands of others.
    """

    __slots__ = ("run",)

    def __init__(self, run: Callable[[_native.Call, _native.Worker], bool | None]) -> None:
        self.run = run


_actors: dict[int, Any] = {}
_on_loop: dict[int, AsyncActor] = {}
_batchers: dict[int, dict[str, Batcher]] = {}  # by actors and methods
_streams: dict[int, tuple[int, Stream]] = {}  # by their own numbers, with those of their actors
_gpus: dict[int, gpu.OnGpu] = {}  # of the actors for which one was chosen
_limits: dict[int, float] = {}  # seconds for a call of the actor, if it has a time limit


def _runs_now(number: int) -> None:
    """Have what is printed from here on be that of actor `number`; 0: of none."""
    if output.actor.get() != number:
        output.actor.set(number)


def _call(args: list[Any], kwargs: dict[str, Any], fn: Callable[..., Any]) -> Any:
    _runs_now(0)
    return fn(*args, **kwargs)


def _map(args: list[Any], kwargs: dict[str, Any], fn: Callable[..., Any]) -> list[Any]:
    _runs_now(0)
    return [fn(*items) for items in args]


def _create(
    args: list[Any], kwargs: dict[str, Any], number: int, cls: Callable[..., Any], options: dict[str, Any]
) -> Deferred | None:
    _introduce(number, cls.__name__, options)
    limit = _limits.get(number)
    try:
        _choose_gpu(number, options)
        if _put_on_loop(number, options):
            return Deferred(_on_loop[number].create(args, kwargs, cls))
        if limit is not None:
            _this_worker().expire_in(limit)
        with _gpus.get(number, _ANYWHERE):
            _actors[number] = cls(*args, **kwargs)
    except BaseException as error:
        reason = as_told(error)
        if reason is not error and _this_worker().expired:
            reason = took_too_long(limit)
        _actors[number] = _Broken(reason)
        args.clear()  # the frames that the error keeps lead to this one
        kwargs.clear()
        raise
    return None


def keep_failure(number: int, error: BaseException) -> None:
    """Have the calls of an actor raise `error`, with which its creation has failed, whatever came of it."""
    if number not in _actors and number not in _on_loop:
        _actors[number] = _Broken(as_told(error))


def _adopt(args: list[Any], kwargs: dict[str, Any], number: int, options: dict[str, Any]) -> Deferred | None:
    (actor,) = args
    _introduce(number, type(actor).__name__, options)
    if _put_on_loop(number, options):
        return Deferred(_on_loop[number].create([], {}, lambda: actor))
    _actors[number] = actor
    return None


def _adopt_lazily(
    args: list[Any], kwargs: dict[str, Any], number: int, options: dict[str, Any]
) -> Deferred | None:
    """Have the object made when there is need of it, from what `args` say; on the event loop that is now.

    It is the value of a call, which is in a list so that nobody waits for it before, or in a package. An
    interpreter that has the object already keeps that.
    """
    if number in _actors:
        return _adopt([_actors.pop(number)], {}, number, options)
    ((*source, last),) = args
    if source:
        from multipy_actors.worker.torch_packages import maker_of

        make = maker_of([*source, last], number)
    else:
        make = last.result
    _introduce(number, kwargs["label"], options)
    if _put_on_loop(number, options):
        return Deferred(_on_loop[number].create([], {}, make))
    _actors[number] = _Lazy(make)
    return None


def _load(args: list[Any], kwargs: dict[str, Any], number: int) -> Any:
    """Make the actor's object now, if it is not there yet."""
    return _apply(number, lambda _: None)


def _put_on_loop(number: int, options: dict[str, Any]) -> bool:
    """Say whether the actor is one for the loop, and make it there; note how its calls are gathered."""
    batchers: dict[str, Batcher] = {}
    if batching := options.get("batching"):
        from multipy_actors.worker.batching import Batcher

        batchers = {name: Batcher(*limits) for name, limits in batching.items()}
    if "max_concurrency" in options:
        from multipy_actors.worker.async_actors import AsyncActor

        _on_loop[number] = AsyncActor(
            number, options["max_concurrency"], batchers, _gpus.pop(number, None), _limits.get(number)
        )
        return True
    if batchers:
        _batchers[number] = batchers
    return False


def _this_worker() -> _native.Worker:
    worker = _native.current_worker()
    assert worker is not None
    return worker


def _introduce(number: int, cls: str, options: dict[str, Any]) -> None:
    if "timeout" in options:
        _limits[number] = options["timeout"]
    output.introduce(number, cls, options.get("name"))
    _runs_now(number)


def _choose_gpu(number: int, options: dict[str, Any]) -> None:
    if "gpus" in options:
        _gpus[number] = gpu.OnGpu(gpu.choose_gpu(*options["gpus"][_this_worker().index]))


def _actor(number: int) -> Any:
    try:
        actor = _actors[number]
    except KeyError:
        from multipy_actors.errors import ActorClosedError

        raise ActorClosedError("the actor has no replica in this interpreter any more") from None
    _runs_now(number)
    if type(actor) is _Lazy:
        actor = actor.made(number)
    if type(actor) is _Broken:
        actor.fail()
    return actor


def _method(args: list[Any], kwargs: dict[str, Any], number: int, name: str) -> Any:
    if number in _on_loop:
        return Deferred(_on_loop[number].method(args, kwargs, name))
    if number in _batchers and name in _batchers[number] and (args or kwargs):
        run, method = _batchers[number][name].run, getattr(_actor(number), name)
        return Deferred(lambda call, worker: run(method, args, kwargs, call, worker))
    return getattr(_actor(number), name)(*args, **kwargs)


def _apply(number: int, function: Callable[[Any], Any]) -> Any:
    """Return what `function` says of the actor, on whichever thread it lives."""
    if number in _on_loop:
        return Deferred(_on_loop[number].apply(function))
    return function(_actor(number))


def _get(args: list[Any], kwargs: dict[str, Any], number: int, name: str) -> Any:
    return _apply(number, lambda actor: getattr(actor, name))


def _has(args: list[Any], kwargs: dict[str, Any], number: int, name: str) -> Any:
    return _apply(number, lambda actor: hasattr(actor, name))


def _describe(args: list[Any], kwargs: dict[str, Any], number: int) -> Any:
    from multipy_actors.description import introduction_of

    return _apply(number, introduction_of)


def _enter(args: list[Any], kwargs: dict[str, Any], number: int) -> Any:
    def enter(actor: Any) -> tuple[bool, Any]:
        value = type(actor).__enter__(actor)
        return (True, None) if value is actor else (False, value)

    return _apply(number, enter)


def _drop(args: list[Any], kwargs: dict[str, Any], number: int) -> None:
    _runs_now(number)
    if number in _on_loop:
        _on_loop.pop(number).drop()
    _batchers.pop(number, None)
    _gpus.pop(number, None)
    if (limit := _limits.pop(number, None)) is not None:
        _this_worker().expire_in(limit)
    try:
        close_streams(number)
    finally:
        _actors.pop(number, None)
        output.forget(number)
        thread_state.forget(number)
        packages = imported("multipy_actors.worker.torch_packages")
        if packages is not None:
            packages.release(number)


def _stream(args: list[Any], kwargs: dict[str, Any], number: int, name: str, stream: int) -> Deferred:
    if number in _on_loop:
        return Deferred(_on_loop[number].stream(args, kwargs, name, stream))
    from multipy_actors.worker.generators import Stream

    share = calls.at_hand.share
    iterator = iter(getattr(_actor(number), name)(*args, **kwargs))
    _streams[stream] = number, Stream(iterator, share)
    return Deferred(lambda call, worker: _fill(stream, 1, call, worker))


def _next(args: list[Any], kwargs: dict[str, Any], number: int, stream: int) -> Deferred:
    if number in _on_loop:
        return Deferred(_on_loop[number].next(stream))
    if stream not in _streams:
        from multipy_actors.errors import ActorClosedError

        raise ActorClosedError("the stream was closed, or its interpreter has ended")
    return Deferred(lambda call, worker: _fill(stream, None, call, worker))


def _fill(stream: int, most: int | None, call: _native.Call, worker: _native.Worker) -> bool:
    from multipy_actors.worker.generators import Chunk

    number, source = _streams[stream]

    def fill(call: _native.Call) -> bool:
        _runs_now(number)
        return source.fill(Chunk(call, most, _limits.get(number)))

    try:
        filled: bool | None = worker.run(call, fill)
        if filled is None:
            raise interrupted(call)
        return filled
    finally:
        if source.over:
            _streams.pop(stream, None)


def _close_stream(args: list[Any], kwargs: dict[str, Any], number: int, stream: int) -> Deferred | None:
    if number in _on_loop:
        return Deferred(_on_loop[number].close_stream(stream))
    _runs_now(number)
    if stream in _streams:
        _streams.pop(stream)[1].close()
    return None


def close_streams(actor: int | None = None) -> None:
    """Close the generators of one actor, or all; the first error that is raised meanwhile is raised then."""
    error: BaseException | None = None
    for stream, (number, source) in list(_streams.items()):
        if actor is None or number == actor:
            del _streams[stream]
            try:
                source.close()
            except BaseException as raised:
                error = error or raised
    if error is not None:
        raise error


def _session(args: list[Any], kwargs: dict[str, Any], session: int, operation: str, *rest: Any) -> Any:
    from multipy_actors.worker import session_objects

    _runs_now(0)
    if operation == "from_movable":
        return _apply(rest[0], lambda actor: session_objects.put(session, actor))
    return session_objects.run(args, kwargs, session, operation, list(rest))


def _package(args: list[Any], kwargs: dict[str, Any], operation: str, *rest: Any) -> Any:
    from multipy_actors.worker import torch_packages

    _runs_now(0)
    if operation in ("load", "import"):
        _actors[rest[0]], told = torch_packages.load(args, operation, rest[0])
        return told
    return torch_packages.run(args, kwargs, operation, list(rest))


def _source(args: list[Any], kwargs: dict[str, Any], name: str, text: str) -> None:
    from multipy_actors.worker import module_sources

    module_sources.register(name, text)


def _configure(args: list[Any], kwargs: dict[str, Any]) -> None:
    try:
        _set_up(kwargs)
    except BaseException as error:
        _this_worker().give_up(f"it could not be set up: {_in_a_line(error)}")
        raise


def _in_a_line(error: BaseException) -> str:
    name = type(error).__name__
    try:
        return f"{name}: {error}"
    except BaseException:
        return name


def _set_up(kwargs: dict[str, Any]) -> None:
    sys.path[:] = kwargs["search_paths"]
    sharing.of_this_pool = kwargs.get("share", sharing.ARRAYS)
    if kwargs.get("check_sharing", False):
        from multipy_actors.wire.write_checks import WriteChecks

        worker = _native.current_worker()
        assert worker is not None
        calls.checks = WriteChecks(worker)
    gpu.watch(kwargs.get("own_cuda_streams", True))
    output.set_prefixes(kwargs.get("prefix_output", False))
    if (levels := kwargs.get("log_levels")) is not None:
        from multipy_actors.worker import log_sender

        log_sender.install(_this_worker().pool.messages, levels)
    for name in kwargs["preload"]:
        __import__(name)
    if kwargs["initializer"] is not None:
        kwargs["initializer"](*kwargs["initargs"])
    thread_state.keep()


def _search_paths(args: list[Any], kwargs: dict[str, Any], old: list[str], new: list[str]) -> None:
    """Follow the host, whose `sys.path` was `old` and is `new`; what code in here has changed stays."""
    known = set(old)
    own = [place for place, path in enumerate(sys.path) if path not in known]
    first = next((place for place, path in enumerate(sys.path) if path in known), len(sys.path))
    removed = known.difference(sys.path)
    before = [sys.path[place] for place in own if place < first]
    after = [sys.path[place] for place in own if place > first]
    sys.path[:] = [*before, *(path for path in new if path not in removed), *after]


OPERATIONS: dict[str, Callable[..., Any]] = {
    "call": _call,
    "map": _map,
    "create": _create,
    "adopt": _adopt,
    "adopt_lazily": _adopt_lazily,
    "load": _load,
    "method": _method,
    "get": _get,
    "has": _has,
    "describe": _describe,
    "enter": _enter,
    "drop": _drop,
    "stream": _stream,
    "next": _next,
    "close_stream": _close_stream,
    "session": _session,
    "package": _package,
    "source": _source,
    "configure": _configure,
    "search_paths": _search_paths,
}


def run_checked(
    checks: WriteChecks,
    operation: list[Any],
    args: list[Any],
    kwargs: dict[str, Any],
    attachments: Sequence[_native.Attachment],
) -> Any:
    """Run what is asked for, and look who writes to shared memory meanwhile."""
    target: Any = None
    name = operation[0]
    if name in ("call", "map"):
        target = operation[1]
        name = getattr(target, "__qualname__", repr(target))
    elif name == "create":
        target = getattr(operation[2], "__init__", None)
        name = operation[2].__name__
    elif name == "method" and operation[1] in _actors:
        kind = type(_actors[operation[1]])
        target = getattr(kind, operation[2], None)
        name = f"{kind.__qualname__}.{operation[2]}"

    def perform() -> Any:
        return OPERATIONS[operation[0]](args, kwargs, *operation[1:])

    return checks.run(perform, target, name, attachments)


_OF_NO_ACTOR = ("call", "map", "session", "package", "source", "configure", "search_paths")


_entered: dict[int, gpu.OnGpu] = {}  # by threads


def enter_gpu(operation: list[Any]) -> None:
    """Make the GPU of the actor that is called, if there is one, the current one until `leave_gpu`."""
    if not _gpus or operation[0] in _OF_NO_ACTOR:
        return
    gpu = _gpus.get(operation[1])
    if gpu is not None:
        _enter_gpu(gpu)


def _enter_gpu(gpu: gpu.OnGpu) -> None:
    gpu.__enter__()
    _entered[get_ident()] = gpu


def leave_gpu() -> None:
    """Undo what `enter_gpu` did."""
    if _entered and (gpu := _entered.pop(get_ident(), None)) is not None:
        gpu.__exit__()


_native.hold_interrupts_in(_enter_gpu.__code__)


def awaits_by_itself(operation: list[Any]) -> bool:
    """Say whether futures that are arguments are awaited on the loop; those of a batch are not."""
    if operation[0] not in ("method", "stream"):
        return False
    actor = _on_loop.get(operation[1])
    return actor is not None and operation[2] not in actor.batchers


def forget_actors() -> None:
    """Let go of all of them."""
    _on_loop.clear()
    _actors.clear()
