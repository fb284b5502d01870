"""Exceptions travel in their own type with the remote traceback, or as a RemoteError that tells as much."""

from __future__ import annotations

import dataclasses
import errno
import sys
import textwrap
import threading
import traceback
import types

import numpy
import pytest

from multipy_actors.errors import InterpreterDiedError, RemoteError, RemoteTraceback, SerializationError
from multipy_actors.wire import decode, decode_exception, encode, encode_exception, pickles


def raised(error):
    """Return `error` with a traceback, as whoever called the user's code would hold it."""
    try:
        raise error
    except BaseException as caught:
        return caught


def travelled(error):
    return decode_exception(*encode_exception(raised(error)))


class Coded(Exception):
    def __init__(self, code, *, detail=None):
        super().__init__(code)
        self.detail = detail


class TwoArguments(Exception):
    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


class Decorating(Exception):
    def __init__(self, text):
        super().__init__(f"decorated: {text}")


class Turncoat(Exception):
    def __reduce__(self):
        return (KeyError, ("other",))


class Forgetful(Exception):
    def __reduce__(self):
        return (Forgetful, self.args)


class Mute(Exception):
    def __str__(self):
        raise ValueError("no")


class Nasty(Exception):
    def __reduce__(self):
        raise SystemError("no")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("text"),
        KeyError(("a", 1)),
        OSError(errno.ENOENT, "no such file", "name"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        StopIteration(3),
        SystemExit(2),
        KeyboardInterrupt(),
        ImportError("text", name="module", path="file"),
        Coded(7, detail=[1]),
        RemoteError("module.Type", "text", "Traceback"),
        ValueError("lone \ud800"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_exception_arrives_in_its_own_type_with_its_attributes(error):
    received = travelled(error)
    assert type(received) is type(error)
    assert received.args == error.args
    assert str(received) == str(error)
    assert vars(received) == vars(error)


def test_an_exception_with_a_large_message_and_a_tensor_arrives_whole():
    array = numpy.arange(3)
    received = travelled(ValueError("text " * 100_000, array))
    assert received.args[0] == "text " * 100_000
    assert numpy.shares_memory(received.args[1], array)


def test_the_remote_traceback_is_the_cause_and_is_shown():
    received = travelled(ValueError("text"))
    assert isinstance(received.__cause__, RemoteTraceback)
    assert "in raised" in received.__cause__.traceback
    shown = "".join(traceback.format_exception(received))
    assert "in raised" in shown
    assert "ValueError: text" in shown


def test_causes_contexts_and_notes_are_in_the_traceback():
    try:
        try:
            try:
                raise KeyError("the context")
            except KeyError:
                raise TypeError("the cause")  # noqa: B904  the context is what is tested
        except TypeError as error:
            raise ValueError("text") from error
    except ValueError as error:
        error.add_note("a note")
        received = decode_exception(*encode_exception(error))
    text = received.__cause__.traceback
    assert all(part in text for part in ("the context", "the cause", "a note"))
    assert received.__notes__ == ["a note"]


def test_notes_survive_a_reduce_that_forgets_them():
    error = Forgetful("text")
    error.add_note("a note")
    received = travelled(error)
    assert type(received) is Forgetful
    assert received.__notes__ == ["a note"]


def test_frames_of_the_package_itself_are_left_out_of_the_traceback():
    caller = types.ModuleType("multipy_actors._caller")
    exec("def call(function):\n    function()", caller.__dict__)

    def fail():
        raise ValueError("text")

    try:
        caller.call(fail)
    except ValueError as error:
        error.__traceback__ = error.__traceback__.tb_next  # this test's own frame
        text = decode_exception(*encode_exception(error)).__cause__.traceback
    assert "in fail" in text
    assert "in call" not in text


@pytest.mark.parametrize(
    "error",
    [
        Turncoat("text"),
        Nasty("text"),
        Coded(1, detail=threading.Lock()),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_cannot_travel_arrives_as_a_remote_error(error):
    received = travelled(error)
    assert type(received) is RemoteError
    assert received.type_name == f"{__name__}.{type(error).__qualname__}"
    assert received.text == str(error)
    assert "in raised" in received.traceback
    assert isinstance(received.__cause__, RemoteTraceback)


class Uncalled(OSError):
    def __init__(self, code):
        self.args = (code, "of its own")  # OSError is not told, and so has no errno


class Leaving(SystemExit):
    def __init__(self, *, status):
        super().__init__(status)
        self.status = status


class Undecoded(UnicodeDecodeError):
    def __init__(self, data):
        super().__init__("utf-8", data, 0, 1, "of its own")


class Missing(OSError):
    def __init__(self, file):
        super().__init__(errno.ENOENT, "it is missing", file)


class Described(Exception):
    def __init__(self, first, second):
        super().__init__("described")
        self.parts = first, second

    def __reduce__(self):
        return Described._of, (list(self.parts),)

    @staticmethod
    def _of(parts):
        made = Described(*parts)
        made.args = ()
        return made

    def __str__(self):
        return f"{self.parts}"


@pytest.mark.parametrize(
    "error",
    [
        TwoArguments(1, 2),
        Decorating("text"),
        Coded(1, detail=[2]),
        Uncalled(3),
        Leaving(status=4),
        Undecoded(b"\xff"),
        Missing("spoon"),
        Described(5, 6),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_constructor_with_other_arguments_is_not_called_again(error):
    received = travelled(error)
    assert type(received) is type(error)
    assert str(received) == str(error)
    assert vars(received).keys() == vars(error).keys()
    for name in ("errno", "strerror", "filename", "code", "start", "object"):
        assert getattr(received, name, None) == getattr(error, name, None)


class Slotted(Exception):
    __slots__ = ("__hidden", "code")

    def __init__(self, code):
        super().__init__("of its own")
        self.code = code
        self.__hidden = [code]

    def hidden(self):
        return self.__hidden


class MoreSlots(Slotted):
    __slots__ = ("never_set", "nothing", "tensor")

    def __init__(self, *, code, tensor):
        super().__init__(code)
        self.tensor = tensor
        self.nothing = None


class OfBuiltIn(OSError):
    __slots__ = ("where",)  # and no constructor: what is there was set from outside


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    code: int
    detail: str = ""


class Forbidding(Exception):
    __slots__ = ("code",)

    def __init__(self, code, detail):
        object.__setattr__(self, "code", code)
        object.__setattr__(self, "detail", detail)

    def __setattr__(self, name, value):
        raise AttributeError("it is read-only")


def test_what_an_exception_keeps_in_slots_arrives():
    received = travelled(Slotted(3))
    assert (received.code, received.hidden(), received.args) == (3, [3], ("of its own",))
    array = numpy.arange(3)
    received = travelled(MoreSlots(code=4, tensor=array))
    assert (received.code, received.hidden(), received.nothing) == (4, [4], None)
    assert numpy.shares_memory(received.tensor, array) and not hasattr(received, "never_set")
    error = OfBuiltIn(errno.ENOENT, "no such file", "name")
    error.where, error.other = "here", "there"
    received = travelled(error)
    assert (received.where, received.other, received.errno, received.filename) == (
        "here",
        "there",
        errno.ENOENT,
        "name",
    )


def test_an_exception_of_numpy_that_has_slots_can_be_printed_where_it_arrives():
    with pytest.raises(ValueError) as caught:
        numpy.zeros(3).sum(axis=4)
    received = travelled(caught.value)
    assert type(received) is type(caught.value)
    assert str(received) == str(caught.value) and (received.axis, received.ndim) == (4, 1)


def test_exceptions_whose_attributes_cannot_be_set_arrive():
    assert travelled(Frozen(3, detail="text")) == Frozen(3, detail="text")
    received = travelled(Forbidding(1, 2))
    assert type(received) is Forbidding and (received.code, received.detail) == (1, 2)


def test_the_slot_that_cannot_be_sent_is_named():
    with pytest.raises(SerializationError, match=r"\[0\]\.tensor: cannot serialize _thread.lock"):
        encode([MoreSlots(code=1, tensor=threading.Lock())])
    with pytest.raises(
        SerializationError, match=r"\[0\]\._Slotted__hidden\[0\]: cannot serialize _thread.lock"
    ):
        error = Slotted(threading.Lock())
        error.code = 1
        encode([error])


def test_exceptions_inside_a_value_keep_their_type_as_well():
    (received,) = decode(*encode([TwoArguments(1, TwoArguments(2, 3))]))
    assert type(received) is TwoArguments
    assert received.args == ("1 and 2 and 3",)


def test_what_the_core_says_of_a_failure_arrives_in_its_own_type():
    for name, text, kind in (
        ("multipy_actors.errors.InterpreterDiedError", "it ended", InterpreterDiedError),
        ("MemoryError", "", MemoryError),
        ("some.module.Error", "text", RemoteError),
        ("UnicodeDecodeError", "text", RemoteError),
        ("print", "text", RemoteError),
    ):
        received = decode_exception(encode([None, name, text, ""])[0])
        assert type(received) is kind
        assert text in str(received)
        assert received.__cause__ is None


def test_an_exception_that_cannot_tell_its_message_arrives_all_the_same():
    received = travelled(Mute("text"))
    assert type(received) is Mute
    assert received.args == ("text",)


def test_a_type_that_the_receiver_cannot_import_becomes_a_remote_error():
    module = types.ModuleType("a_module_of_the_sender")
    exec("class Failure(Exception): pass", module.__dict__)
    sys.modules[module.__name__] = module
    encoded = encode_exception(raised(module.Failure("text")))
    del sys.modules[module.__name__]
    received = decode_exception(*encoded)
    assert type(received) is RemoteError
    assert str(received) == "a_module_of_the_sender.Failure: text"


def test_an_exception_of_a_local_type_arrives_in_that_type():
    class Local(Exception):
        pass

    received = travelled(Local("text", 1))
    assert type(received) is Local
    assert received.args == ("text", 1)


def test_the_original_exception_is_left_as_it_was():
    error = raised(ValueError("text"))
    frames = error.__traceback__
    encode_exception(error)
    assert error.__traceback__ is frames
    assert error.__cause__ is None
    assert vars(error) == {}


def test_an_exception_group_arrives_with_its_members():
    if sys.version_info < (3, 11):
        pytest.skip("exception groups came with Python 3.11")
    received = travelled(ExceptionGroup("group", [ValueError(1), KeyError(2)]))  # noqa: F821
    assert [type(member) for member in received.exceptions] == [ValueError, KeyError]


def test_a_tensor_held_by_an_exception_is_shared():
    torch = pytest.importorskip("torch")
    tensor = torch.zeros(2)
    received = travelled(Coded(1, detail=tensor))
    assert received.detail.data_ptr() == tensor.data_ptr()


def test_a_traceback_reads_like_pythons_own():
    text = travelled(ValueError("text")).__cause__.traceback
    assert text.startswith(textwrap.dedent("Traceback (most recent call last):\n"))
    assert text.endswith("ValueError: text\n")


def test_want_of_memory_is_told_as_such_though_it_keeps_the_error_from_being_pickled(monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOMEM, "no memory to read a module")

    monkeypatch.setattr(pickles, "dumps", fail)
    received = travelled(MemoryError())
    assert type(received) is MemoryError and isinstance(received.__cause__, RemoteTraceback)
    assert type(travelled(ValueError("of another kind"))) is RemoteError
