"""The event loop of an interpreter, on a thread of its own, and the jobs that run on it.

Problem: coroutines of an actor should run at once, and other actors of the interpreter should go on beside
them; yet the state of an actor should be touched by one thread only.

Model: one loop per interpreter, made with its first actor that has `async` methods (see async_actors). The
worker thread starts a call, reads it, and hands it over as a Job; it does not wait for it. A job is a task
and ends its calls: one, those of a batch (see batching), or a request of a stream (see generators).

Who wants such a call to end pushes it to the loop's queue of interrupts, where a thread, the watcher, takes
it and has its task cancelled; the caller then sees Interrupted. A killed actor's calls are interrupted like
that as well, having failed already. Where the loop does not come round to that, because code runs on it that
does not await, the watcher looks at what it runs: each job has a context of its own, which its tasks and
callbacks inherit. If it is the job that is meant, Interrupted is raised there.

A job that awaits calls of others is in the core's graph of waits meanwhile, and so is one that waits for its
turn. Awaiting may be all that a coroutine does, or one of several things: where the core suspects that it is
in vain it asks, and `Job` looks at what its task waits for. What lies between the task and the calls is known
if it is `gather`, `wait` without a time limit, a TaskGroup, a stream or another task; for anything else the
answer is no, and the question comes again later. Then the awaits raise DeadlockError.

The interpreter is busy while the loop's thread runs code, be it of jobs or of what they have started, and not
while it waits for something to do. A loop of another kind than asyncio's own does not show when it waits: it
counts as busy while it has tasks of ours.

Threads: `start` and `finish` belong to the worker thread, all else to the loop's unless it says otherwise. A
coroutine that blocks holds up the loop. A job's own end is done in a callback outside its context, so nothing
interrupts that.

Guarantees: what a job raises, SystemExit, KeyboardInterrupt and CancelledError included, fails that call
alone. At the end of the interpreter all jobs are run, but for streams, which are closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import sys
import threading
import weakref
from collections.abc import Coroutine
from time import monotonic
from typing import TYPE_CHECKING, Any

from multipy_actors import _native, errors, gpu
from multipy_actors.interrupts import is_interruption
from multipy_actors.worker import calls, output
from multipy_actors.worker.batching import Batch
from multipy_actors.worker.calls import encode_result, fail, interrupted
from multipy_actors.worker.generators import AsyncStream, current_job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FrameType

    from multipy_actors.worker.async_actors import AsyncActor

__all__ = ["Job", "Request", "Single", "current_job", "event_loop", "finish"]

_TO_COME_BACK = 2.0  # seconds for a coroutine whose call has ended
_OFTEN = 0.1  # seconds until it is looked at again what calls have ended elsewhere
_SOON = 0.1  # seconds within which a loop comes round unless something holds it up
_LATER = 0.1  # seconds until a loop that is held up by others is looked at again
_LONGEST_HOLD = 300.0  # seconds for which an import keeps off an interrupt
_DOUBT = 0.25  # seconds until it is looked at again whether a job awaits in vain


class Job:
    """What is done for one call or batch: `run` returns a coroutine, `settle` takes its value."""

    def __init__(
        self,
        actor: AsyncActor,
        calls: Batch | Single,
        run: Callable[[], Coroutine[Any, Any, Any]],
        is_stream: bool = False,
    ) -> None:
        self.actor = actor
        self.calls = calls
        self.is_stream = is_stream
        self.waits = False
        self.all_calls = list(calls.calls)  # those that have ended included
        self.keys = [call.key for call in calls.calls]
        self.raised = False  # Interrupted was raised in it, and the loop has not come round yet
        self._task: asyncio.Task[None] | None = None  # once its coroutine has begun
        self._run = run
        self._end: BaseException | None = None  # why it was made to end
        self._awaited: dict[asyncio.Task[Any], tuple[_native.Call, asyncio.Future[None]]] = {}
        self._await: _native.Await | None = None  # once it awaits a call

    def is_owed(self) -> bool:
        """Say whether somebody may still wait for a call of it."""
        return any(not call.done() and not call.killed for call in self.all_calls)

    def place(self, place_of: Callable[[FrameType | None], str | None]) -> str | None:
        """Return the innermost line of the user's code where its coroutine waits; any thread."""
        task = self._task
        coroutine: Any = None if task is None else task.get_coro()
        place = None
        while coroutine is not None:
            place = place_of(getattr(coroutine, "cr_frame", None)) or place
            coroutine = getattr(coroutine, "cr_await", None)
        return place

    def wait_for_turn(self, turns: int) -> None:
        """Have the core know that it waits until one of `turns` jobs ends."""
        self.waits = True
        for call in self.calls.calls:
            call.wait_for_turn(turns)

    def begin(self) -> None:
        """Have the core know that it does not wait any more."""
        self.waits = False
        for call in self.calls.calls:
            call.begin_aside()

    def interrupt(self, call: _native.Call) -> None:
        """End `call`, and the coroutine unless it runs for other calls, too."""
        if isinstance(self.calls, Batch):
            self.calls.drop(call)
            if self.calls.calls:
                return
        self._end = interrupted(call)
        if self.waits:
            self.actor.withdraw(self)
            self.begin()
            self.calls.fail(self._end)
            event_loop().ended(self)
        elif self._task is not None:
            self._task.cancel()

    def is_given_up(self) -> bool:
        """Say whether all its calls are to end; any thread."""
        return all(call.interrupted or call.done() for call in self.calls.calls)

    async def run(self) -> None:
        """Run the coroutine and end the calls; an interrupt may come while the failure of one is encoded."""
        self._task = asyncio.current_task()
        output.actor.set(self.actor.number)
        current_job.set(self)
        try:
            if self._end is not None:
                raise self._end
            gpu.enter()
            coroutine = self._run()
            if self.actor.gpu is not None:
                coroutine = gpu.on_gpu(self.actor.gpu, coroutine)
            self.calls.settle(await coroutine)
        except BaseException as error:
            if self._end is not None and isinstance(error, asyncio.CancelledError):
                error = self._end.with_traceback(error.__traceback__)
            self.calls.fail(error)

    def conclude(self, task: asyncio.Task[None]) -> None:
        """Take leave of its task, which has ended."""
        if not task.cancelled():
            task.exception()  # asked for, so that asyncio does not report it
        self._task = self._await = None
        if self.calls.calls:
            self.calls.fail(interrupted(self.all_calls[0]))
        self.actor.ended()
        event_loop().ended(self)

    # Waiting for others ------------------------------------------------------------------------------------

    def begin_to_await(self, call: _native.Call, woken: asyncio.Future[None]) -> asyncio.Task[Any] | None:
        """Have the core know that this task awaits `call`, sleeping on `woken`; None if it need not."""
        if self._task is None:
            return None
        if self._await is None:
            if not self.calls.calls:
                return None
            self._await = _native.Await(self.calls.calls)
        task = asyncio.current_task()
        assert task is not None
        self._awaited[task] = call, woken
        self._await.add(call)
        return task

    def end_to_await(self, call: _native.Call, task: asyncio.Task[Any] | None) -> None:
        """Have it know that `task` does so no more."""
        if task is not None:
            del self._awaited[task]
            if self._await is not None:
                self._await.remove(call)

    def look(self) -> bool:
        """Do what the core wants to know or tells of the job's awaiting; false: it does not want anything."""
        if self._await is None:
            return False
        if self._await.asked:
            certain = self._task is not None and self._awaits_only(self._task)
            self._await.answer(certain)
            if not certain:
                event_loop().call_later(_DOUBT, self._look_again)
            return True
        text = self._await.hopeless
        told = [woken for _, woken in self._awaited.values() if text and not woken.done()]
        for woken in told:
            woken.set_exception(errors.DeadlockError(text))
        return bool(told)

    def _look_again(self) -> None:
        if self._await is not None:
            self._await.look_again()

    def _awaits_only(self, task: asyncio.Task[Any]) -> bool:
        """Say whether `task` goes on only when a call that the job awaits is done."""
        if event_loop().has_time_limit(task):
            return False
        if task in self._awaited:
            return not self._awaited[task][1].done()
        open_ = [future for future in _waited_by(task) if not future.done()]
        return bool(open_) and all(
            isinstance(future, asyncio.Task) and self._awaits_only(future) for future in open_
        )


_SELECT = asyncio.tasks._wait.__code__  # type: ignore[attr-defined]
_LEAVE_GROUP = asyncio.TaskGroup.__aexit__.__code__ if hasattr(asyncio, "TaskGroup") else None


def _waited_by(task: asyncio.Task[Any]) -> Iterable[asyncio.Future[Any]]:
    """Return the futures that `task` waits for, as far as that can be told."""
    waited: Any = getattr(task, "_fut_waiter", None)
    if isinstance(waited, asyncio.Task):
        return [waited]
    if isinstance(waited, asyncio.tasks._GatheringFuture):  # type: ignore[attr-defined]
        return list(waited._children)
    coroutine: Any = task.get_coro()
    while (inner := getattr(coroutine, "cr_await", None)) is not None and hasattr(inner, "cr_frame"):
        coroutine = inner
    frame = getattr(coroutine, "cr_frame", None)
    if frame is None:
        return []
    if frame.f_code is _SELECT and frame.f_locals.get("timeout") is None:
        return list(frame.f_locals["fs"])
    if frame.f_code is _LEAVE_GROUP:
        return list(frame.f_locals["self"]._tasks)
    if frame.f_code is AsyncStream.fill.__code__:
        return [frame.f_locals["self"].task]
    return []


class Single:
    """The one call of a job; `calls` is empty once it has ended."""

    def __init__(self, call: _native.Call) -> None:
        self.calls = [call]
        self.oks: list[bool] = []
        self._gpus = calls.at_hand.gpus
        self._share = calls.at_hand.share

    def settle(self, result: Any) -> None:
        """Complete the call with `result`."""
        encoded = encode_result(result, self._gpus, self._share)
        del result
        self.calls[0].succeed(*encoded)
        self._ended(True)

    def fail(self, error: BaseException) -> None:
        """Fail all its calls."""
        for call in self.calls:
            fail(call, error, self._gpus)
        self._ended(False)

    def _ended(self, ok: bool) -> None:
        if self.calls:
            self.calls = []
            self.oks.append(ok)


class Request(Single):
    """A request of a stream, which ends the call itself and says whether all was well."""

    def settle(self, result: Any) -> None:
        """Note whether all was well."""
        self._ended(bool(result))


class _EventLoop:
    """The loop, its thread, and the jobs that have not ended."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._interrupts = _native.CompletionQueue()
        self._worker = _this_worker()
        self._tells_of_waits = _tell_of_waits(self._loop, self._worker)
        self._jobs: dict[int, Job] = {}  # by the keys of their calls
        self._unheard: dict[int, tuple[_native.Call, float]] = {}  # interrupts, and since when; by the same
        self._context = contextvars.Context()  # in which no job runs
        self._actors: weakref.WeakSet[AsyncActor] = weakref.WeakSet()
        self._tasks: set[asyncio.Task[None]] = set()  # the loop itself only knows them weakly
        self._changed = asyncio.Event()  # a job has ended
        self._is_ending = False
        self._wound_up = threading.Event()
        self._patience = 0.0  # seconds, at its end, for what nobody waits for
        self._gives_up: float | None = None  # when they are over; None: somebody waits for a job
        self._watcher = threading.Thread(target=self._watch, name="multipy-interrupts", daemon=True)
        self._thread = threading.Thread(target=self._run, name="multipy-loop")
        self._watcher.start()
        # Its code is to have the stack that a main thread has.
        before = threading.stack_size(_native.main_thread_stack())
        try:
            self._thread.start()
        except BaseException:
            self._interrupts.close()
            self._loop.close()
            raise
        finally:
            threading.stack_size(before)

    # For worker threads.

    def start(self, job: Job, worker: _native.Worker) -> None:
        """Hand `job` over."""
        calls = job.calls.calls
        self._actors.add(job.actor)
        try:
            for call in calls:
                self._jobs[call.key] = job
            for call in calls:
                call.run_aside(self._interrupts)
                if worker.interrupted:
                    call.interrupt()
            self.call_soon(job.actor.admit, job)
        except BaseException as error:  # for want of memory, say
            for call in calls:
                self._jobs.pop(call.key, None)
                call.end_aside()
                call.fail_plainly(error)
            raise

    def call_soon(self, function: Callable[..., object], *args: Any) -> None:
        """Have `function` called on the loop's thread."""
        self._loop.call_soon_threadsafe(function, *args)

    def call_later(self, seconds: float, function: Callable[[], object]) -> None:
        """Have `function` called on the loop's thread, which this is, in a while."""
        self._loop.call_later(seconds, function)

    def is_this_thread(self) -> bool:
        """Say whether it is the loop's; any thread."""
        return threading.current_thread() is self._thread

    def has_time_limit(self, task: asyncio.Task[Any]) -> bool:
        """Say whether something is to happen to `task` at some time, or it cannot be told."""
        timers: Any = getattr(self._loop, "_scheduled", None)
        if timers is None:
            return True  # not asyncio's own loop
        for timer in timers:
            owner = getattr(timer._callback, "__self__", None)
            if not timer.cancelled() and task in (owner, getattr(owner, "_task", None), *(timer._args or ())):
                return True
        return False

    def finish(self, patience: float) -> None:
        """Wait for the jobs, close the streams, cancel what else there is and end the loop.

        Jobs whose calls have ended, and all that is no job, have `patience` seconds. A coroutine that goes on
        all the same leaves the loop's thread running.
        """
        self._patience = patience
        self.call_soon(self.keep, self._wind_up(), "multipy-end")
        while not self._wound_up.wait(_OFTEN):
            if any(job.is_owed() for job in list(self._jobs.values())):
                self._gives_up = None
            elif self._gives_up is None:
                self._gives_up = monotonic() + patience
            elif monotonic() >= self._gives_up:
                break
        if self._gives_up is None:
            self._gives_up = monotonic() + patience
        self._thread.join(self.seconds_left())

    # For any thread.

    def describe_tasks(self, place_of: Callable[[FrameType | None], str | None]) -> list[str]:
        """Say where the coroutines of jobs are."""
        lines = []
        for job in {id(job): job for job in list(self._jobs.values())}.values():
            place = job.place(place_of)
            if place is not None:
                lines.append(f"a coroutine: {place}")
        return lines

    def seconds_left(self) -> float:
        """Return how long to wait, at the end, for what nobody waits for."""
        return self._patience if self._gives_up is None else max(0.0, self._gives_up - monotonic())

    # On the loop.

    def keep(
        self,
        coroutine: Coroutine[Any, Any, None],
        name: str,
        conclude: Callable[[asyncio.Task[None]], None] | None = None,
    ) -> None:
        """Run `coroutine` as a task, and then `conclude`."""
        task = self._loop.create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard, context=self._context)
        if not self._tells_of_waits:
            self._worker.event_loop_runs(True)
            task.add_done_callback(self._look_if_busy, context=self._context)
        if conclude is not None:
            task.add_done_callback(conclude, context=self._context)

    def _look_if_busy(self, task: asyncio.Task[None]) -> None:
        self._worker.event_loop_runs(bool(self._tasks))

    def ended(self, job: Job) -> None:
        """Count the calls of `job`, and forget it."""
        for key, call in zip(job.keys, job.all_calls, strict=True):
            del self._jobs[key]
            call.end_aside()
        for ok in job.calls.oks:
            self._worker.finished_aside(ok)
        self._changed.set()

    def _interrupt(self, call: _native.Call) -> None:
        self._unheard.pop(call.key, None)
        job = self._jobs.get(call.key)
        if job is not None and not job.look() and call.interrupted:
            job.interrupt(call)

    async def _wind_up(self) -> None:
        await self._until_over(lambda: [job for job in self._jobs.values() if not job.is_stream])
        closing = [asyncio.ensure_future(actor.close_streams()) for actor in list(self._actors)]
        if closing:
            await asyncio.wait(closing, timeout=self.seconds_left())
        await self._until_over(lambda: list(self._jobs.values()))
        self._is_ending = True
        self._loop.stop()

    async def _until_over(self, jobs: Callable[[], list[Job]]) -> None:
        """Wait for `jobs`, but not for long when all of their calls have ended."""
        given_up: float | None = None
        while left := jobs():
            if any(job.is_owed() for job in left):
                given_up = None
            elif given_up is None:
                given_up = monotonic() + _TO_COME_BACK
            elif monotonic() >= given_up:
                return
            self._changed.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._changed.wait(), _OFTEN)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._worker.adopt_event_loop()
        while not self._is_ending:
            try:
                self._loop.run_forever()
            except BaseException as error:  # SystemExit of a task that user code has started, say
                # asyncio passes an interrupt on to here, as it would Ctrl-C, and to the task as well.
                if not is_interruption(error):
                    sys.excepthook(*sys.exc_info())
        self._wound_up.set()
        try:
            self._cancel_tasks()
            self._run_for_a_while(self._loop.shutdown_asyncgens())
            self._run_for_a_while(self._loop.shutdown_default_executor())
        finally:
            self._interrupts.close()
            self._watcher.join()
            self._loop.close()
            self._worker.event_loop_runs(False)

    def _cancel_tasks(self) -> None:
        """End what user code has left running."""
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self._loop.run_until_complete(asyncio.wait(tasks, timeout=self.seconds_left()))

    def _run_for_a_while(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run what may wait for code of the user's."""
        task = self._loop.create_task(coroutine)
        self._loop.run_until_complete(asyncio.wait([task], timeout=self.seconds_left()))
        if task.done():
            task.result()

    # On the watcher's thread.

    def _watch(self) -> None:
        looks_at: float | None = None  # at what is unheard; others go on coming in meanwhile
        while True:
            call = self._interrupts.pop(None if looks_at is None else max(0.0, looks_at - monotonic()))
            if call is not None:
                self._unheard.setdefault(call.key, (call, monotonic()))
                if (job := self._jobs.get(call.key)) is not None:
                    job.raised = False
                self.call_soon(self._interrupt, call)
                if looks_at is None:
                    looks_at = monotonic() + _SOON
            elif self._interrupts.closed():
                return
            if looks_at is not None and monotonic() >= looks_at:
                for call, since in list(self._unheard.values()):
                    self._reach(call, since)
                looks_at = monotonic() + _LATER if self._unheard else None
            del call

    def _reach(self, call: _native.Call, since: float) -> None:
        """Raise Interrupted in the job of `call`, if that is what holds up the loop."""
        unheard = monotonic() - since
        job = self._jobs.get(call.key)
        if job is None or not call.interrupted or not job.is_given_up() or job.raised or unheard < _SOON:
            return
        held = unheard < _LONGEST_HOLD
        if _native.interrupt_job(current_job, job, _MACHINERY, held):
            job.raised = True


def _this_worker() -> _native.Worker:
    worker = _native.current_worker()
    assert worker is not None
    return worker


def _tell_of_waits(loop: asyncio.AbstractEventLoop, worker: _native.Worker) -> bool:
    """Have `worker` know when `loop` runs code and when it waits; false if that cannot be told."""
    selector = getattr(loop, "_selector", None)
    if not isinstance(loop, asyncio.SelectorEventLoop) or selector is None:
        return False
    select, runs = selector.select, worker.event_loop_runs

    def wait(timeout: float | None = None) -> Any:
        if timeout == 0:
            return select(0)
        runs(False)
        try:
            return select(timeout)
        finally:
            runs(True)

    selector.select = wait
    return True


# The frames between the jobs of the loop.
_MACHINERY = tuple(
    function.__code__
    for function in (
        asyncio.Handle._run,
        asyncio.BaseEventLoop._run_once,  # type: ignore[attr-defined]
        asyncio.BaseEventLoop.run_forever,
        _EventLoop._run,
        Job.conclude,
    )
)


_the_loop: _EventLoop | None = None
_making = threading.Lock()  # held by a worker thread that makes the loop


def event_loop() -> _EventLoop:
    """Return the interpreter's loop; the first worker thread that asks makes it."""
    global _the_loop
    if _the_loop is None:
        with _making:
            if _the_loop is None:
                _the_loop = _EventLoop()
    return _the_loop


def raise_again() -> bool:
    """Have an interrupt that was dropped on its way raised again; false if this is not the loop's thread."""
    job = current_job.get()
    if job is None or _the_loop is None or not _the_loop.is_this_thread():
        return False
    job.raised = False
    return True


def finish(patience: float) -> float:
    """End the loop, if there is one, when all is done that somebody waits for.

    What else there is has `patience` seconds; returns how many are left.
    """
    if _the_loop is None:
        return patience
    _the_loop.finish(patience)
    return _the_loop.seconds_left()


def describe_tasks(place_of: Callable[[FrameType | None], str | None]) -> list[str]:
    """Say where the coroutines are that run calls; `place_of` finds the user's line in a frame."""
    return [] if _the_loop is None else _the_loop.describe_tasks(place_of)
