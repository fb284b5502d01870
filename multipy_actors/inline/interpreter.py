"""What a seat of an inline pool does: it runs the requests that an interpreter would run, in the host.

Model: the operations are those of `worker/operations.py`, which the host does not import, without what only
interpreters need: the outcome is stored in the call of `inline`, and nothing runs aside. A Seat has its own
actors, streams and, once there is a coroutine, event loop.

Threads: `run` on any thread, by one at a time (`inline` sees to that); `drop` and `close` on any.
"""

from __future__ import annotations

import sys
from collections.abc import Coroutine
from time import monotonic
from typing import TYPE_CHECKING, Any

from multipy_actors import wire
from multipy_actors.description import introduction_of
from multipy_actors.errors import ActorClosedError
from multipy_actors.modules import imported
from multipy_actors.wire.sharing import ARRAYS
from multipy_actors.worker import module_sources, session_objects
from multipy_actors.worker.calls import await_futures

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence

    from multipy_actors.inline.pool import Call
    from multipy_actors.wire.sharing import Share

    Encoded = tuple[bytes, Sequence[Any]]

__all__ = ["Seat"]

_END = object()


class _Broken:
    """Stands for an actor whose `__init__` raised: every call raises the same again."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Seat:
    """Stands for one interpreter."""

    def __init__(self, index: int) -> None:
        """Begin without actors."""
        self.index = index
        self.thread: int | None = None  # that runs a call here
        self.done = 0
        self.failed = 0
        self._busy: tuple[float, float | None] = 0.0, None  # seconds, and what runs since when
        self._actors: dict[int, tuple[Any, dict[str, Any]]] = {}  # with their options
        self._streams: dict[int, tuple[int, Any, Share]] = {}  # actors' numbers and iterators, by their own
        self._share: Share = ARRAYS  # of the call that was read last
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, call: Call) -> None:
        """Run `call` and end it; raises what is meant for the thread and not for the call."""
        busy, _ = self._busy
        began = monotonic()
        self._busy = busy, began
        passed_on: BaseException | None = None
        outcome: Encoded | None = None
        actor = call.actor
        try:
            operation, args, kwargs, self._share = wire.decode_call(*call.request)
            call.request = b"", ()
            await_futures(args, kwargs)
            outcome = self._perform(operation, args, kwargs, call)
            succeeded = outcome is not None or call.state == "succeeded"
        except BaseException as error:
            succeeded = False
            if call.makes and call.makes not in self._actors:
                self._actors[call.makes] = _Broken(error), {}
            # The frames of this package are not the user's, and refer to the call.
            call.fail_with(error.with_traceback(_user_frames(error)))
            if _is_for_the_thread(error):
                passed_on = error
        self._busy = busy + monotonic() - began, None
        self.done += 1
        self.failed += not succeeded
        if actor is not None:
            actor.done += 1
            actor.failed += not succeeded
        if outcome is not None:
            call.succeed(*outcome)
        if passed_on is not None:
            raise passed_on

    @property
    def busy_seconds(self) -> float:
        """For how long it has run calls, up to now."""
        busy, began = self._busy
        return busy if began is None else busy + monotonic() - began

    def _perform(
        self, operation: list[Any], args: list[Any], kwargs: dict[str, Any], call: Call
    ) -> Encoded | None:
        """Return the encoded outcome; None if the call has it already."""
        share = self._share  # other calls may run here meanwhile
        if operation[0] == "method" and self._is_batched(operation, args, kwargs):
            self._run_batch(args, kwargs, call, *operation[1:])
            return None
        perform: Callable[..., Any] = getattr(self, f"_do_{operation[0]}")
        result = perform(args, kwargs, *operation[1:])
        if operation[0] in ("stream", "next"):
            encoded: Encoded = result
            return encoded
        return wire.encode(result, "result", inline=True, share=share)

    # Operations --------------------------------------------------------------------------------------------

    def _do_call(self, args: list[Any], kwargs: dict[str, Any], fn: Callable[..., Any]) -> Any:
        return fn(*args, **kwargs)

    def _do_map(self, args: list[Any], kwargs: dict[str, Any], fn: Callable[..., Any]) -> list[Any]:
        return [fn(*items) for items in args]

    def _do_create(
        self, args: list[Any], kwargs: dict[str, Any], number: int, cls: Any, options: dict[str, Any]
    ) -> None:
        try:
            self._actors[number] = self._on_loop_if(options, cls, args, kwargs), options
        except BaseException as error:
            self._actors[number] = _Broken(error), {}
            raise

    def _do_adopt(
        self, args: list[Any], kwargs: dict[str, Any], number: int, options: dict[str, Any]
    ) -> None:
        self._actors[number] = args[0], options

    def _do_adopt_lazily(
        self, args: list[Any], kwargs: dict[str, Any], number: int, options: dict[str, Any]
    ) -> None:
        """Make the object now; what that raises is for its calls to raise."""
        if number in self._actors:
            self._actors[number] = self._actors[number][0], options
            return
        (source,) = args
        try:
            if len(source) > 1:
                from multipy_actors.worker.torch_packages import maker_of

                self._actors[number] = maker_of(source, number)(), options
            else:
                self._actors[number] = source[0].result(), options
        except BaseException as error:
            self._actors[number] = _Broken(error), {}

    def _do_load(self, args: list[Any], kwargs: dict[str, Any], number: int) -> None:
        self._actor(number)

    def _actor(self, number: int) -> tuple[Any, dict[str, Any]]:
        try:
            actor, options = self._actors[number]
        except KeyError:
            raise ActorClosedError("the actor has no replica here any more") from None
        if isinstance(actor, _Broken):
            raise actor.error
        return actor, options

    def _do_method(self, args: list[Any], kwargs: dict[str, Any], number: int, name: str) -> Any:
        actor, options = self._actor(number)
        method = getattr(actor, name)
        return self._on_loop_if(options, method, args, kwargs)

    def _is_batched(self, operation: list[Any], args: list[Any], kwargs: dict[str, Any]) -> bool:
        _, options = self._actor(operation[1])
        return operation[2] in options.get("batching", ()) and bool(args or kwargs)

    def _run_batch(self, args: list[Any], kwargs: dict[str, Any], call: Any, number: int, name: str) -> None:
        """Run the call as a batch of one."""
        from multipy_actors.worker.batching import Batch

        actor, options = self._actor(number)
        method = getattr(actor, name)
        batch = Batch()
        batch.add(call, args, kwargs, self._share)
        listed, named = batch.arguments(method)
        batch.settle(self._on_loop_if(options, method, listed, named))

    def _do_get(self, args: list[Any], kwargs: dict[str, Any], number: int, name: str) -> Any:
        actor, options = self._actor(number)
        return self._on_loop_if(options, getattr, [actor, name], {})

    def _do_has(self, args: list[Any], kwargs: dict[str, Any], number: int, name: str) -> bool:
        return hasattr(self._actor(number)[0], name)

    def _do_describe(self, args: list[Any], kwargs: dict[str, Any], number: int) -> Any:
        return introduction_of(self._actor(number)[0])

    def _do_session(
        self, args: list[Any], kwargs: dict[str, Any], session: int, operation: str, *rest: Any
    ) -> Any:
        if operation == "from_movable":
            return session_objects.put(session, self._actor(rest[0])[0])
        return session_objects.run(args, kwargs, session, operation, list(rest))

    def _do_package(self, args: list[Any], kwargs: dict[str, Any], operation: str, *rest: Any) -> Any:
        from multipy_actors.worker import torch_packages

        if operation in ("load", "import"):
            loaded, told = torch_packages.load(args, operation, rest[0])
            self._actors[rest[0]] = loaded, {}
            return told
        return torch_packages.run(args, kwargs, operation, list(rest))

    def _do_source(self, args: list[Any], kwargs: dict[str, Any], name: str, text: str) -> None:
        module_sources.register(name, text)

    def _do_enter(self, args: list[Any], kwargs: dict[str, Any], number: int) -> tuple[bool, Any]:
        actor, options = self._actor(number)
        value = self._on_loop_if(options, type(actor).__enter__, [actor], {})
        return (True, None) if value is actor else (False, value)

    def _do_stream(
        self, args: list[Any], kwargs: dict[str, Any], number: int, name: str, stream: int
    ) -> Encoded:
        share = self._share
        actor, options = self._actor(number)
        iterator = self._on_loop_if(options, getattr(actor, name), args, kwargs)
        self._streams[stream] = number, iterator if hasattr(iterator, "__anext__") else iter(iterator), share
        return self._do_next([], {}, number, stream)

    def _do_next(self, args: list[Any], kwargs: dict[str, Any], number: int, stream: int) -> Encoded:
        """Return the next item as a chunk (see worker/generators)."""
        if stream not in self._streams:
            raise ActorClosedError("the stream was closed")
        _, iterator, share = self._streams[stream]
        try:
            item = self._item_of(iterator)
            data, attachments = (
                (b"", []) if item is _END else wire.encode(item, "item", inline=True, share=share)
            )
        except BaseException:
            del self._streams[stream]
            self._end(iterator)
            raise
        if item is _END:
            del self._streams[stream]
            return wire.encode([True, []])[0], ()
        return wire.encode([False, [[data, len(attachments)]]])[0], attachments

    def _item_of(self, iterator: Any) -> Any:
        if not hasattr(iterator, "__anext__"):
            return next(iterator, _END)
        try:
            return self._on_loop(iterator.__anext__)
        except StopAsyncIteration:
            return _END

    def _do_close_stream(self, args: list[Any], kwargs: dict[str, Any], number: int, stream: int) -> None:
        if stream in self._streams:
            self._end(self._streams.pop(stream)[1])

    def _end(self, iterator: Any) -> None:
        if hasattr(iterator, "aclose"):
            self._on_loop(iterator.aclose)
        elif hasattr(iterator, "close"):
            iterator.close()

    def _do_configure(self, args: list[Any], kwargs: dict[str, Any]) -> None:
        sys.path += [path for path in kwargs["search_paths"] if path not in sys.path]
        for name in kwargs["preload"]:
            __import__(name)
        if kwargs["initializer"] is not None:
            kwargs["initializer"](*kwargs["initargs"])

    # Coroutines --------------------------------------------------------------------------------------------

    def _on_loop_if(
        self,
        options: dict[str, Any],
        function: Callable[..., Any],
        args: Sequence[Any],
        kwargs: dict[str, Any],
    ) -> Any:
        """Call `function`; on the loop if the actor has coroutines, as all methods of it run there."""
        if "max_concurrency" not in options:
            return function(*args, **kwargs)
        return self._on_loop(lambda: function(*args, **kwargs))

    def _on_loop(self, function: Callable[[], Any]) -> Any:
        """Call `function` on the loop, and wait for what it returns if that is to be waited for."""
        import asyncio

        async def run() -> Any:
            result = function()
            if isinstance(result, (Coroutine, asyncio.Future)) or hasattr(result, "__await__"):
                return await result
            return result

        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        # A coroutine may have submitted this call: its own loop stands still meanwhile, and does not count.
        outer = asyncio._get_running_loop()
        if outer is None:
            return self._loop.run_until_complete(run())
        task = asyncio.current_task(outer)
        if task is not None:
            asyncio.tasks._leave_task(outer, task)
        asyncio._set_running_loop(None)
        try:
            return self._loop.run_until_complete(run())
        finally:
            asyncio._set_running_loop(outer)
            if task is not None:
                asyncio.tasks._enter_task(outer, task)

    # Its end -----------------------------------------------------------------------------------------------

    def drop(self, number: int) -> None:
        """Let go of an actor and its streams."""
        for stream, (actor, iterator, _) in list(self._streams.items()):
            if actor == number:
                del self._streams[stream]
                self._end(iterator)
        self._actors.pop(number, None)
        packages = imported("multipy_actors.worker.torch_packages")
        if packages is not None:
            packages.release(number)

    def close(self) -> None:
        """Let go of everything."""
        for number in {*self._actors, *(actor for actor, _, _ in self._streams.values())}:
            self.drop(number)
        if self._loop is None:
            return
        import asyncio

        loop = self._loop
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self._on_loop(lambda: asyncio.gather(*tasks, return_exceptions=True))
        self._on_loop(loop.shutdown_asyncgens)
        self._loop = None
        loop.close()


def _is_for_the_thread(error: BaseException) -> bool:
    """Say whether somebody at the keyboard wants everything to end."""
    bdb = imported("bdb")
    return isinstance(error, KeyboardInterrupt) or (bdb is not None and isinstance(error, bdb.BdbQuit))


def _user_frames(error: BaseException) -> Any:
    frames = error.__traceback__
    while frames is not None and str(frames.tb_frame.f_globals.get("__name__")).startswith("multipy_actors."):
        frames = frames.tb_next
    return frames
