"""The inside of a private interpreter: takes calls, runs them, sends back what came of them.

Problem: a call is bytes in a queue of the core; it must become a Python call here, and its value or its
exception bytes again, without the host's GIL and at little cost.

Model: native/bindings/boot.cpp runs `prepare`, `run` and `finish` of this module, in this order, on the
interpreter's only worker thread. A request is `[operation, args, kwargs]`; the operation is a list whose
first item names one of `_OPERATIONS`. Actors live in `_actors`, by the number their handle carries.

Threads: everything here runs on the worker thread, which is also Python's main thread here; it blocks in
`take` without holding this interpreter's GIL. User code may start threads of its own; `finish` waits for
those that are not daemons, as Python does at exit, but not for ever.

Guarantees: whatever a call raises, SystemExit and KeyboardInterrupt included, fails that call alone.
"""

from __future__ import annotations

import gc
import sys

from multipy_actors import _native, errors, values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_JOIN_SECONDS = 5.0  # how long the end of an interpreter waits for threads of the user's code


class _Broken:
    """Stands for an actor whose `__init__` raised: every call raises the same again."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


_actors: dict[int, Any] = {}


def _call(args: list[Any], kwargs: dict[str, Any], fn: Callable[..., Any]) -> Any:
    return fn(*args, **kwargs)


def _map(args: list[Any], kwargs: dict[str, Any], fn: Callable[..., Any]) -> list[Any]:
    return [fn(*items) for items in args]


def _create(
    args: list[Any], kwargs: dict[str, Any], number: int, cls: Callable[..., Any], options: dict[str, Any]
) -> None:
    try:
        _actors[number] = cls(*args, **kwargs)
    except BaseException as error:
        _actors[number] = _Broken(error)
        raise


def _adopt(args: list[Any], kwargs: dict[str, Any], number: int, options: dict[str, Any]) -> None:
    (_actors[number],) = args


def _actor(number: int) -> Any:
    try:
        actor = _actors[number]
    except KeyError:
        raise errors.ActorClosedError("the actor has no replica in this interpreter any more") from None
    if type(actor) is _Broken:
        raise actor.error
    return actor


def _method(args: list[Any], kwargs: dict[str, Any], number: int, name: str) -> Any:
    return getattr(_actor(number), name)(*args, **kwargs)


def _get(args: list[Any], kwargs: dict[str, Any], number: int, name: str) -> Any:
    return getattr(_actor(number), name)


def _enter(args: list[Any], kwargs: dict[str, Any], number: int) -> tuple[bool, Any]:
    actor = _actor(number)
    value = type(actor).__enter__(actor)
    return (True, None) if value is actor else (False, value)


def _drop(args: list[Any], kwargs: dict[str, Any], number: int) -> None:
    _actors.pop(number, None)


def _configure(args: list[Any], kwargs: dict[str, Any]) -> None:
    sys.path[:] = kwargs["search_paths"]
    for name in kwargs["preload"]:
        __import__(name)
    if kwargs["initializer"] is not None:
        kwargs["initializer"](*kwargs["initargs"])


_OPERATIONS: dict[str, Callable[..., Any]] = {
    "call": _call,
    "map": _map,
    "create": _create,
    "adopt": _adopt,
    "method": _method,
    "get": _get,
    "enter": _enter,
    "drop": _drop,
    "configure": _configure,
}


def prepare() -> None:
    """Make the interpreter ready for calls."""
    # Big packages are imported in every interpreter anew, and a good part of that was looking for garbage
    # that is not there. Code that wants Python's own thresholds can set them.
    gc.set_threshold(10_000, *gc.get_threshold()[1:])
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True)


def run() -> None:
    """Run calls until the pool is closed and nothing is left to do."""
    worker = _native.current_worker()
    assert worker is not None
    while True:
        call = worker.take()
        if call is None:
            return
        try:
            succeeded = _execute(call, worker)
        except BaseException as error:  # an interrupt that came late, say: the call must not be left open
            call.fail(*values.encode_exception(error))
            succeeded = False
        worker.finished(succeeded)
        del call


def _execute(call: _native.Call, worker: _native.Worker) -> bool:
    """Run one call and complete it; says whether it succeeded."""
    if not call.start():
        return True
    try:
        data, attachments = call.take_request()
        operation, args, kwargs = values.decode(data, attachments)
        try:
            if not worker.begin(call):
                raise errors.Interrupted("the call was interrupted")
            if attachments:
                _await_futures(args, kwargs)
            result = _OPERATIONS[operation[0]](args, kwargs, *operation[1:])
        finally:
            worker.end()
        del operation, args, kwargs, attachments
        data, attachments = values.encode(result, "result")
    except BaseException as error:
        call.fail(*values.encode_exception(_as_image_error(error)))
        return False
    call.succeed(data, attachments)
    return True


def _await_futures(args: list[Any], kwargs: dict[str, Any]) -> None:
    """Put the values of futures that are arguments in their place; those deeper inside stay futures."""
    futures = sys.modules.get("multipy_actors.futures")
    if futures is None:
        return
    for index, arg in enumerate(args):
        if type(arg) is futures.Future:
            args[index] = arg.result()
    for name, arg in kwargs.items():
        if type(arg) is futures.Future:
            kwargs[name] = arg.result()


def _as_image_error(error: BaseException) -> BaseException:
    """Return the loader's own error for an ImportError that a library caused."""
    if type(error) is not ImportError:
        return error
    import os

    failure = _native.take_load_failure(os.fsencode(str(error)))
    if failure is None:
        return error
    file, symbol = map(os.fsdecode, failure)
    image_error = errors.ImageError(str(error), file=file or None, symbol=symbol or None)
    image_error.__cause__ = error
    return image_error.with_traceback(error.__traceback__)


def _run_threading_exits() -> None:
    import threading

    for function in reversed(getattr(threading, "_threading_atexits", ())):
        function()


def finish() -> bool:
    """Let go of everything before Python is finalised; false if it must not be, as user threads still run."""
    _actors.clear()
    threading = sys.modules.get("threading")
    if threading is None:
        return True
    import time

    deadline = time.monotonic() + _JOIN_SECONDS
    # As threading itself does at exit, but not for ever: executors end their threads, then all are joined.
    exits = threading.Thread(target=_run_threading_exits, name="multipy-exit", daemon=True)
    exits.start()
    exits.join(_JOIN_SECONDS)
    for thread in threading.enumerate():
        if thread is threading.main_thread() or thread.daemon:
            continue
        thread.join(max(0.0, deadline - time.monotonic()))
        if thread.is_alive():
            import atexit

            print(
                f"multipy: thread {thread.name!r} still runs in an interpreter that is closing; "
                "the interpreter is left behind, its atexit handlers run now",
                file=sys.stderr,
            )
            atexit._run_exitfuncs()
            return False
    return True
