"""
The native side of multipy_actors: images, interpreters, mailboxes, calls and tensors.
"""

from collections.abc import Callable, Sequence
import contextvars
import types
from typing import Any

from typing_extensions import CapsuleType


def take_load_failure(text: bytes) -> tuple[bytes, bytes] | None:
    """
    The file and symbol of the library that last failed to load on this thread, if it failed with `text`.

    All are in the file system encoding.
    """

class Extension:
    """What MessagePack calls an extension type: a number and bytes."""

    def __init__(self, code: int, data: bytes) -> None: ...

def pack(value: object, writers: dict[type, Callable[[Any, Any], object]], context: object, tag: int, large: int) -> bytes | None:
    """
    Write `value`, or return None if a type in it is missing in `writers`, or it is nested too deeply or too often.

    Of what is not plain, nor a tuple, set or date, nor bytes shorter than `large`, `writers[type(part)](part,
    context)` makes something plain or an Extension, and the document is `[Extension(tag, b""), value]`.
    """

def unpack(data: bytes, readers: dict[int, Callable[[bytes], object]], makers: dict[int, Callable[[list[Any], Any], object]], context: object) -> Any:
    """
    Read a document. An Extension is what `readers[code](data)` returns; a list that begins with one that is in
    `makers` is what `makers[code](rest, context)` returns.
    """

def set_mro(cls: type, mro: tuple[type, ...]) -> None:
    """
    Have attributes of `cls`, a class that is being made and has no subclasses, be looked up in this order.
    """

class Attachment:
    """What is handed over by reference: a tensor, a call or an actor."""

class SharedTensor(Attachment):
    """
    A tensor handed over by reference: sender and receivers see the same memory.

    It may be received any number of times; the exporter's memory is released, in the exporter's
    interpreter, when the last receiver is done.
    """

    def __init__(self, capsule: CapsuleType, stream: int | None = None, keep: object | None = None, torch_tensor: int = 0, copied: bool = False) -> None:
        """
        Takes over a DLPack capsule; of a tensor on a GPU, which the CUDA stream of that address computes.

        While the memory is shared, `keep` is held, and the storage of the torch tensor at the address
        `torch_tensor` cannot be resized. A `copied` one was made for its receiver.
        """

    def __dlpack__(self, *, stream: object | None = None, max_version: object | None = None, dl_device: object | None = None, copy: object | None = None) -> CapsuleType:
        """
        A new capsule over the same memory.

        On a GPU, what `stream` is told from here on waits for the exporter, and its work is awaited before
        the memory goes back.
        """

    def __dlpack_device__(self) -> tuple[int, int]:
        """(device type, device number), as DLPack counts them."""

    @staticmethod
    def of_buffer(object: object) -> SharedTensor:
        """
        The contents of a contiguous buffer; memoryview() of it looks at them where they are.
        """

    @property
    def gpu(self) -> int | None:
        """The number of the CUDA GPU it is on."""

    @property
    def is_pinned(self) -> bool:
        """Whether GPUs read and write it by themselves."""

    @property
    def read_only(self) -> bool: ...

    @property
    def copied(self) -> bool:
        """Whether it was made for its receiver."""

    @property
    def must_be_copied(self) -> bool:
        """
        Whether its receiver has to make a copy, as it was made for one that has it alone.
        """

    @property
    def nbytes(self) -> int: ...

def join_memory(tensor: SharedTensor, interpreter: int, how: str) -> None:
    """
    An interpreter has that memory, and wants to know who writes to it; `how` it came to have it.
    """

def look_for_writes(interpreter: int, writer: str) -> list[tuple[str, int, list[str]]]:
    """
    Memory of the interpreter that has changed since anybody looked, `writer` having written: how it came to be
    shared, its bytes, and who wrote before. Each pair is told once.
    """

def set_torch_layout(storage_offset: int, flag_offset: int) -> None:
    """
    Where the tensors of torch here have their storage, and a storage its flag `resizable`.
    """

class Mark(Attachment):
    """A place in a CUDA stream, for others to wait for."""

    def __init__(self, gpu: int, stream: int) -> None:
        """What the stream of that address was told so far."""

    @property
    def gpu(self) -> int:
        """The number of the GPU."""

    def wait(self, stream: int) -> None:
        """What `stream` is told from here on happens after it."""

def take_cuda_stream(gpu: int) -> int:
    """The address of a stream that nobody else has."""

def give_back_cuda_stream(gpu: int, stream: int) -> None:
    """Lets others have it."""

def offer_cuda_cache() -> None:
    """
    From here on, whoever runs out of GPU memory has _cuda.empty_cache() called in this interpreter.
    """

def withdraw_cuda_cache() -> None:
    """Undoes that, before Python ends."""

class Call(Attachment):
    """One request to an interpreter and, once done, its outcome."""

    def __init__(self) -> None:
        """One that is not posted: its maker runs it."""

    @property
    def state(self) -> str:
        """
        How far it is: pending, running, or for good succeeded, failed or cancelled.
        """

    @property
    def key(self) -> int:
        """Names the call for good, whatever stands for it."""

    @property
    def makes(self) -> int:
        """The number of the actor that it makes a replica of; 0: it makes none."""

    @property
    def mailbox(self) -> int:
        """Where it was posted."""

    @property
    def expired(self) -> bool:
        """Whether its time limit ended it, if it failed without an error."""

    @property
    def interrupted(self) -> bool:
        """Whether somebody wants the code that runs to end."""

    @property
    def killed(self) -> bool:
        """Whether its actor was killed, and it is not to run any more."""

    @property
    def interpreter(self) -> int:
        """Index of the interpreter that took it; -1: none yet."""

    def done(self) -> bool: ...

    def wait(self, timeout: float | None = None) -> bool:
        """
        Waits until it is done; false: `timeout` seconds passed. Signals are handled meanwhile.
        """

    def cancel(self) -> bool:
        """
        Takes it back if it has not started; what it was to be given is released then.
        """

    def expect_nobody(self) -> None:
        """Nobody waits for it: it does not hold up the end of its interpreter."""

    def interrupt(self) -> bool:
        """Has Interrupted raised in the code that runs; false if none does."""

    def result(self) -> tuple[bytes, list[Attachment]]:
        """
        The encoded value or exception, by `state`. Only once done.

        What the call was given, and has let go of, is released before.
        """

    def watch(self, queue: CompletionQueue) -> None:
        """Pushes the call to `queue` when it is done."""

    def run_aside(self, queue: CompletionQueue) -> None:
        """
        The worker goes on with other calls; who wants this one to end pushes it to `queue`.
        """

    @property
    def runs_aside(self) -> bool: ...

    def end_aside(self) -> None:
        """Nothing goes on aside for it any more."""

    def expire_in(self, seconds: float) -> None:
        """It ends by its time limit then."""

    def interrupt_in(self, seconds: float) -> None:
        """
        Its code, which goes on though the caller was answered, is interrupted then.
        """

    def wait_for_turn(self, turns: int) -> None:
        """
        It has to wait until one of the `turns` calls that its actor runs at once has ended.
        """

    def begin_aside(self) -> None:
        """It does not wait any more."""

    def start(self) -> bool:
        """pending to running; false: it was cancelled."""

    def take_request(self) -> tuple[bytes, list[Attachment]]:
        """Moves the encoded request out, once."""

    def succeed(self, data: bytes, attachments: Sequence[Attachment]) -> bool: ...

    def fail(self, data: bytes, attachments: Sequence[Attachment]) -> bool: ...

    def fail_plainly(self, error: object) -> bool:
        """Fails it with what can be told of `error` without running Python code."""

class Await:
    """A job on an event loop, as it awaits calls: for the graph of waits."""

    def __init__(self, job: Sequence[Call]) -> None: ...

    def add(self, call: Call) -> None:
        """
        It awaits `call`, too. If that could never end, a call of the job is pushed to its queue of interrupts.
        """

    def remove(self, call: Call) -> None: ...

    @property
    def hopeless(self) -> str:
        """Why it could never go on; empty: it can."""

    @property
    def asked(self) -> bool:
        """Whether it is to answer if it goes on with nothing else."""

    def answer(self, certain: bool) -> None: ...

    def look_again(self) -> None:
        """Forgets that it may go on with something else."""

def wait_for_some(calls: Sequence[Call], needed: int, timeout: float | None = None, until_failure: bool = False) -> bool:
    """
    Waits until `needed` of `calls`, which are all different, are done; false: `timeout` seconds passed.

    With `until_failure` it is over as well when one of them has failed.
    """

class CompletionQueue:
    """
    Calls that are done, for the one thread that tells whoever watches them.
    """

    def __init__(self) -> None: ...

    def pop(self, timeout: float | None = None) -> Call | None:
        """The next call; None: woken, closed, or `timeout` seconds have passed."""

    def send(self, data: bytes) -> bool:
        """
        Pushes a message: a call that nobody waits for. False: the queue is closed.
        """

    def wake(self) -> None: ...

    def close(self) -> None: ...

    def closed(self) -> bool: ...

def loaded_libpython() -> bytes | None:
    """
    The file of the libpython that this Python runs on; None: it is inside the executable.
    """

class Session:
    """One interpreter held for the use of the thread that asked for it."""

    @property
    def id(self) -> int: ...

    @property
    def granted(self) -> Call:
        """A call that is done when the interpreter is held."""

    @property
    def interpreter(self) -> int:
        """Its index. Valid once granted."""

    @property
    def ended(self) -> bool: ...

    def post(self, data: bytes, attachments: Sequence[Attachment]) -> Call:
        """Queues a request, for the held interpreter."""

    def end(self) -> None:
        """Lets go of the interpreter. What was posted still runs."""

class Closing:
    """The interpreters of a closed pool, on their way to their ends."""

    def wait(self, timeout: float | None = None) -> bool:
        """
        Waits until all have ended, or only what nobody waits for holds them up, and has for too long.

        False: `timeout` seconds have passed.
        """

    def left(self) -> list[tuple[int, bool, str, float, str]]:
        """
        Those that have not ended: (index, whether no call holds it up, whose call does, for how many seconds, what its threads do).
        """

    def leave(self, error: bytes) -> None:
        """
        Leaves those behind: interrupts what runs once more, and fails its calls with `error`.
        """

class Pool:
    """Private interpreters and the queues that feed them."""

    def __init__(self, name: str, names: Sequence[str], libpython: bytes, extension: bytes, settings: Sequence[tuple[bytes, bytes]], environment: Sequence[tuple[bytes, bytes]], private_patterns: Sequence[str], shared_patterns: Sequence[str], restarts: bool = False) -> None: ...

    def __len__(self) -> int: ...

    @property
    def name(self) -> str: ...

    @property
    def closed(self) -> bool:
        """Whether close() was called."""

    @property
    def key(self) -> int:
        """Identifies the pool while it is alive."""

    @property
    def any_mailbox(self) -> int:
        """The one that all interpreters serve."""

    def own_mailbox(self, interpreter: int) -> int:
        """The one that only this interpreter serves."""

    def place(self, replicas: int) -> list[int]:
        """
        The `replicas` interpreters with the fewest actors; they count as having one more.
        """

    @property
    def messages(self) -> CompletionQueue:
        """
        What the interpreters tell the host without waiting; closed when all have ended.
        """

    @property
    def restarts(self) -> bool:
        """Whether interpreters that end are replaced."""

    def keep_setup(self, data: bytes, attachments: Sequence[Attachment]) -> None:
        """
        Interpreters that replace others first run this request, after those that were kept before.
        """

    def count_actors(self, interpreter: int, change: int) -> None: ...

    def start(self) -> None:
        """Boots all interpreters in parallel."""

    def wait_started(self, timeout: float | None = None) -> bool:
        """
        Waits until all are up; raises InterpreterStartError if one is not. False: timed out.
        """

    def post(self, mailbox: int, data: bytes, attachments: Sequence[Attachment]) -> Call:
        """Queues a request. Raises PoolClosedError after close()."""

    def request_session(self, interpreter: int | None = None) -> Session:
        """
        Asks to hold that interpreter, or the one that is free first. Raises PoolClosedError after close().
        """

    def cancel_pending(self) -> int:
        """Cancels all that is queued."""

    def interrupt_running(self) -> None:
        """Raises Interrupted in the calls that run now, at their next bytecode."""

    def close(self) -> None:
        """No more calls; what is queued still runs, then the interpreters end."""

    def closing(self) -> Closing:
        """For who waits for the interpreters to end, after close()."""

    def statistics(self, interpreter: int) -> dict[str, float]: ...

    def images(self, interpreter: int) -> list[tuple[str, bool, str, int, int]]:
        """
        (path, whether it is private, why, address, bytes of address space) of each library.
        """

class WeakActor:
    """Refers to an actor, and does not keep it."""

    def __call__(self) -> Actor | None:
        """The actor, if it is not gone."""

class Actor(Attachment):
    """An object that lives in interpreters; gone when nobody refers to it."""

    def __init__(self, pool: Pool, number: int, interpreters: Sequence[int], label: str, name: str, description: bytes, farewell: bytes, limit: int, restarts: int = 0, at_once: int = 1) -> None: ...

    @staticmethod
    def next_number() -> int: ...

    @staticmethod
    def find(name: str) -> Actor | None: ...

    @property
    def number(self) -> int: ...

    @property
    def label(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def description(self) -> bytes: ...

    @property
    def pool(self) -> Pool: ...

    @property
    def interpreters(self) -> list[int]:
        """Those that hold a replica."""

    @property
    def closed(self) -> bool: ...

    @property
    def lost(self) -> bool:
        """Its interpreters have ended, and it was not made anew."""

    @property
    def queued(self) -> int: ...

    @property
    def done(self) -> int: ...

    @property
    def failed(self) -> int: ...

    def make_replica(self, interpreter: int, data: bytes, attachments: Sequence[Attachment]) -> Call:
        """
        Posts the request that makes the replica in `interpreter`, before any call of it is posted.
        """

    def is_called(self, context: int) -> bool:
        """
        Whether the code that asks runs in a call of it; `context`: the number of the actor of a coroutine or thread.
        """

    def weak(self) -> WeakActor:
        """What refers to it and does not keep it."""

    def announce(self) -> None:
        """Its replicas are made or will be: others may find it by its name."""

    def post(self, data: bytes, attachments: Sequence[Attachment], on: int | None = None, wait: bool = True, timeout: float | None = None, batch: str | None = None, limited: bool = True, retries: int = 0) -> Call:
        """
        Queues a request for the replica that is free first, or that of interpreter `on`.

        In a full mailbox, waits for room, or raises MailboxFullError, unless it is not `limited`. `timeout` seconds from now it expires.
        Calls with the same `batch` may run together. One whose interpreter is replaced is tried again `retries` times, -1: always.
        """

    def kill(self, error: bytes) -> None:
        """
        Ends it: calls that wait fail with `error`, those that run are interrupted.
        """

    def unload(self, interpreter: int, error: bytes) -> bool:
        """
        Drops one replica; with the last one, calls that wait fail with `error`. False: there is none.
        """

class Worker:
    """The interpreter's place in its pool."""

    @property
    def index(self) -> int: ...

    def adopt_event_loop(self) -> None:
        """This thread is that of its event loop."""

    def take(self) -> Call | None:
        """
        The next call to run; None: the pool is closed and nothing is left.

        A call that was delivered before and has not begun is delivered again; one that has begun and not ended has failed.
        """

    def lost(self, error: object) -> None:
        """
        The worker loop has failed with `error`, and so have the calls that it ran.
        """

    def run(self, call: Call, function: Callable[[Call], Any]) -> Any:
        """
        Returns `function(call)`, in which `call` may be interrupted; nowhere else is it.

        None: it is not to run, as it was interrupted already.
        """

    def run_batch(self, calls: list[Call], function: Callable[[list[Call]], Any]) -> Any:
        """
        The same for several calls as one: it is interrupted when that is wanted of all of them.
        """

    def expire_in(self, seconds: float) -> None:
        """The call that runs on this thread, the worker's, expires then."""

    @property
    def expired(self) -> bool:
        """Whether the call that runs on this thread, the worker's, has."""

    def take_more(self, first: Call, seconds: float) -> Call | None:
        """
        The next call of the mailbox of `first`, waiting `seconds` for it at most.

        None: there is none, or it is one that cannot run together with `first`.
        """

    def finished(self, ok: bool) -> None:
        """Ends the call taken last, for the figures."""

    def finished_aside(self, ok: bool) -> None:
        """Counts a call that ended aside, on whatever thread."""

    def event_loop_runs(self, runs: bool) -> None:
        """Whether code runs on its event loop from here on, for the figures."""

    def give_up(self, why: str) -> None:
        """
        The interpreter could not be set up: take() returns None, and no other takes its place.
        """

    @property
    def interrupted(self) -> bool:
        """Whether all that runs is to end."""

    @property
    def pool(self) -> Pool: ...

def context_variable(name: str, default: object) -> contextvars.ContextVar[Any]:
    """A new contextvars.ContextVar."""

def on_change_of_actor(function: Callable[[int, int, int, int], None]) -> None:
    """
    From here on functions and each actor have a context of their own.

    Where torch or asyncio has been imported, a worker's thread that is about to run a call of another actor than before calls `function` with the numbers of both, 0 for functions, -1 for none, whether the one before has not been forgotten, and whether the other is new.
    """

def forget_actor(number: int) -> None:
    """The actor has ended, and needs no context."""

def main_thread_stack() -> int:
    """
    The stack in bytes of a thread that stands for the main thread of a process.
    """

def current_worker() -> Worker | None:
    """
    This interpreter's place in its pool, as this thread has it; None in the host.
    """

def keep_recursion_limit() -> bool:
    """
    The recursion limit is at least what the library needs for its own part of a call; true: it was less.
    """

def hold_interrupts_in(code: types.CodeType) -> None:
    """
    While this code runs on the thread of a call, interrupts of it wait. It should not take long.
    """

def raise_again() -> None:
    """The Interrupted that was raised on this thread was dropped on its way."""

def interrupt_job(variable: contextvars.ContextVar[Any], job: object, machinery: tuple[types.CodeType, ...], held: bool) -> bool:
    """
    Raises Interrupted on the event loop if it runs in a context that has `job` as `variable`; says whether.

    Its innermost frame must not be of `machinery`. With `held`, it is not raised where interrupts wait.
    """

def want_long_slices(wanted: bool) -> None:
    """
    While it is wanted, this thread runs for longer at a stretch; on the worker thread, until its call ends.
    """

def write_output(fd: int, writer: int, prefix: bytes, text: bytes) -> None:
    """
    Writes to standard output or error, `prefix` before each line that `writer` begins.
    """

def drain_returns() -> int:
    """Releases what others have done with; how many."""

def watch_returns(queue: CompletionQueue | None) -> None:
    """
    Wakes `queue` whenever something this interpreter exported is to be released.
    """
