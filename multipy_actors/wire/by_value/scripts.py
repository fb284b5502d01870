"""The script's globals, in every interpreter that runs something of the script.

Problem: what a script defines cannot be imported elsewhere, so it travels by value. But its functions and
classes belong together: they share globals, which an initializer sets and a cache is kept in, and a class is
to be found as `__main__.Name`. With processes each has one `__main__`, which lives on.

Model: a `Namespace` is the dict of globals of one script, under a token; in an interpreter it is that of its
`__main__`. A function names the globals that it refers to, and functions and classes that a global leads to
are references. A payload with such names has a table of `Piece`s: the pickled values of some globals, each
with a version. A global gets a new version when the host binds it to another object; so the interpreter
binds it when it is first met, and again when the version differs from what was bound last. What the
interpreter's own code does to it in between stays. Pieces without attachments are pickled once, and loaded
once in each interpreter.

A global that cannot be pickled is missing, and no error, if a function that was sent assigns it without need
of it: it is made anew there, as in a process.

A value that has another global as a part refers to it by its name. Globals whose values have an instance in
common (a model, and the optimizer of its parameters) become one piece with a new version, as they would not
be about the same object otherwise; weak references to the instances in a piece tell.

An interpreter sends on what it received, not what it has made of it: others have globals of their own.
A version that was sent on replaces older ones only. What an interpreter defined itself is bound elsewhere
where there is nothing of that name, so the host's globals are never changed.

Threads and locks: any. One lock, held while a table is written or read, which pickles and imports; it can be
entered again by its thread. A forked child makes a new one.

Rejected: a copy of the globals for each call (nothing lives on, and classes are not found); running the
script again (it would need a guard); comparing values to see what the host has changed inside of them (all
would be pickled for each call; a process does not see such changes either).
"""

from __future__ import annotations

import os
import sys
from _thread import RLock
from _weakref import ref
from pickle import dumps, loads

from multipy_actors import _native
from multipy_actors._native import Attachment, SharedTensor
from multipy_actors.wire.buffers import SHARED_FROM
from multipy_actors.wire.tensors import Incoming, Outgoing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import ModuleType
    from typing import Any

    Version = tuple[str, int]  # who gave it, and its number
    Place = tuple[str, str]  # the token of a namespace, and a name in it
    Pickle = Callable[["Namespace", dict[str, Any]], "Part"]
    Load = Callable[[Any, Incoming], dict[str, Any]]

__all__ = [
    "Namespace",
    "Part",
    "find",
    "led_to",
    "names_of_scripts",
    "namespace",
    "namespace_of",
    "place_of",
    "receive",
    "table",
]

names_of_scripts = frozenset(("__main__", "__mp_main__"))  # the second where multiprocessing has spawned

_ME = os.urandom(8).hex()
_ABOUT = ("__name__", "__file__", "__package__", "__path__")
# Globals that every module has, or that say where this one is from.
_LEFT_OUT = frozenset((*_ABOUT, "__builtins__", "__loader__", "__spec__", "__annotations__", "__cached__"))
# Values that are as good as an equal one, or travel by a name of their own.
_WITHOUT_IDENTITY = (int, float, complex, str, bytes, tuple, frozenset, type(None), type, type(os))

_lock = RLock()
_namespaces: dict[str, Namespace] = {}
_by_globals: dict[int, Namespace] = {}  # the ids stay theirs, as namespaces are kept
_versions = 0


class Part:
    """What pickling some globals gave."""

    __slots__ = ("attachments", "contents", "instances", "needs", "others")

    def __init__(self) -> None:
        """Begin with nothing."""
        self.contents = b""
        self.attachments: list[Attachment] = []
        self.needs: dict[Place, None] = {}
        self.others: dict[str, None] = {}  # globals that its values have as a part
        self.instances: dict[int, ref[Any]] = {}  # those that weak references are possible to


class Piece:
    """Some globals of one version, pickled."""

    __slots__ = ("attachments", "contents", "instances", "needs", "others", "values", "version")

    def __init__(self, version: Version, needs: Iterable[Place]) -> None:
        """Begin without contents."""
        self.version = version
        self.needs = tuple(needs)
        self.contents: bytes | SharedTensor | None = None  # None: it is pickled for each table
        self.attachments: list[Attachment] = []
        self.values: dict[str, Callable[[], Any]] | None = None  # None: it was received
        self.others: dict[str, Callable[[], Any]] = {}
        self.instances: dict[int, ref[Any]] = {}


class Namespace:
    """The globals of one script."""

    __slots__ = ("about", "assigned", "begun", "bound", "globals", "pending", "pieces", "token")

    def __init__(self, token: str, names: dict[str, Any], about: dict[str, Any]) -> None:
        """Stand for the globals `names`."""
        self.token = token
        self.globals = names
        self.about = about
        self.assigned: frozenset[str] = frozenset()  # by functions that have been sent
        self.pieces: dict[str, Piece] = {}
        self.bound: dict[str, Version] = {}  # the last version of each that was received
        self.pending: dict[str, Callable[[], None]] = {}  # how to load what a table has and is needed now
        self.begun: dict[str, Any] = {}  # functions that are being loaded

    def has(self, name: str) -> bool:
        """Say whether a global of that name is to be sent along."""
        if name in _LEFT_OUT:
            return False
        return name in self.globals or (name in self.pieces and self.pieces[name].values is None)

    def parts_of_others(self, names: Iterable[str]) -> dict[int, str]:
        """Return the names of globals other than `names` by the ids of their values, if these matter."""
        found: dict[int, str] = {}
        for name, value in list(self.globals.items()):
            if name not in _LEFT_OUT and not isinstance(value, _WITHOUT_IDENTITY):
                found.setdefault(id(value), name)  # of several names the first
        return {key: name for key, name in found.items() if name not in names}

    def piece_of(self, name: str, pickle: Pickle) -> Piece:
        """Return what is to be sent of a global."""
        return self.pieces[name] if self.is_current(name) else self.make_piece({name}, pickle)

    def is_current(self, name: str) -> bool:
        """Say whether there is a piece that tells what the global is bound to."""
        piece = self.pieces.get(name)
        if piece is None or piece.values is None:
            return piece is not None
        return self._is_bound_to(name, piece.values[name]) and all(
            self._is_bound_to(other, reference) for other, reference in piece.others.items()
        )

    def _is_bound_to(self, name: str, reference: Callable[[], Any]) -> bool:
        known, value = reference(), self.globals.get(name, reference)
        if known is value:
            return known is not None or type(reference) is not ref
        return type(known) is type(value) and type(value) in (int, str, bytes) and bool(known == value)

    def make_piece(self, names: set[str], pickle: Pickle) -> Piece:
        """Make one of the globals `names`, and of those that have a part in common with them."""
        global _versions
        while True:
            part = pickle(self, {name: self.globals[name] for name in sorted(names)})
            more = {
                name
                for name, piece in self.pieces.items()
                if _have_in_common(piece, part) and self.is_current(name)
            }
            if more <= names:
                break
            names |= more
        _versions += 1
        piece = Piece((_ME, _versions), part.needs)
        piece.values = {name: _reference(self.globals[name]) for name in names}
        piece.others = {name: _reference(self.globals[name]) for name in part.others}
        piece.instances = part.instances
        if not part.attachments:
            large = len(part.contents) >= SHARED_FROM
            piece.contents = SharedTensor.of_buffer(part.contents) if large else part.contents
        for name in names:
            self.pieces[name] = piece
        return piece


def _have_in_common(piece: Piece, part: Part) -> bool:
    for key in piece.instances.keys() & part.instances.keys():
        instance = piece.instances[key]()
        if instance is not None and instance is part.instances[key]():
            return True
    return False


def _reference(value: Any) -> Callable[[], Any]:
    """Return what gives `value` as long as it is alive, kept alive by this only where it must be."""
    try:
        return ref(value)
    except TypeError:
        return lambda: value


# Where something is ----------------------------------------------------------------------------------------


def namespace_of(names: dict[str, Any]) -> Namespace | None:
    """Return the namespace of the script whose globals are `names`, or None if these are not a script's."""
    found = _by_globals.get(id(names))
    if found is None and names.get("__name__") in names_of_scripts:
        with _lock:
            token = f"{_ME}-{len(_by_globals)}"
            about = {key: names[key] for key in _ABOUT if key in names}
            found = _by_globals.setdefault(id(names), Namespace(token, names, about))
            _namespaces[found.token] = found
    return found


def namespace(token: str) -> Namespace:
    """Return the namespace that has this token."""
    return _namespaces[token]


def place_of(obj: Any, where: Namespace) -> list[str] | None:
    """Return the global that leads to a function or class, and the attributes from there to it."""
    qualname = getattr(obj, "__qualname__", None)
    if type(qualname) is not str:
        return None
    path = qualname.split(".")
    return path if led_to(where, path) is obj else None


def led_to(where: Namespace, path: list[str]) -> Any:
    """Return what a global leads to by attributes; None: nothing."""
    found: Any = where.globals.get(path[0])
    for name in path[1:]:
        found = getattr(found, name, None)
    return found


def find(token: str, path: list[str]) -> Any:
    """Return what a global of the script leads to here."""
    here = _namespaces[token]
    name = path[0]
    if name in here.pending:
        with _lock:  # another thread may be loading it
            load = here.pending.get(name)
            if load is not None and name not in here.begun:
                load()
    found = here.begun[name] if name in here.begun else here.globals[name]
    for attribute in path[1:]:
        found = getattr(found, attribute)
    return found


# Tables ----------------------------------------------------------------------------------------------------


def table(tokens: dict[str, None], needs: dict[Place, None], outgoing: Outgoing, pickle: Pickle) -> bytes:
    """Return what the receiver has to know of these namespaces and globals, as a pickle.

    What the globals refer to in turn is added. Their attachments go to `outgoing`.
    """
    key = tuple(tokens), tuple(needs)
    with _lock:
        known = _tables.get(key)
        if known is not None:
            told, chosen, missing = known
            if all(map(_is_latest, chosen.items())) and not any(map(_is_there, missing)):
                return told
        while True:
            latest = _versions
            chosen, missing = _gather(needs, pickle)
            if latest == _versions:
                break
            for token, names in _circles(chosen):
                _namespaces[token].make_piece(names, pickle)
        attached = len(outgoing.shared)
        rows: dict[int, tuple[Any, ...]] = {}
        for (token, _), piece in chosen.items():
            if id(piece) not in rows:
                rows[id(piece)] = _row(_namespaces[token], piece, outgoing, pickle)
        used = dict.fromkeys((*tokens, *(token for token, _ in chosen)))
        told = dumps((_ME, [(token, _namespaces[token].about) for token in used], [*rows.values()]), 5)
        if len(outgoing.shared) == attached and not outgoing.copy:
            _remember(_tables, key, (told, chosen, missing))
        return told


_MOST_REMEMBERED = 256
_tables: dict[tuple[Any, ...], tuple[bytes, dict[Place, Piece], list[Place]]] = {}  # that were written
_contents: dict[bytes, tuple[Any, ...]] = {}  # of tables that were read


def _remember(memory: dict[Any, Any], key: Any, value: Any) -> None:
    if len(memory) >= _MOST_REMEMBERED:
        memory.clear()
    memory[key] = value


def _is_latest(item: tuple[Place, Piece]) -> bool:
    (token, name), piece = item
    here = _namespaces[token]
    return here.pieces.get(name) is piece and here.is_current(name)


def _is_there(place: Place) -> bool:
    return _namespaces[place[0]].has(place[1])


def _gather(needs: Iterable[Place], pickle: Pickle) -> tuple[dict[Place, Piece], list[Place]]:
    """Return the pieces of globals and of what they refer to, which comes before them where it can.

    Last come those that are not there: builtins, what the script has not defined yet, what is made elsewhere.

    So it is there when a value is rebuilt, which may run functions of the script. Pieces that are made on the
    way may replace others of the result.
    """
    gathered: dict[Place, Piece] = {}
    begun: dict[Place, Piece] = {}
    missing: list[Place] = []
    stack = [*reversed([*needs])]
    while stack:
        place = stack[-1]
        if place in begun:
            gathered.setdefault(place, begun[place])
            stack.pop()
            continue
        here = _namespaces[place[0]]
        if not here.has(place[1]):
            missing.append(stack.pop())
            continue
        try:
            piece = here.piece_of(place[1], pickle)
        except Exception as error:
            if place[1] not in here.assigned or isinstance(error, MemoryError):
                raise
            missing.append(stack.pop())
            continue
        begun[place] = piece
        stack += [need for need in reversed(piece.needs) if need not in begun]
    return gathered, missing


def _circles(pieces: dict[Place, Piece]) -> Iterator[tuple[str, set[str]]]:
    """Yield globals that have each other as a part, which cannot be rebuilt one after the other."""
    leads_to: dict[Place, set[str]] = {}
    for place, piece in pieces.items():
        found: set[str] = set()
        todo = list(piece.others)
        while todo:
            name = todo.pop()
            if name not in found:
                found.add(name)
                todo += pieces[place[0], name].others
        leads_to[place] = found
    done: set[Place] = set()
    for place, found in leads_to.items():
        token, name = place
        if name in found and place not in done:
            circle = {other for other in found if name in leads_to[token, other]}
            done.update((token, other) for other in circle)
            yield token, circle


def _row(
    here: Namespace,
    piece: Piece,
    outgoing: Outgoing,
    pickle: Pickle,
) -> tuple[Any, ...]:
    names = [name for name, latest in here.pieces.items() if latest is piece]
    contents, attachments = piece.contents, piece.attachments
    if contents is None:
        part = pickle(here, {name: here.globals[name] for name in names})
        contents, attachments = part.contents, part.attachments
    told: Any = contents
    if isinstance(contents, SharedTensor):
        told = bytes(memoryview(contents)) if outgoing.copy else outgoing.attach(contents)  # type: ignore[arg-type]
    begin = len(outgoing.shared)
    for attachment in attachments:
        outgoing.attach(attachment)
    return here.token, names, piece.version, piece.needs, told, begin, len(attachments)


def receive(told: bytes, incoming: Incoming, load: Load) -> None:
    """Bind what a table has, where it is not bound here already. Raises what its values' code raises."""
    sent = _contents.get(told)
    if sent is None:
        sent = loads(told)
        if len(told) < SHARED_FROM:
            _remember(_contents, told, sent)
    sender, abouts, rows = sent
    for token, about in abouts:
        if token not in _namespaces:
            _introduce(token, about)
    if all(_is_bound(row) for row in rows):
        return
    with _lock:
        todo = [row for row in rows if not _is_bound(row)]
        for row in todo:
            _put_off(row, sender, incoming, load)
        try:
            for token, names, *_ in todo:
                here = _namespaces[token]
                for name in names:
                    if name in here.pending:
                        here.pending[name]()
        finally:
            for token, names, *_ in todo:
                here = _namespaces[token]
                for name in names:
                    here.pending.pop(name, None)
                    here.begun.pop(name, None)


def _is_bound(row: tuple[Any, ...]) -> bool:
    bound, version = _namespaces[row[0]].bound, row[2]
    return version[0] == _ME or all(bound.get(name) == version for name in row[1])


def _put_off(row: tuple[Any, ...], sender: str, incoming: Incoming, load: Load) -> None:
    """Have the row's globals be loaded when there is need of one of them."""
    token, names, version, needs, contents, begin, count = row
    here = _namespaces[token]
    wanted = [name for name in names if _replaces(here, name, version, sender)]
    attachments = list(incoming.shared[begin : begin + count])
    piece = Piece(version, needs)
    shared: Any = incoming.shared[contents] if type(contents) is int else None
    piece.contents = contents if shared is None else shared
    piece.attachments = attachments

    def bind() -> None:
        memory: Any = piece.contents if shared is None else memoryview(shared)
        values = load(memory, Incoming(attachments)) if wanted else {}
        for name in names:
            if here.pending.pop(name, None) is None:
                continue  # what it refers to has had it loaded meanwhile: a class that knows its subclasses
            if name in wanted:
                here.globals[name] = values[name]
            if name in wanted or name not in here.bound:
                here.bound[name] = version
                if not here.token.startswith(_ME):
                    here.pieces[name] = piece

    for name in names:
        here.pending[name] = bind


def _replaces(here: Namespace, name: str, version: Version, sender: str) -> bool:
    """Say whether a global is to be bound to this version."""
    bound = here.bound.get(name)
    if bound is None:
        return name not in here.globals
    if version[0] != bound[0]:
        return here.token.startswith(version[0])  # the script's own
    return version != bound if version[0] == sender else version[1] > bound[1]


def _introduce(token: str, about: dict[str, Any]) -> None:
    """Have globals for a script that is met for the first time: those of `__main__` for the first."""
    with _lock:
        if token in _namespaces:
            return
        module: ModuleType | None = sys.modules.get("__main__")
        known = None if module is None else _by_globals.get(id(module.__dict__))
        taken = known is not None and not known.token.startswith(_ME)
        if module is None or taken or _native.current_worker() is None:
            module = type(sys)("__main__")
        module.__dict__.update(about)
        module.__dict__.pop("__doc__", None)
        if about["__name__"] not in sys.modules:
            sys.modules[about["__name__"]] = module
        _namespaces[token] = _by_globals[id(module.__dict__)] = Namespace(token, module.__dict__, about)


def _after_fork_in_child() -> None:
    global _lock
    _lock = RLock()


os.register_at_fork(after_in_child=_after_fork_in_child)
