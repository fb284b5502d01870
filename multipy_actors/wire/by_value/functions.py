"""Functions that travel by value: those of the script, lambdas, and functions inside of functions.

Problem: a function that cannot be imported elsewhere is made again there, of its code. It should then be as
if it had been defined there: with the globals of the script, its file and lines in tracebacks, its source in
reach of `inspect`, and with closures that share what they shared.

A wrapper that a decorator of an importable module has made has that module's globals.

A global that a function assigns before it reads it is not sent: it makes its own of it.

Model: code goes by `marshal`, as both ends are one version of Python. The receiver gives a function the
globals of its script (see scripts), to which the names that it refers to are sent along. Cells are made
empty, so that a function may refer to itself, and are filled with the function's state. What is in no file,
as it was typed into a notebook, goes along as the text that `linecache` has of it.

Threads: any; what is found in code is kept as long as that.
"""

from __future__ import annotations

import marshal
import sys
from types import CellType, CodeType, FunctionType, ModuleType

from multipy_actors.modules import imported
from multipy_actors.wire.by_value import scripts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from multipy_actors.wire.by_value.scripts import Namespace

__all__ = ["contents_of", "globals_in", "names_in_annotations", "reduce_code", "reduce_function"]


def reduce_function(
    function: FunctionType, where: Namespace, name: str, submodules: list[str]
) -> tuple[Any, ...]:
    """Return how `function`, whose globals are the script's, is made elsewhere.

    `name` is that of the global which is bound to it, if it is pickled as such.
    """
    made_of = function.__code__, where.token, function.__name__, function.__closure__, name
    return _make_function, made_of, _state_of(function, submodules), None, None, _set_function


def module_of(function: FunctionType) -> ModuleType | None:
    """Return the imported module whose globals the function has, if it says it is of another one.

    That is what `functools.wraps` has a wrapper say. What is of the module itself and cannot be imported from
    there, a lambda say, does not make the receiver import it.
    """
    name = function.__globals__.get("__name__", "")
    module = None if function.__module__ == name else sys.modules.get(name)
    if type(module) is not ModuleType or module.__dict__ is not function.__globals__:
        return None
    return module if getattr(module, "__spec__", None) is not None else None


def reduce_function_of_module(function: FunctionType) -> tuple[Any, ...]:
    """Return how a decorator's wrapper, made inside a function of a module, is made elsewhere.

    It has the globals of the module of that name there.
    """
    made_of = function.__code__, function.__globals__["__name__"], function.__name__, function.__closure__
    return _make_function_of_module, made_of, _state_of(function, []), None, None, _set_function


def _state_of(function: FunctionType, submodules: list[str]) -> tuple[Any, ...]:
    cells = function.__closure__
    contents = None if cells is None else [contents_of(cell) for cell in cells]
    attributes = {name: getattr(function, name) for name in _ATTRIBUTES if hasattr(function, name)}
    return dict(function.__dict__), attributes, contents, submodules


_ATTRIBUTES = (
    "__qualname__",
    "__module__",
    "__doc__",
    "__defaults__",
    "__kwdefaults__",
    "__annotations__",
    "__type_params__",
)


def contents_of(cell: CellType) -> tuple[Any, ...]:
    """Return what is in a cell, if there is anything."""
    try:
        return (cell.cell_contents,)
    except ValueError:
        return ()


def _make_function(
    code: CodeType, token: str, name: str, cells: tuple[CellType, ...] | None, bound_as: str
) -> FunctionType:
    here = scripts.namespace(token)
    made = FunctionType(code, here.globals, name, None, cells)
    if bound_as in here.pending:
        here.begun[bound_as] = made  # its state may lead to it again
    return made


def _make_function_of_module(
    code: CodeType, module: str, name: str, cells: tuple[CellType, ...] | None
) -> FunctionType:
    __import__(module)
    return FunctionType(code, sys.modules[module].__dict__, name, None, cells)


def _set_function(
    function: FunctionType,
    state: tuple[dict[str, Any], dict[str, Any], list[tuple[Any, ...]] | None, list[str]],
) -> FunctionType:
    entries, attributes, contents, submodules = state
    for name in submodules:
        __import__(name)
    function.__dict__.update(entries)
    for name, value in attributes.items():
        setattr(function, name, value)
    for cell, content in zip(function.__closure__ or (), contents or (), strict=True):
        if content:
            (cell.cell_contents,) = content
    return function


# Code ------------------------------------------------------------------------------------------------------


def reduce_code(code: CodeType, sources: dict[str, str | None]) -> tuple[Any, ...] | None:
    """Return how `code` is made elsewhere; None if that is none of our business.

    `sources` keeps what is in no file from one call to the next.
    """
    try:
        data = marshal.dumps(code)
    except ValueError:
        return None  # somebody put constants into it that no compiler does
    name = code.co_filename
    if name not in sources:
        sources[name] = _source_in_memory(name)
    text = sources[name]
    return (_load_code, (data,)) if text is None else (_load_code_with_source, (data, name, text))


def _source_in_memory(name: str) -> str | None:
    """Return the text of what was compiled as the file `name`, if `linecache` was given it."""
    linecache: Any = imported("linecache")
    entry = None if linecache is None else linecache.cache.get(name)
    return "".join(entry[2]) if entry is not None and len(entry) == 4 and entry[1] is None else None


def _load_code(data: bytes) -> CodeType:
    code: CodeType = marshal.loads(data)
    return code


def _load_code_with_source(data: bytes, name: str, text: str) -> CodeType:
    import linecache

    if name not in linecache.cache:
        linecache.cache[name] = len(text), None, text.splitlines(True), name
    return _load_code(data)


def globals_in(code: CodeType) -> tuple[tuple[str, ...], frozenset[str]]:
    """Return the names of globals that code has need of, and of those that it assigns without.

    It has no need of what it has assigned by then, whichever way it came there. What is inside of it counts:
    functions, and bodies of classes, where a name may be that of a global, too.
    """
    global _globals_in
    if _globals_in is None:
        from weakref import WeakKeyDictionary  # which receivers do without

        _globals_in = WeakKeyDictionary()
    found: tuple[tuple[str, ...], frozenset[str]] | None = _globals_in.get(code)
    if found is None:
        from dis import Bytecode, hasjabs, hasjrel

        bytecode = Bytecode(code)
        instructions = list(bytecode)
        ways = [(step.offset, step.argval) for step in instructions if step.opcode in hasjrel + hasjabs]
        ways += [(entry.start, entry.target) for entry in getattr(bytecode, "exception_entries", ())]
        needed: dict[str, None] = {}
        assigned: set[str] = set()
        own: set[str] = set()  # what it has assigned so far
        for step in instructions:
            if step.opname in _ASSIGNING:
                if step.opname == "STORE_GLOBAL":
                    assigned.add(step.argval)
                if not any(start < step.offset < end for start, end in ways):
                    own.add(step.argval)
            elif step.opname in _NEEDING and step.argval not in own:
                needed[step.argval] = None
            elif isinstance(step.argval, CodeType):
                inner, assigned_inside = globals_in(step.argval)
                needed.update(dict.fromkeys(name for name in inner if name not in own))
                assigned |= assigned_inside
        found = _globals_in[code] = tuple(needed), frozenset(assigned - needed.keys())
    return found


_ASSIGNING = ("STORE_GLOBAL", "STORE_NAME")  # the second, and the last two below, are for bodies of classes
_NEEDING = ("LOAD_GLOBAL", "DELETE_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
_globals_in: Any = None  # what is known of which code


# Annotations -----------------------------------------------------------------------------------------------


def names_in_annotations(annotations: Any, names: dict[str, Any]) -> Iterator[str]:
    """Yield the types and modules among the globals `names` that annotations refer to as text."""
    if type(annotations) is dict:
        for text in _texts(list(annotations.values()), 5):
            for name in _names_in(text, 3):
                if _is_for_types(names.get(name)):
                    yield name


def _texts(parts: Iterable[Any], depth: int) -> Iterator[str]:
    """Yield the texts that stand for types, in types as well: `list["Node"]`."""
    for part in parts:
        if type(part) is str:
            yield part
            continue
        text = getattr(part, "__forward_arg__", None)
        if type(text) is str:
            yield text
        inner = None if isinstance(part, type) and type(part) is type else getattr(part, "__args__", None)
        if depth and type(inner) is tuple:
            yield from _texts(inner, depth - 1)


def _names_in(text: str, depth: int) -> Iterator[str]:
    try:
        code = compile(text, "", "eval", dont_inherit=True)
    except (SyntaxError, ValueError):
        return
    yield from code.co_names
    for constant in code.co_consts:
        if depth and type(constant) is str:
            yield from _names_in(constant, depth - 1)


def _is_for_types(value: Any) -> bool:
    if isinstance(value, (type, ModuleType)):
        return True
    return type(value).__module__ in ("typing", "types", "typing_extensions") and not isinstance(
        value, FunctionType
    )
