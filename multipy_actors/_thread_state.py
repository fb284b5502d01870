"""What Python and torch keep for a thread, kept for an actor, whichever thread runs its calls.

Problem: the calls of an actor run one at a time, but on whichever thread of the interpreter is free, and the
same thread runs those of other actors. Grad mode, say, is a thread's: what one actor's `__init__` switches
off would be off for others, and on for the actor itself when it runs elsewhere. With processes each has its
own.

Model: a `State` for each actor, and one for all functions, which an initializer sets and new actors begin
with. The state of one of them is in force on a thread. When the thread is about to run a call of another,
what is in force is read and kept, and that of the other is put in force (`change`). The first thread keeps
the state of the last call between its calls. The others hand it back after each, so that any thread may run
the next one (native/bindings/bind_worker.cpp); what they leave in force is undone where the next call wants
something else.

Kept are the context of `contextvars`, the event loop of `asyncio.set_event_loop`, and of torch grad mode,
inference mode, autocast, the default device, and the current GPU with its stream. Not kept are
`threading.local`, what libraries bind to a thread, and `torch.set_num_threads` (docs/guides/actors.md).

Threads: those of workers. A state is read and written by the thread that runs a call of its actor, and there
is one at a time; with `max_concurrency` the call that ends last decides.
"""

from __future__ import annotations

import sys
from _thread import _local

from multipy_actors import _cuda, _native

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    # Grad and inference mode, for each of _AUTOCASTS whether and in which type, the device, the GPU with its
    # stream.
    Torch = tuple[bool, bool, tuple[tuple[bool, Any], ...], Any, Any]

__all__ = ["change", "forget", "keep", "prepare"]

_NOBODY = -1  # whose state is in force on a thread that runs nothing
_FUNCTIONS = 0

_AUTOCASTS = ("cpu", "cuda")

_NO_LOOP = None, False


class State:
    """What is kept for one actor while it is in force nowhere; None: what a thread begins with."""

    __slots__ = ("context", "loop", "torch")

    def __init__(
        self, context: Any, torch: Torch | None = None, loop: tuple[Any, bool] | None = None
    ) -> None:
        """Of `contextvars`, torch and asyncio."""
        self.context = context
        self.torch = torch
        self.loop = loop


class _Here(_local):
    """What is in force on this thread."""

    context: Any = None  # that it has entered
    inference: Any = None  # torch's, as put in force here
    left: tuple[Torch | None, tuple[Any, bool]] | None = None  # in force since the state was handed back


_states: dict[int, State] = {}
_here = _Here()
_torch: Any = None  # once it has been imported


def prepare() -> None:
    """Begin, on the first thread."""
    _states[_FUNCTIONS] = State(_native.copy_context())
    _native.on_change_of_actor(change)


def change(before: int, after: int) -> None:
    """Have the state of `after`, an actor's number, in force on this thread, in place of that of `before`."""
    torch, loop = _hand_back(before) if before != _NOBODY else _left_in_force()
    if after == _NOBODY:
        _here.left = torch, loop
        return
    state = _states.get(after) or _new(after)
    _enter(state.context)
    if torch is not None:
        wanted = state.torch or _beginning()
        if wanted != torch:
            _put_in_force(torch, wanted)
    if loop != (state.loop or _NO_LOOP):
        _set_loop(*(state.loop or _NO_LOOP))


def _hand_back(number: int) -> tuple[Torch | None, tuple[Any, bool]]:
    """Keep the state of `number`, which is in force here; what of it stays in force."""
    torch, loop = _read_torch(), _read_loop()
    state = _states.get(number)
    if state is not None:
        state.torch = torch
        state.loop = loop
    if _here.context is not None:  # else entering it had failed
        _native.leave_context(_here.context)
        _here.context = None
    return torch, loop


def _left_in_force() -> tuple[Torch | None, tuple[Any, bool]]:
    """Return what is in force here, where nobody's state is."""
    torch, loop = _here.left or (None, _NO_LOOP)
    if torch is None:
        return _read_torch(), loop
    return (*torch[:4], _cuda.in_force()), loop  # a call that began with CUDA has done so for all threads


def _enter(context: Any) -> None:
    try:
        _native.enter_context(context)
    except RuntimeError:
        # It is in force on another thread: several calls of one actor run, or functions wait.
        context = context.copy()
        _native.enter_context(context)
    _here.context = context


def _new(number: int) -> State:
    first = _states[_FUNCTIONS]
    state = _states[number] = State(first.context.copy(), first.torch)
    return state


def keep() -> None:
    """Note the state in force, that of functions: new actors begin with it."""
    _states[_FUNCTIONS].torch = _read_torch()


def forget(number: int) -> None:
    """Drop what is kept for an actor that has ended."""
    _states.pop(number, None)


# Torch -----------------------------------------------------------------------------------------------------


def _imported_torch() -> Any:
    global _torch
    if _torch is None:
        torch = sys.modules.get("torch")
        if torch is None or getattr(getattr(torch, "__spec__", None), "_initializing", False):
            return None
        _torch = torch if hasattr(torch, "get_autocast_dtype") else None
    return _torch


def _read_torch() -> Torch | None:
    """Return what is in force on this thread; None: torch has not been imported."""
    torch = _imported_torch()
    if torch is None:
        return None
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        tuple((torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind)) for kind in _AUTOCASTS),
        _default_device(torch),
        _cuda.in_force(),
    )


def _default_device(torch: Any) -> Any:
    """Return what `torch.set_default_device` was given; `get_default_device` has "cpu" for none."""
    context = getattr(getattr(torch, "_GLOBAL_DEVICE_CONTEXT", None), "device_context", None)
    return getattr(context, "device", None)


def _beginning() -> Torch:
    """Return what a thread begins with."""
    torch = sys.modules["torch"]
    dtypes = torch.bfloat16, torch.float16
    return True, False, tuple((False, dtype) for dtype in dtypes), None, _cuda.at_first()


def _put_in_force(now: Torch, wanted: Torch) -> None:
    torch = sys.modules["torch"]
    grad, inference, autocasts, device, gpu = wanted
    if inference != now[1]:
        # What was put in force here is undone before anything else is: these nest, and take autocast along.
        guard, _here.inference = _here.inference, None
        if guard is not None:
            guard.__exit__(None, None, None)
        if torch.is_inference_mode_enabled() != inference:
            _here.inference = torch.inference_mode(inference)
            _here.inference.__enter__()
        now = _read_torch() or now
    if torch.is_grad_enabled() != grad:
        torch.set_grad_enabled(grad)
    for kind, (enabled, dtype), known in zip(_AUTOCASTS, autocasts, now[2], strict=True):
        if (enabled, dtype) != known:
            torch.set_autocast_enabled(kind, enabled)
            torch.set_autocast_dtype(kind, dtype)
    if device != now[3]:
        torch.set_default_device(device)
    if gpu != now[4]:
        _cuda.put_in_force(gpu)


# asyncio ---------------------------------------------------------------------------------------------------


def _policy_of_thread() -> Any:
    events = sys.modules.get("asyncio.events")
    return getattr(getattr(events, "_event_loop_policy", None), "_local", None)


def _read_loop() -> tuple[Any, bool]:
    if "asyncio.events" not in sys.modules:
        return _NO_LOOP
    local = _policy_of_thread()
    return getattr(local, "_loop", None), getattr(local, "_set_called", False)


def _set_loop(loop: Any, was_set: bool) -> None:
    local = _policy_of_thread()
    if local is not None:
        local._loop, local._set_called = loop, was_set
