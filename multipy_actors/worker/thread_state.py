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

Kept are the context of `contextvars` (native/bindings/contexts.h), the event loop of
`asyncio.set_event_loop`, and of torch grad mode, inference mode, autocast, the default device, and the
current GPU with its stream. Nothing is called here before torch or asyncio has been imported. Not kept are
`threading.local`, what libraries bind to a thread, and `torch.set_num_threads` (docs/guides/actors.md).

Threads: those of workers. A state is read and written by the thread that runs a call of its actor, and there
is one at a time; with `max_concurrency` the call that ends last decides.
"""

from __future__ import annotations

import sys
from _thread import _local

from multipy_actors import _native, gpu
from multipy_actors.modules import imported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
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

    __slots__ = ("loop", "torch")

    def __init__(self, torch: Torch | None = None) -> None:
        """Of torch and asyncio."""
        self.torch = torch
        self.loop: tuple[Any, bool] | None = None


class _Here(_local):
    """What is in force on this thread."""

    inference: Any = None  # torch's, as put in force here
    left: tuple[Torch | None, tuple[Any, bool]] | None = None  # in force since the state was handed back


_states = {_FUNCTIONS: State()}
_here = _Here()
_read: Callable[[], Torch] | None = None  # once torch has been imported


def prepare() -> None:
    """Begin, on the first thread."""
    _native.on_change_of_actor(change)


def change(before: int, after: int, lives: int, is_new: int) -> None:
    """Have the state of `after`, an actor's number, in force on this thread, in place of that of `before`.

    That of `before` is kept if it `lives`; `after` may run its first call (`is_new`).
    """
    if before == _NOBODY:
        torch, loop = _left_in_force()
    else:
        torch, loop = _read_torch(), _read_loop()
        if lives:
            kept = _states.get(before)
            if kept is None:
                kept = _states[before] = State()
            kept.torch, kept.loop = torch, loop
    if after == _NOBODY:
        _here.left = torch, loop
        return
    state = _states.get(after)
    if state is None:
        state = _states[after] = State(_states[_FUNCTIONS].torch if is_new else None)
    if torch is not None:
        wanted = state.torch or _beginning()
        if wanted != torch:
            _put_in_force(torch, wanted)
    if loop != (state.loop or _NO_LOOP):
        _set_loop(*(state.loop or _NO_LOOP))


def _left_in_force() -> tuple[Torch | None, tuple[Any, bool]]:
    """Return what is in force here, where nobody's state is."""
    torch, loop = _here.left or (None, _NO_LOOP)
    if torch is None:
        return _read_torch(), loop
    return (*torch[:4], gpu.in_force()), loop  # a call that began with CUDA has done so for all threads


def keep() -> None:
    """Note the state in force, that of functions: new actors begin with it."""
    _states[_FUNCTIONS].torch = _read_torch()


def forget(number: int) -> None:
    """Drop what is kept for an actor that has ended."""
    _native.forget_actor(number)
    _states.pop(number, None)


# Torch -----------------------------------------------------------------------------------------------------


def _read_torch() -> Torch | None:
    """Return what is in force on this thread; None: torch has not been imported."""
    global _read
    if _read is None:
        torch = imported("torch")
        if torch is None or not hasattr(torch, "get_autocast_dtype"):
            return None
        _read = _reader(torch)
    return _read()


def _reader(torch: Any) -> Callable[[], Torch]:
    """Return what reads the state of a thread, with torch's functions at hand: it runs between calls."""
    grad, inference = torch.is_grad_enabled, torch.is_inference_mode_enabled
    autocasts, dtype = torch.is_autocast_enabled, torch.get_autocast_dtype
    names = vars(torch)  # the module itself takes long to say that it has no such name

    def read() -> Torch:
        default = names.get("_GLOBAL_DEVICE_CONTEXT")
        # What `torch.set_default_device` was given; `get_default_device` has "cpu" for none.
        device = default and getattr(getattr(default, "device_context", None), "device", None)
        return (
            grad(),
            inference(),
            tuple([(autocasts(kind), dtype(kind)) for kind in _AUTOCASTS]),
            device,
            gpu.in_force(),
        )

    return read


def _beginning() -> Torch:
    """Return what a thread begins with."""
    torch = sys.modules["torch"]
    dtypes = torch.bfloat16, torch.float16
    return True, False, tuple((False, dtype) for dtype in dtypes), None, gpu.at_first()


def _put_in_force(now: Torch, wanted: Torch) -> None:
    torch = sys.modules["torch"]
    grad, inference, autocasts, device, on_gpu = wanted
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
    if on_gpu != now[4]:
        gpu.put_in_force(on_gpu)


# asyncio ---------------------------------------------------------------------------------------------------


def _policy_of_thread() -> Any:
    events = imported("asyncio.events")
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
