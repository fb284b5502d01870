"""The errors: one root, the kinds that Python code expects, and survival of a journey by pickle."""

from __future__ import annotations

import pickle

import pytest

from multipy_actors import errors
from multipy_actors.errors import (
    ActorClosedError,
    DeadlockError,
    ImageError,
    InterpreterDiedError,
    InterpreterStartError,
    Interrupted,
    LeftBehindWarning,
    MailboxFullError,
    MultipyError,
    PoolClosedError,
    RemoteError,
    RemoteTraceback,
    SerializationError,
    SessionError,
    SharedWriteWarning,
)

EXAMPLES = [
    MultipyError("message"),
    RemoteTraceback("Traceback: ..."),
    RemoteError("module.Type", "text", "Traceback: ..."),
    SerializationError("argument 1: no"),
    ImageError("message", "/lib/x.so", "a_symbol"),
    ImageError("message"),
    InterpreterDiedError("message"),
    InterpreterStartError("message"),
    PoolClosedError("message"),
    ActorClosedError("message"),
    MailboxFullError("message"),
    DeadlockError("message"),
    SessionError("message"),
    SharedWriteWarning("message"),
    Interrupted("message"),
    LeftBehindWarning("message"),
]


def test_every_public_error_has_one_root_and_a_docstring():
    for name in errors.__all__:
        cls = getattr(errors, name)
        assert issubclass(cls, Warning if name.endswith("Warning") else MultipyError)
        assert cls.__doc__


def test_every_public_error_is_among_the_examples():
    assert {type(error).__name__ for error in EXAMPLES} == set(errors.__all__)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_survives_pickling_with_its_attributes(error):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert again.args == error.args
    assert vars(again) == vars(error)


@pytest.mark.parametrize(
    ("cls", "kind"),
    [(SerializationError, TypeError), (ImageError, ImportError), (PoolClosedError, RuntimeError)],
)
def test_an_error_is_also_of_the_kind_that_python_has_for_it(cls, kind):
    assert issubclass(cls, kind)


def test_an_image_error_names_the_file_as_import_errors_do():
    error = ImageError("undefined symbol", "/lib/x.so", "a_symbol")
    assert (error.path, error.file, error.symbol) == ("/lib/x.so", "/lib/x.so", "a_symbol")
    assert pickle.loads(pickle.dumps(error)).path == "/lib/x.so"


def test_a_remote_error_reads_like_the_last_line_of_a_traceback():
    assert str(RemoteError("module.Type", "text")) == "module.Type: text"
    assert str(RemoteError("module.Type", "")) == "module.Type"


def test_a_remote_traceback_shows_the_text_that_it_carries():
    error = RemoteTraceback("Traceback (most recent call last):\nKeyError: 1\n")
    assert "KeyError: 1" in str(error)
    assert error.traceback.startswith("Traceback")
