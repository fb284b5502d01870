"""
The native side of multipy_actors: images, interpreters, mailboxes, calls and tensors.
"""

from collections.abc import Sequence

from typing_extensions import CapsuleType


def take_load_failure(text: bytes) -> tuple[bytes, bytes] | None:
    """
    The file and symbol of the library that last failed to load on this thread, if it failed with `text`.

    All are in the file system encoding.
    """

class SharedTensor:
    """
    A tensor handed over by reference: sender and receivers see the same memory.

    It may be received any number of times; the exporter's memory is released, in the exporter's
    interpreter, when the last receiver is done.
    """

    def __init__(self, capsule: CapsuleType) -> None:
        """Takes over a DLPack capsule."""

    def __dlpack__(self, *, stream: object | None = None, max_version: object | None = None, dl_device: object | None = None, copy: object | None = None) -> CapsuleType:
        """A new capsule over the same memory."""

    def __dlpack_device__(self) -> tuple[int, int]:
        """(device type, device number), as DLPack counts them."""

    @property
    def read_only(self) -> bool: ...

    @property
    def nbytes(self) -> int: ...

class Call:
    """One request to an interpreter and, once done, its outcome."""

    @property
    def state(self) -> str:
        """
        How far it is: pending, running, or for good succeeded, failed or cancelled.
        """

    @property
    def key(self) -> int:
        """Identifies the call while it is alive."""

    @property
    def interpreter(self) -> int:
        """Index of the interpreter that took it; -1: none yet."""

    def done(self) -> bool: ...

    def wait(self, timeout: float | None = None) -> bool:
        """
        Waits until it is done; false: `timeout` seconds passed. Signals are handled meanwhile.
        """

    def cancel(self) -> bool:
        """Takes it back if it has not started."""

    def result(self) -> tuple[bytes, list[SharedTensor]]:
        """The encoded value or exception, by `state`. Only once done."""

    def watch(self, queue: CompletionQueue) -> None:
        """Pushes the call to `queue` when it is done."""

    def start(self) -> bool:
        """pending to running; false: it was cancelled."""

    def take_request(self) -> tuple[bytes, list[SharedTensor]]:
        """Moves the encoded request out, once."""

    def succeed(self, data: bytes, tensors: Sequence[SharedTensor]) -> bool: ...

    def fail(self, data: bytes, tensors: Sequence[SharedTensor]) -> bool: ...

class CompletionQueue:
    """
    Calls that are done, for the one thread that tells whoever watches them.
    """

    def __init__(self) -> None: ...

    def pop(self) -> Call | None:
        """The next call; None: woken, or closed."""

    def wake(self) -> None: ...

    def close(self) -> None: ...

    def closed(self) -> bool: ...

class Pool:
    """Private interpreters and the queues that feed them."""

    def __init__(self, names: Sequence[str], libpython: bytes, extension: bytes, settings: Sequence[tuple[bytes, bytes]], environment: Sequence[tuple[bytes, bytes]], private_patterns: Sequence[str], shared_patterns: Sequence[str]) -> None: ...

    def __len__(self) -> int: ...

    def start(self) -> None:
        """Boots all interpreters in parallel."""

    def wait_started(self, timeout: float | None = None) -> bool:
        """
        Waits until all are up; raises InterpreterStartError if one is not. False: timed out.
        """

    def open_mailbox(self, interpreters: Sequence[int]) -> int:
        """A queue that these interpreters serve, oldest call first."""

    def close_mailbox(self, mailbox: int) -> int:
        """No more calls to it; fails those still queued and returns how many."""

    def post(self, mailbox: int, data: bytes, tensors: Sequence[SharedTensor]) -> Call:
        """Queues a request. Raises PoolClosedError after close()."""

    def cancel_pending(self) -> int:
        """Cancels all that is queued."""

    def interrupt_running(self) -> None:
        """Raises Interrupted in the calls that run now, at their next bytecode."""

    def close(self) -> None:
        """No more calls; what is queued still runs, then the interpreters end."""

    def join(self, timeout: float | None = None) -> bool:
        """Waits until all interpreters have ended. False: timed out."""

    def statistics(self, interpreter: int) -> dict[str, float]: ...

    def images(self, interpreter: int) -> list[tuple[str, str, int, int]]:
        """
        (path, why it is private, address, bytes of address space) of each private image.
        """

class Worker:
    """The interpreter's place in its pool."""

    @property
    def index(self) -> int: ...

    def take(self) -> Call | None:
        """The next call to run; None: the pool is closed and nothing is left."""

    def begin(self, call: Call) -> None:
        """User code of `call` runs from here on: it may be interrupted."""

    def end(self) -> None:
        """User code has returned."""

    def finished(self, ok: bool) -> None:
        """Ends the call taken last, for the figures."""

def current_worker() -> Worker | None:
    """This interpreter's place in its pool; None in the host."""

def drain_returns() -> int:
    """Releases what others have done with; how many."""

def watch_returns(queue: CompletionQueue | None) -> None:
    """
    Wakes `queue` whenever something this interpreter exported is to be released.
    """
