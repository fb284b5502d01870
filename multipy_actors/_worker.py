"""The inside of a private interpreter: takes calls, runs them, sends back what came of them.

Problem: a call is bytes in a queue of the core; it must become a Python call here, and its value or its
exception bytes again, without the host's GIL and at little cost.

Model: native/bindings/boot.cpp runs `prepare`, `run` and `finish` of this module, in this order, on the
interpreter's only worker thread. What a request asks for is one of `_operations`.

Threads: everything here runs on the worker thread, which is also Python's main thread here; it blocks in
`take` without holding this interpreter's GIL. User code may start threads of its own; `finish` waits for
those that are not daemons, as Python does at exit, but not for ever.

Guarantees: whatever a call raises, SystemExit and KeyboardInterrupt included, fails that call alone. What is
raised in this loop itself, by another thread or for want of memory, ends nothing: the core knows which calls
the worker has in hand, delivers again those that have not begun and fails the others. What another thread
raises while no call runs is dropped. The recursion limit is raised for the library's own part of a call.
"""

from __future__ import annotations

import sys

from multipy_actors import _cuda, _importing, _interrupts, _native, _output, _requests, values
from multipy_actors._operations import (
    OPERATIONS,
    Deferred,
    awaits_by_itself,
    close_streams,
    enter_gpu,
    forget_actors,
    keep_failure,
    leave_gpu,
    run_checked,
)
from multipy_actors._requests import await_futures, encode_failure, encode_result, fail, interrupted

_JOIN_SECONDS = 5.0  # how long the end of an interpreter waits for threads of the user's code


def prepare() -> None:
    """Make the interpreter ready for calls."""
    _importing.prepare()
    _output.prepare()
    _interrupts.prepare()


def run() -> None:
    """Run calls until the pool is closed and nothing is left to do."""
    worker = _native.current_worker()
    assert worker is not None
    while True:
        call = None
        try:
            while (call := worker.take()) is not None:
                succeeded = _execute(call, worker)
                if succeeded is not None:
                    worker.finished(succeeded)
                del call
            return
        except BaseException as error:  # raised by another thread, say, between two calls
            worker.lost(error)


def _execute(call: _native.Call, worker: _native.Worker) -> bool | None:
    """Run one call and complete it, or hand it over (None); says whether it succeeded.

    What the call was given is let go of before its outcome is told.
    """
    if not call.start():
        return True
    try:
        try:
            outcome = worker.run(call, _serve)
        except BaseException as error:  # it was raised while a failure was being encoded
            if not _interrupts.is_interruption(error):
                call.fail_plainly(error)
                return False
            outcome = None
        if outcome is None:
            if call.makes:
                keep_failure(call.makes, interrupted(call))
            fail(call, interrupted(call))
            return False
        if type(outcome) is Deferred:
            return outcome.run(call, worker)
    finally:
        leave_gpu()
    succeeded: bool
    succeeded, data, attachments = outcome
    if succeeded:
        call.succeed(data, attachments)
    else:
        call.fail(data, attachments)
    return succeeded


def _serve(call: _native.Call) -> Deferred | tuple[bool, bytes, list[_native.Attachment]]:
    """Do what `call` asks for: whether it succeeded, and the encoded value or exception.

    All of the user's code that a call runs is run in here, where interrupts reach it.
    """
    gpus: set[int] | None = None
    request = attachments = None
    try:
        _cuda.enter()
        data, attachments = call.take_request()
        request = values.decode_call(data, attachments)
        operation, args, kwargs, share = request
        if attachments and not awaits_by_itself(operation):
            await_futures(args, kwargs)
        _cuda.given = gpus = _cuda.gpus_of(attachments) if attachments else None
        _requests.share = share
        enter_gpu(operation)
        if _requests.checks is None:
            result = OPERATIONS[operation[0]](args, kwargs, *operation[1:])
        else:
            result = run_checked(_requests.checks, operation, args, kwargs, attachments)
        if type(result) is Deferred:
            return result
        del operation, args, kwargs
        request = attachments = None
        try:
            encoded = encode_result(result, gpus, share)
        except BaseException:
            if not _native.keep_recursion_limit():
                raise
            encoded = encode_result(result, gpus, share)
        if _requests.checks is not None:
            _requests.checks.sent(encoded[1])
        return True, *encoded
    except BaseException as error:
        _native.keep_recursion_limit()
        if call.makes:
            keep_failure(call.makes, error)
        encoded = encode_failure(error, gpus)
        # Frames that somebody has kept may lead to this one.
        for part in (*(request or ())[:3], attachments):
            if part:
                part.clear()
        return False, *encoded


def _run_threading_exits() -> None:
    import threading

    for function in reversed(getattr(threading, "_threading_atexits", ())):
        function()


def _end_calls() -> None:
    """Close the streams, wait for what goes on on the event loop, and drop the actors."""
    try:
        close_streams()
    except BaseException:
        sys.excepthook(*sys.exc_info())
    for name in ("_loop", "_streams"):
        module = sys.modules.get(f"multipy_actors.{name}")
        if module is not None:
            module.finish()
    forget_actors()


def finish() -> bool:
    """Let go of everything before Python is finalised; false if it must not be, as user threads still run."""
    _end_calls()
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
