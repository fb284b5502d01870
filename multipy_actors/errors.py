"""Every exception that multipy_actors raises on its own account.

Model: one root, `MultipyError`, so that `except multipy.MultipyError` catches whatever the library itself
reports. Where Python has a kind for the mishap (a wrong type, a failed import, a misuse after close) the
class derives from that kind as well, so code written for `concurrent.futures` or for plain Python keeps
working.

What the *user's* remote code raised is not here: it is raised again in its own type, with a
`RemoteTraceback` as its `__cause__`. Only what cannot travel arrives as a `RemoteError`.

Guarantees: all of them can be pickled and keep their attributes, because an error may cross several
interpreters before somebody catches it. The module imports nothing, holds no state and may be used from any
thread.
"""

from __future__ import annotations

__all__ = [
    "ActorClosedError",
    "DeadlockError",
    "ImageError",
    "InterpreterDiedError",
    "InterpreterStartError",
    "Interrupted",
    "LeftBehindWarning",
    "MailboxFullError",
    "MultipyError",
    "PoolClosedError",
    "RemoteError",
    "RemoteTraceback",
    "SerializationError",
    "SessionError",
    "SharedWriteWarning",
]


class MultipyError(Exception):
    """The root of all errors of this library."""


class RemoteTraceback(MultipyError):
    """Carries, as the `__cause__` of a remote exception, the traceback of the interpreter it was raised in.

    Frames cannot cross interpreters, so it holds text; `str()` of it is what Python prints above the local
    traceback.
    """

    def __init__(self, traceback: str) -> None:
        """Keep `traceback`, the text that the remote interpreter formatted."""
        super().__init__(traceback)
        self.traceback = traceback

    def __str__(self) -> str:
        """Return the remote traceback, framed as `concurrent.futures` frames it."""
        return f'\n"""\n{self.traceback.rstrip()}\n"""'


class RemoteError(MultipyError):
    """Stands for a remote exception that cannot be rebuilt here.

    It could not be pickled, its type cannot be imported by the receiver, or its constructor does not accept
    what the exception was pickled with.

    Attributes: `type_name` is the qualified name of its type, `text` its message, `traceback` the remote
    traceback as text.
    """

    def __init__(self, type_name: str, text: str, traceback: str = "") -> None:
        """Describe the exception of type `type_name` whose message is `text`."""
        super().__init__(type_name, text, traceback)
        self.type_name = type_name
        self.text = text
        self.traceback = traceback

    def __str__(self) -> str:
        """Return what the last line of the remote traceback says: the type and the message."""
        return f"{self.type_name}: {self.text}" if self.text else self.type_name


class SerializationError(MultipyError, TypeError):
    """A value cannot be sent to another interpreter, or cannot be rebuilt there.

    The message names the path from the argument (or result) down to the part at fault.
    """


class ImageError(MultipyError, ImportError):
    """A shared library could not be loaded as a private image of an interpreter.

    Attributes: `file` (also `path`, as in every ImportError) is the library, `symbol` the symbol that
    stayed unbound; either may be None.
    """

    def __init__(self, message: str, file: str | None = None, symbol: str | None = None) -> None:
        """Report `message` about `file` and, where one symbol is to blame, `symbol`."""
        super().__init__(message, path=file)
        self.file = file
        self.symbol = symbol


class InterpreterStartError(MultipyError):
    """A private interpreter could not be started; the message says why and, if known, what to install."""


class InterpreterDiedError(MultipyError):
    """An interpreter has ended while its pool is open; the message names it, and why if that is known."""


class PoolClosedError(MultipyError, RuntimeError):
    """A pool was used after `shutdown()`, or it is shutting down."""


class ActorClosedError(MultipyError):
    """A call was made on an actor that was killed or unloaded, or whose pool is closed."""


class MailboxFullError(MultipyError):
    """An actor has `max_pending` calls waiting already, and its `on_full` option is "raise"."""


class DeadlockError(MultipyError):
    """A wait could never have ended: actors would be waiting for each other in a circle."""


class SessionError(MultipyError, RuntimeError):
    """An object of a session was used in another session, or after its session had ended."""


class LeftBehindWarning(RuntimeWarning):
    """Says that code in an interpreter went on when its pool had ended, and where it was.

    It could not be interrupted, or has gone on all the same; its threads end with the process.
    """


class Interrupted(MultipyError):
    """A call was cancelled with `interrupt=True`, outlived its `timeout`, or its actor was killed.

    In the code that is made to end it is raised as Ctrl-C would be: `except multipy.Interrupted` and `except
    KeyboardInterrupt` catch it, `except Exception` and `except multipy.MultipyError` do not, so that what
    tries again and again comes to an end. Those who wait for the call get it as an ordinary MultipyError.
    """


class SharedWriteWarning(MultipyError, UserWarning):
    """Somebody has written to memory that others have, in a pool made with `check_sharing=True`."""


class _AsCtrlC(type):
    """Leaves Exception out of what the classes of this kind derive from, although Interrupted has it."""

    def mro(cls) -> list[type]:
        return [cls, Interrupted, KeyboardInterrupt, BaseException, object]


class Interruption(Interrupted, KeyboardInterrupt, metaclass=_AsCtrlC):
    """An Interrupted as it is raised in the code that is made to end; it never leaves its interpreter."""

    def __init__(self, *args: object) -> None:
        """Have a text of its own: Python raises it without arguments."""
        super().__init__(*(args or ("the call was interrupted",)))

    def __reduce__(self) -> tuple[type[Interrupted], tuple[object, ...]]:
        """Travel as what others get."""
        return Interrupted, self.args

    def told(self) -> Interrupted:
        """Return what those who wait for the call get."""
        error = Interrupted(*self.args).with_traceback(self.__traceback__)
        error.__cause__, error.__context__ = self.__cause__, self.__context__
        error.__suppress_context__ = self.__suppress_context__
        return error


Interruption.__name__ = Interruption.__qualname__ = Interrupted.__name__  # in tracebacks
