"""Dynamic batching, inside an interpreter: single calls of a method become one call with lists.

Problem: a model answers eight questions in hardly more time than one, but callers ask one each.

Model: each batched method of an actor (see batching) has a Batcher. The worker takes a call and has the
batcher gather more from the same mailbox: those that wait there already, and what comes within `batch_wait`
seconds. Who posts a call says which it can run with, by a text of the method's name and the shape of the
arguments; so the mailbox gives out only what fits, the order of calls is kept, and a call that does not fit
ends the gathering. The method is called once. Each parameter gets the list of what the callers passed; one
that is annotated as a tensor or an array gets them stacked. A result is taken apart again, one part for each
caller.

A Batch knows its members until they are done. One that cannot be decoded, or that was cancelled or timed out,
drops out alone, also while the batch runs: its caller is told, and the others go on. What runs is interrupted
when all of them are given up.

Calls without arguments and those to a chosen replica are not gathered; a call of the first kind runs as if
there were no batching, as the method could not tell how many results are wanted.

Threads: a batch is gathered on the worker thread; it is run and ended there or on the event loop's.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

from multipy_actors import _native, errors, wire
from multipy_actors.interrupts import is_interruption
from multipy_actors.wire.sharing import ARRAYS
from multipy_actors.worker import calls
from multipy_actors.worker.calls import await_futures, encode_error, encode_failure, fail, interrupted

if TYPE_CHECKING:
    from collections.abc import Callable

    from multipy_actors.wire.sharing import Share

__all__ = ["Batch", "Batcher"]


class _Member:
    """One call of a batch; `call` is None once it has dropped out."""

    __slots__ = ("args", "call", "kwargs", "share")

    def __init__(self, call: _native.Call, args: list[Any], kwargs: dict[str, Any], share: Share) -> None:
        self.call: _native.Call | None = call
        self.args = args
        self.kwargs = kwargs
        self.share = share


class Batch:
    """Calls that run as one. `settle` or `fail` ends them all; `oks` is how those went that have ended."""

    def __init__(self) -> None:
        """Begin without members."""
        self.oks: list[bool] = []
        self._members: list[_Member] = []

    @property
    def calls(self) -> list[_native.Call]:
        """Those that have not ended."""
        return [member.call for member in self._members if member.call is not None]

    def add(self, call: _native.Call, args: list[Any], kwargs: dict[str, Any], share: Share = ARRAYS) -> None:
        """Take a call in; `share` says what of its result is shared."""
        self._members.append(_Member(call, args, kwargs, share))

    def drop(self, call: _native.Call) -> None:
        """End one call alone, before or while the others run, as it was interrupted."""
        for member in self._members:
            if member.call is not None and member.call.key == call.key:
                self._end(member, encode_failure(interrupted(call)))

    def drop_ended(self) -> None:
        """End those that nobody waits for any more."""
        for call in self.calls:
            if call.interrupted or call.done():
                self.drop(call)

    def arguments(self, function: Callable[..., Any]) -> tuple[list[Any], dict[str, Any]]:
        """Move the arguments out, as `function` wants them for all members; nobody else has them then."""
        stacked_position, stacked_name = _stacked_parameters(function)
        self._members = [member for member in self._members if member.call is not None]
        columns = zip(*(member.args for member in self._members), strict=True)
        args: list[Any] = [list(column) for column in columns]
        kwargs: dict[str, Any] = {
            name: [member.kwargs[name] for member in self._members] for name in self._members[0].kwargs
        }
        for member in self._members:
            member.args.clear()
            member.kwargs.clear()
        for index, column in enumerate(args):
            if (package := stacked_position(index)) is not None:
                args[index] = _stack(package, column, f"argument {index}")
        for name, column in kwargs.items():
            if (package := stacked_name(name)) is not None:
                kwargs[name] = _stack(package, column, f"argument {name!r}")
        return args, kwargs

    def settle(self, result: Any) -> None:
        """Give each member its part of `result`."""
        try:
            parts = _parts_of(result, len(self._members))
        except BaseException as error:
            self.fail(error)
            return
        for member, part in zip(self._members, parts, strict=True):
            if member.call is None:
                continue
            if isinstance(part, Exception):
                self._end(member, encode_error(part))
                continue
            try:
                data, attachments = wire.encode(part, "result", share=member.share)
            except BaseException as error:
                if is_interruption(error):
                    raise  # it is meant for all of them
                self._end(member, encode_failure(error))
                continue
            member.call.succeed(data, attachments)
            member.call = None
            self.oks.append(True)

    def fail(self, error: BaseException) -> None:
        """End all members with `error`."""
        encoded = encode_failure(error)
        for member in self._members:
            self._end(member, encoded)

    def _end(self, member: _Member, error: tuple[bytes, list[_native.Attachment]]) -> None:
        call, member.call = member.call, None
        if call is not None:
            call.fail(*error)
            self.oks.append(False)


class Batcher:
    """How the calls of a method are gathered."""

    def __init__(self, most: int, wait: float) -> None:
        """At most `most` calls, for which the first of them waits `wait` seconds."""
        self._most = most
        self._wait = wait

    def gather(
        self, worker: _native.Worker, call: _native.Call, args: list[Any], kwargs: dict[str, Any]
    ) -> Batch:
        """Return `call`, which the worker has taken, in a batch with what else there is."""
        batch = Batch()
        batch.add(call, args, kwargs, calls.at_hand.share)
        deadline = monotonic() + self._wait if self._wait else 0.0
        while len(batch.calls) < self._most:
            left = max(0.0, deadline - monotonic()) if self._wait else 0.0
            more = worker.take_more(call, left)
            if more is None:
                break
            if more.start():
                _read(worker, more, batch)
        return batch

    def run(
        self,
        function: Callable[..., Any],
        args: list[Any],
        kwargs: dict[str, Any],
        call: _native.Call,
        worker: _native.Worker,
    ) -> bool:
        """Run `call` and what can be gathered with it on this thread; says whether one of them succeeded.

        That one is for the worker to count; the others are counted here.
        """
        batch = self.gather(worker, call, args, kwargs)
        del args, kwargs
        batch.drop_ended()
        try:
            if batch.calls and worker.run_batch(batch.calls, lambda _: _run(function, batch)) is None:
                batch.drop_ended()
                raise errors.Interrupted("the pool is closing")
        except BaseException as error:  # an interrupt came while a failure was being encoded, say
            batch.fail(error)
        for ok in batch.oks[1:]:
            worker.finished_aside(ok)
        return batch.oks[0]


def _read(worker: _native.Worker, call: _native.Call, batch: Batch) -> None:
    def read(call: _native.Call) -> tuple[list[Any], dict[str, Any], Share]:
        data, attachments = call.take_request()
        _, args, kwargs, share = wire.decode_call(data, attachments)
        if attachments:
            await_futures(args, kwargs)
        return args, kwargs, share

    try:
        arguments = worker.run(call, read)
        if arguments is None:
            raise interrupted(call)
    except BaseException as error:
        fail(call, error)
        batch.oks.append(False)
    else:
        batch.add(call, *arguments)


def _run(function: Callable[..., Any], batch: Batch) -> bool:
    """Run and settle; what the settling of one member raises is that member's alone."""
    try:
        batch.settle(_call(function, batch))
    except BaseException as error:
        batch.fail(error)
    return True


def _call(function: Callable[..., Any], batch: Batch) -> Any:
    args, kwargs = batch.arguments(function)
    return function(*args, **kwargs)


# Arguments and results -------------------------------------------------------------------------------------

_TENSOR_NAMES = {"Tensor": "torch", "Parameter": "torch", "ndarray": "numpy", "NDArray": "numpy"}
_Stacked = tuple["Callable[[int], str | None]", "Callable[[str], str | None]"]
_known: dict[Any, _Stacked] = {}


def _stacked_parameters(function: Callable[..., Any]) -> _Stacked:
    """Return what tells by position, and by name, which package's tensors a parameter takes; None: none."""
    key = getattr(function, "__func__", None)
    if key in _known:
        return _known[key]
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    positions: list[str | None] = []
    more_positions: str | None = None
    names: dict[str, str | None] = {}
    more_names: str | None = None
    for parameter in parameters:
        kind = _package_of(parameter.annotation)
        if parameter.kind is parameter.VAR_POSITIONAL:
            more_positions = kind
        elif parameter.kind is parameter.VAR_KEYWORD:
            more_names = kind
        else:
            names[parameter.name] = kind
            if parameter.kind is not parameter.KEYWORD_ONLY:
                positions.append(kind)
    stacked: _Stacked = (
        lambda index: positions[index] if index < len(positions) else more_positions,
        lambda name: names.get(name, more_names),
    )
    if key is not None:
        _known[key] = stacked
    return stacked


def _package_of(annotation: Any) -> str | None:
    """Return the package whose tensors `annotation` stands for; it may be text, and imports nothing."""
    annotation = getattr(annotation, "__origin__", annotation)  # numpy.typing.NDArray[...] is an ndarray[...]
    if isinstance(annotation, str):
        return _TENSOR_NAMES.get(annotation.partition("[")[0].strip().rpartition(".")[2])
    if not isinstance(annotation, type):
        return None
    package = _TENSOR_NAMES.get(annotation.__name__)
    return package if package == annotation.__module__.partition(".")[0] else None


def _stack(package: str, parts: list[Any], what: str) -> Any:
    module = __import__(package)  # waits for another thread that is just importing it
    kind = module.Tensor if package == "torch" else (module.ndarray, module.generic)
    for part in parts:
        if not isinstance(part, kind):
            raise TypeError(
                f"{what}: to be stacked with others it must be a tensor, not {type(part).__name__}"
            )
    shapes = dict.fromkeys(tuple(part.shape) for part in parts)
    if len(shapes) > 1:
        text = ", ".join(map(str, shapes))
        raise TypeError(f"{what}: the tensors of a batch cannot be stacked, their shapes are {text}")
    try:
        return module.stack(parts)
    except Exception as error:
        raise TypeError(f"{what}: the tensors of a batch cannot be stacked: {error}") from error


def _parts_of(result: Any, count: int) -> list[Any]:
    """Return the results of the members, which `result` must have `count` of."""
    shape = getattr(result, "shape", None)
    if shape is None or isinstance(result, Sequence):
        fits = isinstance(result, Sequence) and not isinstance(result, (str, bytes, bytearray, memoryview))
    else:
        fits = len(shape) > 0
    if not fits:
        raise TypeError(
            f"a method that is called with a batch must return a sequence of one result per call, "
            f"{count} here, not {type(result).__name__}"
        )
    if len(result) != count:
        raise ValueError(
            f"a method that is called with a batch must return one result per call: "
            f"it returned {len(result)} for {count}"
        )
    return list(result)
