"""What is asked of an interpreter: one function for each request.

Model: a request is `[operation, args, kwargs]`, as `wire.encode_call` writes it. The operation is a list, a
name and its operands, which the functions here return; `args` and `kwargs` are mostly the user's. What an
interpreter does for each name is in `worker/operations.py:OPERATIONS`, what a session does in
`worker/session_objects.py`, and what a pool without interpreters does in `inline/interpreter.py`. Programs in
C++ write the same lists (native/embed).

Actors, streams and objects of a session are known by their numbers.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Operation = list[Any]

# Interpreters and functions --------------------------------------------------------------------------------


def configure() -> Operation:
    """Set the interpreter up; its settings are the `kwargs`."""
    return ["configure"]


def search_paths(old: list[str], new: list[str]) -> Operation:
    """Follow the host, whose `sys.path` was `old` and is `new`."""
    return ["search_paths", old, new]


def source(name: str, text: str) -> Operation:
    """Have the module `name` made of `text` where it is imported."""
    return ["source", name, text]


def call(function: Callable[..., Any]) -> Operation:
    """Call a function; the result is its value."""
    return ["call", function]


def map_items(function: Callable[..., Any]) -> Operation:
    """Call a function with each of the items that are the `args`; the result is a list."""
    return ["map", function]


# Actors ----------------------------------------------------------------------------------------------------


def create(number: int, cls: Callable[..., Any]) -> Operation:
    """Make an actor, `cls(*args, **kwargs)`."""
    return ["create", number, cls]


def adopt(number: int) -> Operation:
    """Make the first of the `args` an actor."""
    return ["adopt", number]


def adopt_lazily(number: int) -> Operation:
    """Make an actor of what the first of the `args` says, once it is needed."""
    return ["adopt_lazily", number]


def load(number: int) -> Operation:
    """Have an actor that was adopted lazily made now."""
    return ["load", number]


def describe(number: int) -> Operation:
    """Say what the actor has: its label, its members and its batched methods."""
    return ["describe", number]


def drop(number: int) -> Operation:
    """Let go of an actor."""
    return ["drop", number]


def method(number: int, name: str) -> Operation:
    """Call a method of an actor."""
    return ["method", number, name]


def get(number: int, name: str) -> Operation:
    """Return an attribute of an actor."""
    return ["get", number, name]


def has(number: int, name: str) -> Operation:
    """Say whether an actor has an attribute."""
    return ["has", number, name]


def enter(number: int) -> Operation:
    """Call `__enter__`; the result says whether that was the actor itself, and else what it was."""
    return ["enter", number]


def stream(number: int, name: str, stream: int) -> Operation:
    """Call a method that returns an iterator, which becomes `stream`; the result is its first chunk."""
    return ["stream", number, name, stream]


def next_chunk(number: int, stream: int) -> Operation:
    """Return the next chunk of a stream of an actor."""
    return ["next", number, stream]


def close_stream(number: int, stream: int) -> Operation:
    """Close a stream of an actor."""
    return ["close_stream", number, stream]


# Packages --------------------------------------------------------------------------------------------------
# All but `open_package` and `close_package` have the package as the first of the `args`.


def open_package(number: int, name: str) -> Operation:
    """Open the package whose contents are the first of the `args`; the result stands for it everywhere."""
    return ["package", "open", number, name]


def close_package(number: int) -> Operation:
    """Let go of a package."""
    return ["package", "close", number]


def load_from_package(actor: int) -> Operation:
    """Load a pickle, for an actor; the rest of the `args` say where it is, and are its `map_location`."""
    return ["package", "load", actor]


def import_from_package(actor: int) -> Operation:
    """Import the module that the rest of the `args` name, for an actor."""
    return ["package", "import", actor]


def ask_package(method: str) -> Operation:
    """Call a method of the package's importer with the rest of the `args`."""
    return ["package", "ask", method]


# Sessions --------------------------------------------------------------------------------------------------


def in_session(session: int, operation: Operation) -> Operation:
    """Do in a session what one of the next functions returned."""
    return ["session", session, *operation]


def session_global(module: str, name: str) -> Operation:
    """Import a module; the object is its `name`."""
    return ["global", module, name]


def session_self() -> Operation:
    """The object is the importer of the session's package."""
    return ["self"]


def session_put() -> Operation:
    """The object is the first of the `args`."""
    return ["put"]


def session_from_movable(actor: int) -> Operation:
    """The object is an actor's."""
    return ["from_movable", actor]


def session_call(number: int, objects: dict[int | str, int]) -> Operation:
    """Call an object; `objects` are those among the arguments, by their places. The result is an object."""
    return ["call", number, objects]


def session_attr(number: int, name: str) -> Operation:
    """The object is an attribute of another."""
    return ["attr", number, name]


def session_hasattr(number: int, name: str) -> Operation:
    """Say whether an object has an attribute."""
    return ["hasattr", number, name]


def session_value(number: int) -> Operation:
    """Return an object."""
    return ["value", number]


def session_movable(number: int) -> Operation:
    """Return an object, to be made an actor."""
    return ["movable", number]


def session_describe(number: int) -> Operation:
    """Say what an object has, as `describe` does of an actor."""
    return ["describe", number]


def session_forget(numbers: list[int]) -> Operation:
    """Let go of objects."""
    return ["forget", numbers]


def session_end() -> Operation:
    """Let go of all objects of the session."""
    return ["end"]
