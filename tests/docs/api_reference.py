"""Writes docs/api.md from the docstrings of the public names.

After a change of one, `python tests/docs/api_reference.py --write docs/api.md`; without `--write` it is
printed. The package must be installed. What is for checkers alone is left to docs/guides/types.md.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import multipy_actors

# A public name must be in one of these; a name with a dot is in a module.
SECTIONS = {
    "Pools": ["Pool", "Interpreter", "ImageInfo", "Environment", "PathEnvironment"],
    "The default pool": ["init", "default_pool", "shutdown", "current_interpreter"],
    "Actors": [
        "remote",
        "Actor",
        "batch",
        "ReplicatedObj",
        "RemoteMethod",
        "Stream",
        "replicate",
        "get_actor",
        "kill",
    ],
    "Packages and sessions": ["Package", "Session", "Obj"],
    "Futures": ["Future", "get", "wait"],
    "Values": ["copied"],
    "C++ programs": ["cmake_dir"],
    "Errors": [
        "MultipyError",
        "ActorClosedError",
        "DeadlockError",
        "ImageError",
        "InterpreterDiedError",
        "InterpreterStartError",
        "Interrupted",
        "LeftBehindWarning",
        "MailboxFullError",
        "PoolClosedError",
        "RemoteError",
        "RemoteTraceback",
        "SerializationError",
        "SessionError",
        "SharedWriteWarning",
    ],
}
_SPECIAL = ("__call__", "__getitem__", "__await__", "__iter__", "__aiter__")
_FOR_US_ALONE = re.compile(r"For (the library|\w+) alone\b")


def reference() -> str:
    """Return the whole page."""
    return "\n".join(_page()) + "\n"


def named(path: str) -> Any:
    """Return what a name in SECTIONS stands for."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(f"multipy_actors.{module}") if module else multipy_actors, name)


def _page() -> Iterator[str]:
    yield "# API reference\n"
    yield "Written by `python tests/docs/api_reference.py --write docs/api.md` from the docstrings.\n"
    yield "`import multipy_actors as multipy`. The [guides](guides/) show how it all is used."
    for section, names in SECTIONS.items():
        yield f"\n## {section}"
        for name in names:
            yield from _entry(name, named(name))


def _entry(path: str, thing: Any) -> Iterator[str]:
    name = path if "." in path else f"multipy.{path}"
    yield f"\n### `{name}`\n"
    if not inspect.isclass(thing):
        yield f"```python\n{_signature(path, thing)}\n```\n"
        yield _text(thing)
        return
    bases = [base.__name__ for base in thing.__bases__ if base.__name__ not in ("object", "Generic", "tuple")]
    made = vars(thing).get("__init__")
    explained = inspect.getdoc(made) if made is not None else None
    if explained and _FOR_US_ALONE.match(explained):
        explained = None
    if explained:
        yield f"```python\n{_signature(path, thing, made)}\n```\n"
    if bases:
        yield f"Derived from {', '.join(f'`{base}`' for base in bases)}.\n"
    yield _text(thing)
    if explained:
        yield f"\n{explained}"
    for attribute, value in vars(thing).items():
        function = getattr(value, "__func__", value)  # of a classmethod
        text = inspect.getdoc(function)
        if (attribute.startswith("_") and attribute not in _SPECIAL) or not text or text.startswith("Refuse"):
            continue
        if isinstance(value, property):
            yield f"\n#### `{path}.{attribute}`\n"
            yield _text(value)
        elif inspect.isfunction(function):
            yield f"\n#### `{path}.{attribute}`\n"
            yield f"```python\n{_signature(attribute, function)}\n```\n"
            yield _text(function)


def _text(thing: Any) -> str:
    text = inspect.getdoc(thing)
    assert text, f"{thing} has no docstring"
    return text


def _signature(path: str, thing: Any, made: Any = None) -> str:
    """Return how it is called, on one line or with one parameter on each."""
    name = path.rpartition(".")[2]
    signature = inspect.signature(made or thing)
    parameters = [
        parameter for parameter in signature.parameters.values() if parameter.name not in ("self", "cls")
    ]
    texts: list[str] = []
    for index, parameter in enumerate(parameters):
        before = parameters[index - 1].kind if index else None
        if parameter.kind is parameter.KEYWORD_ONLY and before not in (
            parameter.KEYWORD_ONLY,
            parameter.VAR_POSITIONAL,
        ):
            texts.append("*")
        texts.append(
            str(parameter).replace("'", "")
            if parameter.default is inspect.Parameter.empty
            else _default(parameter)
        )
        after = parameters[index + 1].kind if index + 1 < len(parameters) else None
        if parameter.kind is parameter.POSITIONAL_ONLY and after is not parameter.POSITIONAL_ONLY:
            texts.append("/")
    result = (
        ""
        if made is not None or signature.return_annotation is signature.empty
        else f" -> {signature.return_annotation}"
    )
    line = f"{name}({', '.join(texts)}){result}"
    if len(line) <= 100:
        return line
    return f"{name}(\n" + "".join(f"    {text},\n" for text in texts) + f"){result}"


def _default(parameter: inspect.Parameter) -> str:
    return f"{parameter.name}: {parameter.annotation} = {parameter.default!r}"


def main() -> None:
    """Write or print the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, metavar="FILE")
    options = parser.parse_args()
    if options.write:
        options.write.write_text(reference())
    else:
        print(reference(), end="")


if __name__ == "__main__":
    main()
