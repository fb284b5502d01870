"""Turns a value into bytes and shared tensors, and back into an equal value of the same type elsewhere.

Problem: interpreters of one process have separate objects but common memory. Data should cross quickly and
arrive as exactly what was sent; tensors should not be copied; and whatever Python programmers pass to
functions should be accepted: closures, models, classes of `__main__`. When something cannot cross, the
error should name it.

Model: `encode` returns `(data, tensors)`. `data` is MessagePack if the value is pure data (see
messagepack), else a pickle (see pickles). A tensor or array anywhere inside is a number in `data`, an index
into `tensors` (see tensors), and so is a handle or a future (see references); `decode` may be called any
number of times, in any interpreter, and each call makes new objects around the same memory. The dependence
goes from here to `messagepack` and `pickles`, and from these to `references` and `tensors`.

An exception is a pickle within a document of texts: type name, message, traceback. The sender tries the
pickle before it relies on it, and the receiver falls back on the texts, so decoding an exception always
yields one.

Threads: any; no state here.

Start-up: what only pickles or failures need is imported with the first of them.

Guarantees: `decode(*encode(x))` equals x and has its type, to any depth; failures are SerializationError.
Not guaranteed: that two packed places keep referring to one list or dict, as two pickled places
do.
"""

from __future__ import annotations

from multipy_actors import _native
from multipy_actors.interrupts import is_interruption
from multipy_actors.wire import buffers, messagepack
from multipy_actors.wire.sharing import ARRAYS
from multipy_actors.wire.tensors import Incoming, Outgoing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, TypeVar

    from multipy_actors._native import Attachment
    from multipy_actors.errors import MultipyError, SerializationError
    from multipy_actors.wire.sharing import Share

    T = TypeVar("T")

__all__ = [
    "copied",
    "decode",
    "decode_call",
    "decode_exception",
    "encode",
    "encode_call",
    "encode_exception",
    "encode_own_error",
]

_PLAIN = (int, str, dict)  # the operands of operations, but for functions and classes
_PICKLE = 0x80  # how pickles begin; in MessagePack this is an empty dict, which is one byte long


def encode(
    value: object, what: str = "value", *, inline: bool = False, share: Share = ARRAYS
) -> tuple[bytes, list[Attachment]]:
    """Encode `value`; `what` is how an error calls it. With `inline` it stays in the host.

    `share` says what of it is shared (see sharing).

    Raises SerializationError, whose message names the path inside the value, if something in it cannot be
    sent.
    """
    try:
        return _encode(value, inline, share)
    except Exception as error:
        raise _explained(error, [(what, value)], inline) from error


def encode_call(
    target: object,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    inline: bool = False,
    share: Share = ARRAYS,
) -> tuple[bytes, list[Attachment]]:
    """Encode `[target, list(args), kwargs]`; an error names the argument: `argument 1[0].lock`.

    Lists need no tags, so the frame of a call of plain data is plain MessagePack. `share` comes last, where
    it is not the default.
    """
    value = [target, list(args), kwargs]
    if share != ARRAYS:
        value.append(share)
    try:
        outgoing = Outgoing(share, inline)
        data = messagepack.pack(value, outgoing)
        if data is None and isinstance(target, list):
            # Data is packed even where what it is given to has to be pickled.
            outgoing = Outgoing(share, inline)
            apart = [part if type(part) in _PLAIN else messagepack.Pickled(part) for part in target]
            data = messagepack.pack([apart, *value[1:]], outgoing)
        if data is None:
            return _pickled(value, Outgoing(share, inline))
        return data, outgoing.shared
    except Exception as error:
        parts = (
            [("function", part) for part in target] if isinstance(target, list) else [("function", target)]
        )
        parts += [(f"argument {index}", arg) for index, arg in enumerate(args)]
        parts += [(f"argument {name!r}", arg) for name, arg in kwargs.items()]
        raise _explained(error, parts, inline) from error


def decode(data: bytes, tensors: Sequence[Attachment] = ()) -> Any:
    """Rebuild the value that `encode` returned `data` and `tensors` for.

    Raises SerializationError if this interpreter cannot: a module is missing here, say.
    """
    incoming = Incoming(tensors)
    try:
        if data[0] == _PICKLE and len(data) > 1:
            from multipy_actors.wire import pickles

            return pickles.loads(data, incoming)
        return messagepack.unpack(data, incoming)
    except Exception as error:
        from multipy_actors.errors import SerializationError

        raise SerializationError(f"cannot rebuild a value here: {type(error).__name__}: {error}") from error


def decode_call(data: bytes, tensors: Sequence[Attachment] = ()) -> tuple[Any, Any, Any, Share]:
    """Return the target, the arguments and `share` of what `encode_call` encoded."""
    call = decode(data, tensors)
    if len(call) == 3:
        call.append(ARRAYS)
    target, args, kwargs, share = call
    return target, args, kwargs, share


def copied(value: T) -> T:
    """Mark `value`, an argument or result or a part of one, so that the tensors and arrays in it are sent
    as copies.

    The receiver gets the value, not the mark, and shares no memory with the sender. Copies are dense: an
    expanded or sliced tensor arrives without its gaps.
    """
    from multipy_actors.wire.pickles import Copied

    return Copied(value)  # type: ignore[return-value]


def _encode(
    value: object, inline: bool = False, share: Share = ARRAYS, shared: Sequence[Attachment] = ()
) -> tuple[bytes, list[Attachment]]:
    """Encode `value`; its attachments come after those of `shared`."""
    outgoing = _outgoing_after(shared, inline, share)
    data = messagepack.pack(value, outgoing)
    if data is None:
        return _pickled(value, _outgoing_after(shared, inline, share))  # packing may have left some
    return data, outgoing.shared


def _pickled(value: object, outgoing: Outgoing) -> tuple[bytes, list[Attachment]]:
    from multipy_actors.wire import pickles

    return pickles.dumps(buffers.boxed(value), outgoing), outgoing.shared


def _pickle_part(value: object, outgoing: Outgoing) -> bytes:
    from multipy_actors.wire import pickles

    return pickles.dumps(value, outgoing)


def _rebuild_part(data: bytes, incoming: Incoming) -> Any:
    from multipy_actors.wire import pickles

    return pickles.loads(data, incoming)


messagepack.pickle_with(_pickle_part, _rebuild_part)


def _outgoing_after(shared: Sequence[Attachment], inline: bool, share: Share) -> Outgoing:
    outgoing = Outgoing(share, inline)
    outgoing.shared += shared
    return outgoing


def _explained(
    error: Exception, roots: Sequence[tuple[str, Any]], inline: bool = False
) -> SerializationError:
    from multipy_actors.errors import SerializationError
    from multipy_actors.wire.unserializable import find_culprit, without_frames

    def probe(part: Any) -> None:
        _encode(part, inline)

    path, culprit = roots[0]
    for name, value in roots:
        try:
            probe(value)
        except Exception as failure:
            # Down in what is nested too deeply there is nothing that would be at fault.
            error = without_frames(failure)
            if _is_too_deep(error):
                path, culprit = name, value
            else:
                path, culprit, error = find_culprit(value, name, error, probe)
            break
    reason = "it is nested too deeply" if _is_too_deep(error) else str(error) or type(error).__name__
    return SerializationError(f"{path}: cannot serialize {_name_of(type(culprit))}: {reason}")


def _is_too_deep(error: BaseException) -> bool:
    # cloudpickle wraps the RecursionError of pickle.
    return isinstance(error, RecursionError) or isinstance(error.__cause__, RecursionError)


def _name_of(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


# Exceptions ------------------------------------------------------------------------------------------------


def encode_exception(error: BaseException) -> tuple[bytes, list[Attachment]]:
    """Encode `error` with its traceback as text; always possible.

    The text holds causes, contexts and notes, and leaves out the frames of this package that led to the
    user's.
    """
    try:
        text = str(error)
    except BaseException as failure:  # the user's code, which may raise anything
        _pass_on(failure)
        text = "<its message cannot be told>"
    # After that, as `traceback` swallows whatever ends the making of a message.
    traceback = _traceback_of(error)
    travelling, tensors = _travelling(error, text)
    texts = (_name_of(type(error)), text, traceback)
    # Texts may hold lone surrogates, which go by pickle; anything else about them is safe.
    return _encode((travelling, *texts), shared=tensors)


def encode_own_error(error: MultipyError) -> bytes:
    """Encode an error of this library that nobody raised, by its type and text, without pickling."""
    return _encode((None, _name_of(type(error)), str(error), ""))[0]


def decode_exception(data: bytes, tensors: Sequence[Attachment] = ()) -> BaseException:
    """Rebuild an exception, in its own type if possible, else as RemoteError.

    Its `__cause__` is a RemoteTraceback.
    """
    from multipy_actors.errors import RemoteError, RemoteTraceback

    pickled, type_name, text, traceback = decode(data, tensors)
    error: BaseException | None = None
    if pickled is not None:
        error = _rebuilt(pickled, tensors)
    else:
        Incoming(tensors)  # what the call did to a GPU comes first, whatever it raised
    if error is None:
        # Where memory is short pickling fails in many ways; this one says all there is to say by its text.
        is_told_by_text = not traceback or type_name == "MemoryError"
        known = _known_error(type_name, text) if is_told_by_text else None
        error = known or RemoteError(type_name, text, traceback)
    if traceback:
        object.__setattr__(error, "__cause__", RemoteTraceback(traceback))  # a class may forbid the other way
    return error


def _known_error(type_name: str, text: str) -> BaseException | None:
    """Return the error that the core has told of, if it is one of this library or of Python's."""
    import builtins

    from multipy_actors import errors

    module, _, name = type_name.rpartition(".")
    cls = getattr(errors if module == errors.__name__ else builtins, name, None)
    if module not in ("", errors.__name__) or not (isinstance(cls, type) and issubclass(cls, BaseException)):
        return None
    try:
        error: BaseException = cls(text) if text else cls()
    except TypeError:  # it takes more than a text
        return None
    return error


def _travelling(error: BaseException, text: str) -> tuple[bytes | None, list[Attachment]]:
    """Return the exception pickled, or None if it would not arrive as what it is."""
    from multipy_actors.wire import pickles

    outgoing = Outgoing()
    try:
        notes = getattr(error, "__notes__", None)
        pickled = pickles.dumps((error, notes), outgoing)
        if _resembles(_rebuilt(pickled, outgoing.shared), error, text):
            return pickled, outgoing.shared
    except BaseException as failure:  # the user's own code runs here; whatever it does, the texts remain
        _pass_on(failure)
    return None, []


def _rebuilt(pickled: bytes, tensors: Sequence[Attachment]) -> BaseException | None:
    from multipy_actors.wire import pickles

    try:
        error, notes = pickles.loads(pickled, Incoming(tensors))
        if not isinstance(error, BaseException):
            return None
        if notes is not None and getattr(error, "__notes__", None) != notes:
            # An exception's own __reduce__ may have dropped them, and its class may forbid the other way.
            object.__setattr__(error, "__notes__", notes)
        return error
    except BaseException as failure:
        _pass_on(failure)
        return None


def _pass_on(failure: BaseException) -> None:
    """Raise again what is not for the value that is being sent or rebuilt, but for who does so."""
    if isinstance(failure, MemoryError) or is_interruption(failure):
        raise failure
    if isinstance(failure, KeyboardInterrupt) and _native.current_worker() is None:
        raise failure  # Ctrl-C, in the host


def _resembles(received: BaseException | None, sent: BaseException, text: str) -> bool:
    """Say whether the same has arrived as was sent, whose text is `text`.

    What says itself how it is pickled may keep in `args` what it likes, and is told by its text.
    """
    from multipy_actors.wire.exceptions import has_own_way

    if type(received) is not type(sent):
        return False
    if has_own_way(type(sent)) and str(received) == text:
        return True
    if len(received.args) != len(sent.args):
        return False
    for old, new in zip(sent.args, received.args, strict=True):
        if type(old) is not type(new) or (isinstance(old, (str, bytes, int)) and old != new):
            return False
    return True


def _traceback_of(error: BaseException) -> str:
    from traceback import TracebackException

    frames = error.__traceback__
    while frames is not None and str(frames.tb_frame.f_globals.get("__name__")).startswith("multipy_actors."):
        frames = frames.tb_next
    try:
        return "".join(TracebackException(type(error), error, frames).format())
    except BaseException as failure:
        _pass_on(failure)
        return f"{_name_of(type(error))}: <its traceback cannot be told>\n"
