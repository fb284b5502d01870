"""The inside of a private interpreter: takes calls, runs them, sends back what came of them.

Problem: a call is bytes in a queue of the core; it must become a Python call here, and its value or its
exception bytes again, without the host's GIL and at little cost.

Model: native/bindings/boot.cpp runs `prepare`, `run` and `finish` of this module, in this order, on the
interpreter's first worker thread, Python's main one. What a request asks for is one of `operations`.

Threads: there is one more that does `run`, and `forget_thread` at its end, than there are calls under way
(see native/pool/dispatcher.h). They block in `take` without holding this interpreter's GIL. User code may
start threads of its own; `finish` waits for those that are not daemons, as Python does at exit, but not for
ever.

Guarantees: whatever a call raises, SystemExit and KeyboardInterrupt included, fails that call alone. What is
raised in this loop itself, by another thread or for want of memory, ends nothing: the core knows which calls
the worker has in hand, delivers again those that have not begun and fails the others. What another thread
raises while no call runs is dropped. The recursion limit is raised for the library's own part of a call.
"""

from __future__ import annotations

import sys
from _thread import get_ident
from time import monotonic

from multipy_actors import _native, gpu, interrupts, wire
from multipy_actors.modules import imported
from multipy_actors.worker import calls, imports, output, thread_state
from multipy_actors.worker.calls import (
    at_hand,
    await_futures,
    encode_failure,
    encode_result,
    fail,
    interrupted,
)
from multipy_actors.worker.operations import (
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

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any

_PATIENCE = 5.0  # seconds that the end of an interpreter waits for what user code has left running, in all

_main_thread = 0


def prepare() -> None:
    """Make the interpreter ready for calls."""
    global _main_thread
    _main_thread = get_ident()
    if getattr(sys, "_stdlib_dir", None):
        _name_files_of_frozen_modules()
    imports.prepare()
    output.prepare()
    interrupts.prepare()
    thread_state.prepare()


def _name_files_of_frozen_modules() -> None:
    """Have what was imported from the executable while Python started know its file in the standard library.

    Python does that, if it knows the folder by then: see native/bindings/boot.cpp.
    """
    importlib: Any = sys.modules["_frozen_importlib"]  # which is there before the folder is known to anybody
    for module in list(sys.modules.values()):
        spec = getattr(module, "__spec__", None)
        if spec is None or spec.loader is not importlib.FrozenImporter or hasattr(module, "__file__"):
            continue
        found = spec.loader.find_spec(spec.name)
        if module is not importlib and found is not None and found.loader_state.filename:
            spec.loader_state = found.loader_state
            module.__file__ = found.loader_state.filename


def run() -> None:
    """Run calls until nothing is left to do: the pool is closed, or this thread is needed no more."""
    worker = _native.current_worker()
    assert worker is not None
    imports.note_thread()
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


def forget_thread() -> None:
    """Drop what is kept of this thread, which has run calls."""
    imports.forget_thread()
    threading = imported("threading")
    if threading is not None:
        threading._active.pop(get_ident(), None)


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
            if not interrupts.is_interruption(error):
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
        gpu.enter()
        data, attachments = call.take_request()
        request = wire.decode_call(data, attachments)
        operation, args, kwargs, share = request
        if attachments and not awaits_by_itself(operation):
            await_futures(args, kwargs)
        gpus = gpu.gpus_of(attachments) if attachments else None
        at_hand.gpus, at_hand.share = gpus, share
        enter_gpu(operation)
        if calls.checks is None:
            result = OPERATIONS[operation[0]](args, kwargs, *operation[1:])
        else:
            result = run_checked(calls.checks, operation, args, kwargs, attachments)
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
        if calls.checks is not None:
            calls.checks.sent(encoded[1])
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


def describe_threads() -> str:
    """Say, line by line, where the user's code is that runs in this interpreter; on a thread of the core."""
    threading = imported("threading")
    names = {} if threading is None else {number: thread.name for number, thread in threading._active.items()}
    lines = []
    for number, frame in sys._current_frames().items():
        name = names.get(number, "MainThread" if number == _main_thread else "worker")
        place = _users_place(frame)
        if place is not None:
            lines.append(f"thread {name!r}: {place}")
    loop = imported("multipy_actors.worker.event_loop")
    if loop is not None:
        lines += loop.describe_tasks(_users_place)
    return "\n".join(lines)


def _users_place(frame: FrameType | None) -> str | None:
    """Return the innermost line of the user's code at or below `frame`."""
    while frame is not None:
        module = str(frame.f_globals.get("__name__")).partition(".")[0]
        if (module != "multipy_actors" and module not in sys.stdlib_module_names) or module == "__main__":
            code = frame.f_code
            return f'File "{code.co_filename}", line {frame.f_lineno}, in {code.co_name}'
        frame = frame.f_back
    return None


class _Patience:
    """How long what user code has left to be done may hold up the end, in all."""

    def __init__(self, seconds: float) -> None:
        self._end = monotonic() + seconds

    def left(self) -> float:
        """Return the seconds that are left."""
        return max(0.0, self._end - monotonic())


def _attempt(function: Callable[..., object], *args: object) -> object:
    """Call `function`; what it raises is printed, as what is left to be done must be."""
    try:
        return function(*args)
    except BaseException as error:
        if not interrupts.is_interruption(error):  # else it was in the way of the end
            sys.excepthook(*sys.exc_info())
        return None


def _run_threading_exits() -> None:
    import threading

    for function in reversed(getattr(threading, "_threading_atexits", ())):
        function()


def _end_threads(patience: _Patience) -> list[str]:
    """Wait for threads that user code has started; returns the names of those that go on."""
    threading = imported("threading")
    if threading is None:
        return []
    # As threading itself does at exit, but not for ever: executors end their threads, then all are joined.
    exits = threading.Thread(target=_run_threading_exits, name="multipy-exit", daemon=True)
    exits.start()
    exits.join(patience.left())
    others = [
        thread
        for thread in threading.enumerate()
        if thread is not threading.main_thread() and not thread.daemon
    ]
    for thread in others:
        thread.join(patience.left())
    return [repr(thread.name) for thread in others if thread.is_alive()]


def finish() -> bool:
    """Let go of everything before Python is finalised; false if it must not be, as user threads still run.

    What runs on this thread meanwhile, a `finally`, `__del__` or atexit handler, takes the time it wants; if
    that is too long the interpreter is left behind by whoever waits for it (see native/pool/closing.h).
    """
    import atexit

    _attempt(close_streams)
    seconds: Any = _PATIENCE
    loop = imported("multipy_actors.worker.event_loop")
    if loop is not None:
        seconds = _attempt(loop.finish, _PATIENCE) or 0.0
    patience = _Patience(seconds)
    streams = imported("multipy_actors.worker.generators")
    if streams is not None:
        _attempt(streams.finish)
    _attempt(forget_actors)
    still_run: Any = _attempt(_end_threads, patience)
    if still_run:
        print(
            f"multipy: thread {', '.join(still_run)} still runs in an interpreter that is closing; "
            "the interpreter is left behind, its atexit handlers run now",
            file=sys.stderr,
        )
    _attempt(atexit._run_exitfuncs)
    return bool(still_run == [])
