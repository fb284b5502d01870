"""A pool of private interpreters, as a `concurrent.futures.Executor`.

Model: a Pool owns a `_native.Pool` (the interpreters, their queues and threads) and the mailboxes it posts
to: one that all interpreters serve, and one per interpreter. A call goes to whichever interpreter is free
first. Handles of actors (see actors/handle) open mailboxes of their own on the same pool.

Life: the constructor boots all interpreters in parallel and configures each (search paths, preload,
initializer); `shutdown` closes the queues, and each interpreter then finishes what is queued, runs its atexit
handlers and is finalised on its own thread. A pool that is dropped or forgotten is closed without waiting and
warns: what is queued is cancelled, what runs is interrupted, and what goes on all the same is left behind
(see closing).

An interpreter sees the pool it belongs to, and those whose handles reach it, through a Pool of its own that
does not own the native one and cannot close it.

Threads and locks: all methods may be called from any thread; the native pool has its own lock. In a forked
child, which has none of the threads, pools are closed.
"""

from __future__ import annotations

import atexit
import collections
import contextlib
import itertools
import os
import sys
import threading
import weakref
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from multipy_actors import _native, futures, protocol, wire
from multipy_actors.errors import InterpreterDiedError, MultipyError, PoolClosedError
from multipy_actors.futures import Future, give_up, notifier
from multipy_actors.modules import imported
from multipy_actors.observability import logs
from multipy_actors.pool import closing, module_level
from multipy_actors.pool.interpreter import (
    Environment,
    ImageInfo,
    Interpreter,
    boot_settings,
    find_libpython,
    thread_variables,
    usable_cpus,
    written_bytes,
)
from multipy_actors.wire import sharing
from multipy_actors.wire.sharing import ARRAYS, chosen_level

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import TracebackType
    from typing import IO, Literal, TypedDict

    from multipy_actors.deploy.packages import Package
    from multipy_actors.deploy.sessions import Session
    from multipy_actors.wire.sharing import Share

    class PoolOptions(TypedDict, total=False):
        """The parameters of `Pool`, for checkers."""

        interpreters: int | None
        env: Environment | None
        intra_op_threads: int | Literal["auto"]
        preload: Sequence[str]
        initializer: Callable[..., object] | None
        initargs: Sequence[Any]
        name: str | None
        private: Sequence[str]
        shared: Sequence[str]
        prefix_output: bool
        forward_logging: bool | int | str
        cuda_streams: Literal["per-interpreter", "default"]
        inline: bool
        share: Share | None
        copy: bool | None
        check_sharing: bool | None
        restart: bool


T = TypeVar("T")
P = ParamSpec("P")

__all__ = ["Pool", "current_interpreter", "find_actor"]

_pool_numbers = itertools.count(1)
_live_pools: weakref.WeakSet[Pool] = weakref.WeakSet()
_known_pools: weakref.WeakValueDictionary[int, Pool] = weakref.WeakValueDictionary()
_paths_lock = threading.Lock()
_unawaited: set[Pool] = set()  # shut down without waiting


class Pool(Executor):
    """Private interpreters that run calls in parallel, each with its own GIL and its own modules.

    Use it as any executor, `with Pool(4) as pool: pool.submit(fn, 1).result()`, or put actors into it with
    `options(pool=pool)`.
    """

    _listener: logs.Listener | None = None
    _actor_class = _native.Actor

    def __init__(
        self,
        interpreters: int | None = None,
        *,
        env: Environment | None = None,
        intra_op_threads: int | Literal["auto"] = "auto",
        preload: Sequence[str] = (),
        initializer: Callable[..., object] | None = None,
        initargs: Sequence[Any] = (),
        name: str | None = None,
        private: Sequence[str] = (),
        shared: Sequence[str] = (),
        prefix_output: bool = True,
        forward_logging: bool | int | str = False,
        cuda_streams: Literal["per-interpreter", "default"] = "per-interpreter",
        inline: bool = False,
        share: Share | None = None,
        copy: bool | None = None,
        check_sharing: bool | None = None,
        restart: bool = False,
    ) -> None:
        """Boot `interpreters` private interpreters (default: one per usable CPU).

        `env` says where they import from. `intra_op_threads` is how many threads torch, OpenMP and BLAS use
        in each ("auto": CPUs divided by interpreters, unless OMP_NUM_THREADS or its like says otherwise).
        `preload` names modules to import in each, `initializer(*initargs)` is then called in each. `private`
        and `shared` are file name patterns of libraries that must, or must not, be loaded once per
        interpreter.

        What code in them prints appears line by line, each beginning with the actor's class and name and the
        interpreter's, `(Embedder 'minilm' pool-1-0) text`; `prefix_output=False` leaves that out. Lines that
        begin with a carriage return, as those of progress bars, and what C code prints have none.

        With `forward_logging` the host's loggers handle what loggers in interpreters log, as records with two
        more attributes, `interpreter` and `actor`. True means at the levels that the host's loggers have now;
        a level, as a number or a name, is the one of all loggers there. `flush_logging` waits for it.

        On a GPU, each interpreter runs its calls on a CUDA stream of its own; with `cuda_streams="default"`
        all use the default one, and their kernels run one after the other.

        With `inline` there are no interpreters: calls run in the host, on the thread that submits them, for
        debuggers. See `multipy_actors.inline.pool`.

        `share` and `copy` say what calls share with their callers, unless an actor or a call says otherwise:
        by default tensors and arrays, but nothing of data frames and estimators (see `multipy.remote`).

        `check_sharing` is for debugging: who writes to memory that others have is named by a
        SharedWriteWarning. It reads all that is shared before and after each call. Default: whether the
        environment has MULTIPY_CHECK_SHARING=1.

        With `restart`, an interpreter that ends while the pool is open is replaced: another is set up as this
        says, initializer included, and takes its place. What ran in the old one, and what was queued for it
        alone, fails with InterpreterDiedError. Its actors are made anew if they have `max_restarts`, and what
        `replicate` and packages have put there always is.

        Raises InterpreterStartError if an interpreter does not come up, and what the initializer raises.
        """
        count = usable_cpus() if interpreters is None else interpreters
        if not isinstance(count, int) or isinstance(count, bool):
            raise TypeError(f"interpreters must be an int, not {type(interpreters).__name__}")
        if count < 1:
            raise ValueError(f"interpreters must be at least 1, not {count}")
        if cuda_streams not in ("per-interpreter", "default"):
            raise ValueError(f'cuda_streams must be "per-interpreter" or "default", not {cuda_streams!r}')
        _refuse_at_import()
        self._share = chosen_level(share, copy, ARRAYS)
        checks = os.environ.get("MULTIPY_CHECK_SHARING") == "1" if check_sharing is None else check_sharing
        self._name = name or f"pool-{next(_pool_numbers)}"
        self._owned = True
        self._made_at = closing.line_that_makes()
        self._env = env or Environment()
        search_paths = self._env.search_paths(sys.path)
        environment = thread_variables(intra_op_threads, count)
        levels = logs.levels(forward_logging) if forward_logging is not False else None
        if inline:
            self._become_inline(count, bool(restart))
        else:
            self._native = _native.Pool(
                name=self._name,
                names=[f"{self._name}-{index}" for index in range(count)],
                libpython=os.fsencode(find_libpython()),
                extension=os.fsencode(_native.__file__),
                settings=boot_settings(search_paths),
                environment=environment,
                private_patterns=list(private),
                shared_patterns=list(shared),
                restarts=bool(restart),
            )
        self._search_paths = search_paths
        self._done = False  # ended, or left behind
        self._warns = True  # if it is forgotten; nobody is asked to close the default pool
        self._drains = False  # the end of the process waits for what is queued
        self._adopt()
        _live_pools.add(self)
        try:
            self._native.start()
            notifier.start()  # its thread begins while the interpreters do
            closing.prepare_to_warn()
            self._native.wait_started()
            if levels is not None and not inline:
                self._listener = logs.Listener(self._native.messages, self._name)
            configuration = {
                "search_paths": search_paths,
                "own_cuda_streams": cuda_streams == "per-interpreter",
                "prefix_output": prefix_output,
                "log_levels": levels,
                "preload": list(preload),
                "initializer": initializer,
                "initargs": tuple(initargs),
                "share": self._share,
                "check_sharing": checks,
            }
            setup = wire.encode_call(
                protocol.configure(), (), configuration, inline=inline, share=self._share
            )
            self._native.keep_setup(*setup)
            prepared: list[Future[Any]] = [Future(self._native.post(own, *setup)) for own in self._own]
            del setup  # what it was given is free when the last of them has been told
            futures.get(prepared)
        except BaseException:
            self._close_now()
            raise

    def _become_inline(self, count: int, restart: bool) -> None:
        """Have the host stand in for interpreters."""
        from multipy_actors.inline import pool as inline

        self._native = cast("_native.Pool", inline.Pool(self._name, count, restart))
        self._actor_class = cast("type[_native.Actor]", inline.Actor)

    def _adopt(self) -> None:
        """Take from the native pool what every view of it has."""
        native = self._native
        self._lost = False  # in a forked child, where no interpreter goes on
        # The host's sys.path that the interpreters follow. An interpreter's own is nobody's but its own.
        self._host_paths = list(sys.path) if self._owned else sys.path
        self._inline = not isinstance(native, _native.Pool)
        self._restarts = native.restarts
        self._any = native.any_mailbox
        self._own = [native.own_mailbox(index) for index in range(len(native))]
        self.interpreters: Sequence[Interpreter] = tuple(Interpreter(self, i) for i in range(len(native)))
        _known_pools[native.key] = self

    @classmethod
    def _of(cls, native: _native.Pool) -> Pool:
        """Return the pool that `native` is of, or a view of it for an interpreter that has not made it."""
        pool = _known_pools.get(native.key)
        if pool is None:
            pool = cls.__new__(cls)
            pool._native = native
            pool._name = native.name
            pool._owned = False
            pool._share = sharing.of_this_pool
            pool._adopt()
        return pool

    @property
    def _closed(self) -> bool:
        return self._lost or self._native.closed

    # Calls -------------------------------------------------------------------------------------------------

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run `fn(*args, **kwargs)` in the interpreter that is free first.

        Functions of importable modules travel by name, others by value. Raises SerializationError, naming
        the argument, if one cannot be sent, and PoolClosedError after `shutdown`.
        """
        return self._post(self._mailbox(None), protocol.call(fn), args, kwargs)

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Return the values of `fn` over the zipped iterables, in their order.

        `chunksize` items travel per call. With `buffersize`, at most so many calls are ahead of the consumer
        and the iterables are read lazily. `timeout` bounds the wait for each value from now on, in seconds.
        """
        return self._map(fn, iterables, timeout, chunksize, buffersize)

    def _map(
        self,
        fn: Callable[..., T],
        iterables: tuple[Iterable[Any], ...],
        timeout: float | None,
        chunksize: int,
        buffersize: int | None,
        share: Share | None = None,
    ) -> Iterator[T]:
        if chunksize < 1:
            raise ValueError(f"chunksize must be at least 1, not {chunksize}")
        if buffersize is not None and buffersize < 1:
            raise ValueError(f"buffersize must be at least 1, not {buffersize}")
        mailbox = self._mailbox(None)
        deadline = None if timeout is None else timeout + _now()
        items = zip(*iterables, strict=False)
        chunks = iter(lambda: list(itertools.islice(items, chunksize)), [])
        calls = (self._post(mailbox, protocol.map_items(fn), tuple(chunk), {}, share) for chunk in chunks)
        ahead: collections.deque[Future[list[T]]] = collections.deque(itertools.islice(calls, buffersize))

        def results() -> Iterator[T]:
            try:
                while ahead:
                    if buffersize is not None and (following := next(calls, None)) is not None:
                        ahead.append(following)
                    # The future stays in line until it is done: who gives up on it has it cancelled as well.
                    done = ahead[0].result(None if deadline is None else deadline - _now())
                    del ahead[0]
                    done.reverse()
                    while done:
                        yield done.pop()  # nothing here refers to what the consumer has
            except BaseException as error:
                give_up(ahead, error)
                raise

        return results()

    def broadcast(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> list[Future[T]]:
        """Run `fn(*args, **kwargs)` once in every interpreter; one future each, in their order."""
        self._mailbox(None)
        data, tensors = wire.encode_call(
            protocol.call(fn), args, kwargs, inline=self._inline, share=self._share
        )
        try:
            return [Future(self._native.post(own, data, tensors)) for own in self._own]
        except PoolClosedError as error:
            raise self._no_interpreter(error) from None

    # Packages and sessions ---------------------------------------------------------------------------------

    def load_package(self, path_or_file: str | os.PathLike[str] | IO[bytes]) -> Package:
        """Open an archive that `torch.package` has written: a path, its folder, or a file to read it from.

        It is read into memory once, by one interpreter; the others use that memory. What is wrong with the
        file is raised here.
        """
        from multipy_actors.deploy.packages import load_package

        return load_package(self, path_or_file)

    def register_module_source(self, name: str, source: str) -> None:
        """Make `source` importable as `name` in every interpreter, by whatever is submitted from now on.

        Modules of packages find it as well, if they were exported with `name` as an external module. What is
        imported already stays as it is. SyntaxError if it is no Python.
        """
        from multipy_actors.deploy.packages import register_module_source

        register_module_source(self, name, source)

    def acquire(self, timeout: float | None = None) -> Session:
        """Wait for an interpreter to be free, and hold it: `with pool.acquire() as session: ...`.

        Until the session is closed, the interpreter runs only calls that this thread makes, through the
        session, handles or the pool, and what these cause in turn. Who comes first is served first;
        TimeoutError after `timeout` seconds.
        """
        return self._acquire(None, timeout)

    def _acquire(self, index: int | None, timeout: float | None) -> Session:
        from multipy_actors.deploy.sessions import acquire

        return acquire(self, index, timeout)

    def _submit_to(
        self,
        index: int | None,
        fn: Callable[..., T],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        share: Share | None = None,
    ) -> Future[T]:
        return self._post(self._mailbox(index), protocol.call(fn), args, kwargs, share)

    def _mailbox(self, index: int | None) -> int:
        if self._closed:
            raise PoolClosedError(f"{self!r}: cannot submit to it any more")
        if sys.path != self._host_paths:
            self._follow_search_paths()
        return self._any if index is None else self._own[index]

    def _follow_search_paths(self) -> None:
        """Have the interpreters import from where the host does now, before they run what is posted next."""
        if not self._owned or self._inline:
            self._host_paths = sys.path
            return
        with _paths_lock:
            paths = list(sys.path)
            old, new = self._search_paths, self._env.search_paths(paths)
            if new != old and not self._closed:
                data, _ = wire.encode_call(protocol.search_paths(old, new), (), {})
                self._native.keep_setup(data, [])
                for own in self._own:
                    with contextlib.suppress(PoolClosedError):  # that one has ended
                        self._native.post(own, data, [])
                self._search_paths = new
            self._host_paths = paths

    def _post(
        self,
        mailbox: int,
        operation: list[Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        share: Share | None = None,
    ) -> Future[Any]:
        data, attachments = wire.encode_call(
            operation, args, kwargs, inline=self._inline, share=share or self._share
        )
        try:
            return Future(self._native.post(mailbox, data, attachments))
        except PoolClosedError as error:
            raise self._no_interpreter(error) from None

    def _no_interpreter(self, error: PoolClosedError) -> MultipyError:
        """Return what `error` means, with which the core has refused a call."""
        if self._native.closed:
            return error
        return InterpreterDiedError(f"{self!r}: the interpreters that could run the call have ended")

    # Looking at it -----------------------------------------------------------------------------------------

    def images(self) -> list[list[ImageInfo]]:
        """Return the libraries of each interpreter, and why each is private or shared.

        First come its private images, in the order they were loaded, libpython before all; then those that
        it shares with the host, as far as an image needs them or its code has opened them. Images are never
        unloaded, so a closed pool still tells what it had.
        """
        return [
            [
                ImageInfo(path, private=private, reason=reason, address=address, size=size)
                for path, private, reason, address, size in self._native.images(index)
            ]
            for index in range(len(self))
        ]

    def statistics(self) -> list[dict[str, float]]:
        """Return one dict per interpreter: what `Interpreter.statistics` says, and its libraries' cost.

        `images` counts its private images, `image_bytes` is the memory that these have for themselves (their
        written pages; text is shared by all). What its objects and tensors take is in the process's heap,
        which cannot be told apart. Reading the sizes takes some milliseconds. `gpu_bytes` is the memory that
        it has taken from GPUs for tensors, in use or cached.
        """
        private = [[image for image in images if image.private] for images in self.images()]
        written = written_bytes([image for images in private for image in images])
        return [
            {
                **self._native.statistics(index),
                "images": len(images),
                "image_bytes": sum(written[image.address] for image in images),
            }
            for index, images in enumerate(private)
        ]

    def __len__(self) -> int:
        """Return the number of interpreters."""
        return len(self._native)

    def __bool__(self) -> bool:
        """A pool is true, however many interpreters it has."""
        return True

    def __repr__(self) -> str:
        """Name the pool, its size and whether it is closed."""
        state = ", closed" if self._closed else ""
        return f"<multipy.Pool {self._name!r} of {len(self)} interpreters{state}>"

    def flush_logging(self, timeout: float | None = None) -> bool:
        """Wait until what interpreters have logged so far is handled, with `forward_logging`.

        Waits `timeout` seconds at most, and says whether it is.
        """
        return self._listener is None or self._listener.flush(timeout)

    # Closing -----------------------------------------------------------------------------------------------

    def shutdown(
        self,
        wait: bool = True,
        *,
        cancel_futures: bool = False,
        interrupt: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Close the pool: run what is queued, then end the interpreters.

        With `cancel_futures` what is queued is cancelled. With `interrupt` it is as well, and what runs has
        `Interrupted` raised in it.

        With `wait`, returns when all interpreters have ended; else at once, and the end of the process waits
        for what is queued or, with one of those two, does not. The wait is for calls, however long they take.
        Code that nobody waits for any more is not waited for for ever: a call that outlived its time limit or
        was killed is given some five seconds to come back, one that is interrupted two, threads and tasks at
        the end of an interpreter five, and all of that end, `__del__` and atexit handlers, 15. What is not
        over then, or after `timeout` seconds in all, is left behind: it goes on until the process ends, calls
        fail with PoolClosedError, and a `LeftBehindWarning` says where it is.

        Ctrl-C interrupts the wait.
        """
        if not self._owned:
            raise RuntimeError(f"{self!r} can only be shut down where it was made")
        if timeout is not None and not wait:
            raise ValueError("timeout bounds the wait, and there is none with wait=False")
        if self._lost or self._done:
            return
        if interrupt:
            closing.tell_to_end(self)
        elif cancel_futures:
            self._native.cancel_pending()
        self._native.close()
        # Who interrupts the wait, with Ctrl-C say, wants no more of it at exit either.
        self._drains = not (wait or interrupt or cancel_futures)
        if wait:
            closing.end(self, timeout, interrupt)
        else:
            _unawaited.add(self)

    def _is_done_with(self) -> None:
        """Have nobody wait for it any more."""
        self._done = True
        _live_pools.discard(self)
        _unawaited.discard(self)

    def _close_now(self) -> None:
        """Close without waiting for user code: cancel, interrupt, leave behind what goes on all the same."""
        if not self._lost and not self._done:
            closing.end_at_once([self])

    def __reduce__(self) -> Any:
        """Refuse: interpreters know their own pool, as `default_pool()`."""
        raise TypeError("a pool cannot be sent to an interpreter; its own is multipy.default_pool() there")

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        """Drain and close; after an exception (Ctrl-C, say) cancel, interrupt and close."""
        if exc_type is None:
            self.shutdown(wait=True)
        else:
            self._close_now()

    def __del__(self) -> None:
        """Close a pool that was dropped without `shutdown`, without waiting, and warn of it."""
        if "_native" in self.__dict__ and self._owned and not self._closed:
            try:
                closing.tell_to_end(self)
            finally:
                closing.warn_forgotten(self)


def _refuse_at_import() -> None:
    """Refuse a pool where an interpreter imports a module: those of the pool would import it, and so on."""
    if _native.current_worker() is not None and (module := module_level.importing_module()) is not None:
        raise RuntimeError(
            f"the module {module!r} makes a pool when it is imported, and an interpreter imports it: "
            "make the pool in a function, or under `if multipy.current_interpreter() is None:`; "
            "multipy.init() can be called in both"
        )


def _now() -> float:
    import time

    return time.monotonic()


def current_interpreter() -> Interpreter | None:
    """Return the interpreter that this code runs in; None in the host."""
    worker: _native.Worker | None = _native.current_worker()
    if worker is None and (inline := imported("multipy_actors.inline.pool")) is not None:
        worker = inline.current_worker()
    return None if worker is None else Pool._of(worker.pool).interpreters[worker.index]


def find_actor(name: str) -> _native.Actor | None:
    """Return the actor of that name, whatever kind of pool it is in."""
    actor = _native.Actor.find(name)
    if actor is None and (inline := imported("multipy_actors.inline.pool")) is not None:
        actor = inline.Actor.find(name)
    return actor


def _close_all() -> None:
    """At exit: drain the pools that were told to, close the others together, and warn of forgotten ones."""
    pools = {*_live_pools, *_unawaited}
    drained = {pool for pool in pools if pool._drains}
    forgotten = [pool for pool in pools if pool._warns and not pool._closed]
    try:
        closing.drain(drained)
    finally:
        try:
            closing.end_at_once(pools - drained)
        finally:
            closing.warn_forgotten(*forgotten)


def _after_fork_in_child() -> None:
    global _paths_lock
    _paths_lock = threading.Lock()
    for pool in list(_known_pools.values()):
        pool._lost = True
    _live_pools.clear()
    _unawaited.clear()
    futures.forget_after_fork()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_after_fork_in_child)
