"""What the modules that run calls inside an interpreter have in common: reading requests, reporting failures.

Model: plain functions over a call of the core. `serve` runs calls on its own thread, `batching` several as
one, `event_loop` on an event loop and `generators` piece by piece; all of them complete calls, and the
outcome of a call that somebody else has ended meanwhile (it took too long, its actor was killed) is dropped
by the core.

Threads: any.
"""

from __future__ import annotations

from _thread import _local

from multipy_actors import _native, gpu, wire
from multipy_actors.interrupts import is_interruption
from multipy_actors.modules import imported
from multipy_actors.wire.sharing import ARRAYS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Any

    from multipy_actors.wire.sharing import Share
    from multipy_actors.wire.write_checks import WriteChecks

__all__ = [
    "as_told",
    "await_futures",
    "encode_error",
    "encode_failure",
    "encode_result",
    "fail",
    "futures_among",
    "interrupted",
    "kept_traceback",
    "took_too_long",
]

_SUSPENDABLE = 0x20 | 0x80 | 0x200  # flags of generators, coroutines and asynchronous generators


class _AtHand(_local):
    """What is known of the call that this thread has read last."""

    share: Share = ARRAYS
    gpus: set[int] | None = None  # of its arguments


at_hand = _AtHand()
checks: WriteChecks | None = None  # where writes to shared memory are looked for


def await_futures(args: list[Any], kwargs: dict[str, Any]) -> None:
    """Put the values of futures that are arguments in their place; those deeper inside stay futures."""
    for container, place in futures_among(args, kwargs):
        container[place] = container[place].result()


def futures_among(args: list[Any], kwargs: dict[str, Any]) -> Iterator[tuple[Any, Any]]:
    """Yield where among the arguments there are futures, as container and place."""
    futures = imported("multipy_actors.futures")
    if futures is None:
        return
    for index, arg in enumerate(args):
        if type(arg) is futures.Future:
            yield args, index
    for name, arg in kwargs.items():
        if type(arg) is futures.Future:
            yield kwargs, name


def interrupted(call: _native.Call) -> BaseException:
    """Return the error of a call that was made to end."""
    from multipy_actors import errors

    if call.killed:
        return errors.ActorClosedError("the actor was killed")
    return errors.Interrupted("the call was interrupted")


def took_too_long(limit: float | None) -> TimeoutError:
    """Return the error of an object whose `__init__` was made to end."""
    return TimeoutError(f"the actor's __init__ has outlived the timeout of {limit} seconds")


def encode_result(
    result: object, gpus: set[int] | None, share: Share = ARRAYS
) -> tuple[bytes, list[_native.Attachment]]:
    """Encode what a call returned, which comes after all that it told `gpus`, those of its arguments."""
    data, attachments = wire.encode(result, "result", share=share)
    if gpus:
        attachments += gpu.marks(gpus)
    return data, attachments


def encode_failure(
    error: BaseException, gpus: set[int] | None = None
) -> tuple[bytes, list[_native.Attachment]]:
    """Encode what was raised, which any error can be, and let go of what its frames hold: the arguments.

    Its traceback is text from here on, as in the process pools of the standard library.
    """
    encoded = encode_error(error, gpus)
    BaseException.with_traceback(error, None)
    return encoded


def encode_error(
    error: BaseException, gpus: set[int] | None = None
) -> tuple[bytes, list[_native.Attachment]]:
    """Encode an error that stays as it is."""
    try:
        return _encode_error(error, gpus)
    except (MemoryError, RecursionError):
        _make_room(error)
        return _encode_error(error, gpus)


def _encode_error(error: BaseException, gpus: set[int] | None) -> tuple[bytes, list[_native.Attachment]]:
    data, attachments = wire.encode_exception(_as_image_error(as_told(error)))
    if gpus:
        attachments += gpu.marks(gpus)
    return data, attachments


def fail(call: _native.Call, error: BaseException, gpus: set[int] | None = None) -> None:
    """End `call` with what was raised, which any error can be, and whatever is raised meanwhile."""
    try:
        data, attachments = encode_failure(error, gpus)
    except BaseException:
        call.fail_plainly(error)
    else:
        call.fail(data, attachments)


def as_told(error: BaseException) -> BaseException:
    """Return what others get for `error`, which may be an interrupt of the call that runs."""
    if not is_interruption(error):
        return error
    told: BaseException = error.told()  # type: ignore[attr-defined]
    return told


def _make_room(error: BaseException) -> None:
    """Let go of what the code that failed holds, and have the library be able to call functions."""
    _native.keep_recursion_limit()
    traceback = error.__traceback__
    while traceback is not None:
        try:  # noqa: SIM105 - contextlib would have to be imported
            traceback.tb_frame.clear()
        except RuntimeError:  # it still runs
            pass
        traceback = traceback.tb_next


def kept_traceback(error: BaseException) -> TracebackType | None:
    """Return the traceback of an error that is to be raised again and again, without what its frames hold."""
    from contextlib import suppress

    traceback = step = error.__traceback__
    while step is not None:
        code = step.tb_frame.f_code
        if not code.co_flags & _SUSPENDABLE:  # that would be closed
            with suppress(RuntimeError):  # it still runs
                step.tb_frame.clear()
        step = step.tb_next
    return traceback


def _as_image_error(error: BaseException) -> BaseException:
    """Return the loader's own error for an ImportError that a library caused, on this thread."""
    if type(error) is not ImportError:
        return error
    import os

    from multipy_actors import errors

    failure = _native.take_load_failure(os.fsencode(str(error)))
    if failure is None:
        return error
    file, symbol = map(os.fsdecode, failure)
    image_error = errors.ImageError(str(error), file=file or None, symbol=symbol or None)
    image_error.__cause__ = error
    return image_error.with_traceback(error.__traceback__)
