"""CUDA in one interpreter: a stream of its own, the GPU of an actor, a cache that others may have emptied.

Problem: all interpreters use the process's one CUDA context. On its default stream their kernels would run
one after the other; small ones of several models fit on a GPU together. And torch has a cache of GPU memory
in each interpreter, of which the others know nothing.

Model: torch calls `_begin` when it initialises CUDA here. From then on the threads that run calls have a
stream of the interpreter's own as their current one, on each GPU that is in use: `enter`, at the beginning of
each call, sees to that. It is one stream per interpreter and GPU, whichever thread runs the call, so calls of
one interpreter stay in order. Threads that user code starts begin on the default stream, as everywhere.
`OnGpu` makes an actor's GPU the current one for a call, or for a step of a coroutine.

Tensors bring their order with them (native/exchange/cuda.h). Beside that, a call that was given tensors of a
GPU ends with a Mark, so that what it did to them in place comes before what its caller does next.

The host uses this module as well, without streams of its own: user code may have chosen others there.

torch is not imported here. Whether it has been is asked at the first call, and then each time a module is
imported, by an entry of `sys.meta_path` that finds nothing itself.

Threads: any, under the interpreter's GIL; what is a thread's own is in `_thread`.
"""

from __future__ import annotations

import atexit
import sys
from _thread import _local

from multipy_actors import _native

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Sequence
    from typing import Any

__all__ = [
    "OnGpu",
    "at_first",
    "begin",
    "choose_gpu",
    "empty_cache",
    "enter",
    "follow",
    "gpus_of",
    "in_force",
    "marks",
    "on_gpu",
    "put_in_force",
    "stream_on",
    "watch",
]

_torch: Any = None  # once it has initialised CUDA
_gpus = 0  # how many there are
_has_own_streams = False
_streams: dict[int, Any] = {}  # the interpreter's own
_is_registered = False


class _Thread(_local):
    """What a thread has been told."""

    def __init__(self) -> None:
        self.streams: set[int] = set()  # GPUs on which its current stream is the interpreter's own
        self.gpu: int | None = None  # that is to be the current one, even if CUDA is not initialised yet
        self.before: list[
            tuple[int | None, int]
        ] = []  # what was, and what the current one was, for each OnGpu


_thread = _Thread()


def watch(own_streams: bool) -> None:
    """Wait for torch to initialise CUDA; in an interpreter, when its pool configures it."""
    global _has_own_streams
    _has_own_streams = own_streams
    _register()
    if not _is_registered:
        sys.meta_path.insert(0, _Watcher)


class _Watcher:
    """Notices that torch.cuda has been imported."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> None:
        if not _is_registered and "torch.cuda" in sys.modules:
            _register()


def _register() -> None:
    global _is_registered
    call_at_begin = getattr(sys.modules.get("torch.cuda"), "_lazy_call", None)  # absent while it is imported
    if not _is_registered and call_at_begin is not None:
        _is_registered = True
        call_at_begin(_begin)


def _begin() -> None:
    """Begin to use CUDA: torch has just initialised it, on this thread."""
    global _has_own_streams
    _meet(sys.modules["torch"])
    if _torch.version.cuda is None:
        _has_own_streams = False  # AMD's GPUs go by the same name; there all use the default stream
    if _thread.gpu is not None:
        _torch.cuda.set_device(_thread.gpu)
    if _has_own_streams:
        _take_stream(_torch.cuda.current_device())


def _meet(torch: Any) -> None:
    """Note that CUDA is in use here."""
    global _torch, _gpus
    if _torch is None:
        _torch = torch
        _gpus = torch.cuda.device_count()
        _native.offer_cuda_cache()
        atexit.register(_native.withdraw_cuda_cache)


def empty_cache() -> None:
    """Give back the GPU memory that nothing here uses; somebody has run out."""
    _native.drain_returns()
    if _torch is not None:
        _torch.cuda.empty_cache()


# Streams ---------------------------------------------------------------------------------------------------


def enter() -> None:
    """Begin a call on this thread: it uses the interpreter's own stream on all GPUs that are in use."""
    if _has_own_streams and _torch is not None and len(_thread.streams) < _gpus:
        for gpu in range(_gpus):
            # Asking for a stream would make a context on a GPU that nobody uses.
            if gpu not in _thread.streams and _torch._C._cuda_hasPrimaryContext(gpu):
                _take_stream(gpu)


def _take_stream(gpu: int) -> None:
    cuda = _torch.cuda
    stream = _streams.get(gpu)
    with cuda.device(gpu):
        if stream is None:
            # With the first stream of its own making, torch makes all 32 or more of its pool, some 70 MB.
            address = _native.take_cuda_stream(gpu)
            stream = _streams[gpu] = cuda.ExternalStream(address, device=gpu)
            atexit.register(_native.give_back_cuda_stream, gpu, address)
        stream.wait_stream(cuda.current_stream(gpu))  # whose results this thread may use
        cuda.set_stream(stream)
    _thread.streams.add(gpu)


def in_force() -> tuple[int, Any] | None:
    """Return this thread's current GPU and its stream there; None: CUDA is not in use."""
    if _torch is None:
        return None
    gpu = _torch._C._cuda_getDevice()
    if not _torch._C._cuda_hasPrimaryContext(gpu):
        return gpu, None
    return gpu, _torch._C._cuda_getCurrentStream(gpu)


def at_first() -> tuple[int, Any] | None:
    """Return the same of a thread that runs its first call."""
    if _torch is None:
        return None
    own = _streams.get(0)
    if own is None or not _has_own_streams:
        return 0, (_torch._C._cuda_getDefaultStream(0) if _torch._C._cuda_hasPrimaryContext(0) else None)
    return 0, (own.stream_id, own.device_index, own.device_type)


def put_in_force(state: tuple[int, Any] | None) -> None:
    """Have the current GPU and its stream be these on this thread."""
    if state is None or _torch is None:
        return
    gpu, stream = state
    _torch._C._cuda_exchangeDevice(gpu)
    if stream is not None and stream != _torch._C._cuda_getCurrentStream(gpu):
        _torch._C._cuda_setStream(stream_id=stream[0], device_index=stream[1], device_type=stream[2])


def begin() -> None:
    """Have torch, which is imported here, initialise CUDA, as others of this process have done."""
    if _torch is None:
        torch = sys.modules["torch"]
        torch.cuda.init()
        _meet(torch)


def stream_on(gpu: int) -> int:
    """Return the address of the stream that this thread computes on there."""
    if _torch is None:
        begin()
    return _torch._C._cuda_getCurrentRawStream(gpu)  # type: ignore[no-any-return]


def gpus_of(attachments: Sequence[_native.Attachment]) -> set[int]:
    """Return the GPUs that tensors among `attachments` are on."""
    if _torch is None:
        return set()
    return {
        item.gpu for item in attachments if isinstance(item, _native.SharedTensor) and item.gpu is not None
    }


def marks(gpus: set[int]) -> list[_native.Attachment]:
    """Mark what this thread has told each of the GPUs so far."""
    return [_native.Mark(gpu, _torch._C._cuda_getCurrentRawStream(gpu)) for gpu in gpus]


def follow(mark: _native.Mark) -> None:
    """Have what this thread tells the GPU from here on happen after `mark`."""
    if _torch is not None:
        mark.wait(_torch._C._cuda_getCurrentRawStream(mark.gpu))


# The GPU of an actor ---------------------------------------------------------------------------------------


def choose_gpu(number: int, is_any: bool) -> int:
    """Return the GPU an actor is to use: `number`, or with `is_any` the one that this comes to, in turn."""
    if not is_any:
        return number
    import torch

    count = torch.cuda.device_count()
    if count == 0:
        raise RuntimeError('the option device="auto" needs a GPU, and torch sees none')
    return number % count


class OnGpu:
    """A context in which `gpu` is the thread's current one."""

    __slots__ = ("_gpu",)

    def __init__(self, gpu: int) -> None:
        """For any number of uses, on any threads."""
        self._gpu = gpu

    def __enter__(self) -> None:
        """Make it the current one, now or when CUDA is initialised."""
        before = 0
        wanted_before, _thread.gpu = _thread.gpu, self._gpu
        if _torch is not None:
            before = _torch._C._cuda_exchangeDevice(self._gpu)
        _thread.before.append((wanted_before, before))
        if _torch is not None and _has_own_streams and self._gpu not in _thread.streams:
            _take_stream(self._gpu)

    def __exit__(self, *_: object) -> None:
        """Go back to the one before."""
        _thread.gpu, before = _thread.before.pop()
        if _torch is not None:
            _torch._C._cuda_exchangeDevice(before)


class _Steps:
    """Awaits `task` with `gpu` as the current one at each of its steps."""

    def __init__(self, gpu: OnGpu, task: Coroutine[Any, Any, Any]) -> None:
        self._gpu = gpu
        self._task = task

    def __await__(self) -> Generator[Any, Any, Any]:
        resume: Callable[[Any], Any] = self._task.send
        value: Any = None
        while True:
            with self._gpu:
                try:
                    awaited = resume(value)
                except StopIteration as end:
                    return end.value
            try:
                value = yield awaited
                resume = self._task.send
            except BaseException as error:
                resume, value = self._task.throw, error


async def on_gpu(gpu: OnGpu, task: Coroutine[Any, Any, Any]) -> Any:
    """Run `task` with `gpu` as the current one at each of its steps; others run in between."""
    return await _Steps(gpu, task)
