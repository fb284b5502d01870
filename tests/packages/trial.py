"""Tries one package, in a process of its own: `trial.py NAME HOST FOLDER`.

HOST says what the host does with the package: "idle" nothing, "busy" uses it before the interpreters exist
and again while they do. Either way all interpreters use it at once, twice. With "build" as HOST it only
builds what the use needs, into FOLDER.
"""

from __future__ import annotations

import sys
from pathlib import Path

from catalogue import BY_NAME

import multipy_actors as multipy


def folder_for(parent: Path, user: str) -> Path:
    """Return an empty folder that nobody else writes to."""
    path = parent / user
    path.mkdir()
    return path


def use(name: str, folder: Path) -> str:
    """Use the package; runs in the host and in interpreters."""
    BY_NAME[name].use(folder)
    return name


def try_package(name: str, host_is_busy: bool, parent: Path) -> None:
    """Use the package everywhere, and raise what any of them raises."""
    if host_is_busy:
        use(name, folder_for(parent, "host-before"))
    with multipy.Pool(BY_NAME[name].interpreters) as pool:
        for attempt in ("first", "second"):
            folders = [folder_for(parent, f"{attempt}-{member.id}") for member in pool.interpreters]
            calls = [
                member.submit(use, name, folder)
                for member, folder in zip(pool.interpreters, folders, strict=True)
            ]
            if host_is_busy:
                use(name, folder_for(parent, f"{attempt}-host"))
            assert multipy.get(calls) == [name] * len(calls)


if __name__ == "__main__":
    name, host, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    sys.path.insert(0, str(folder))  # where `build` puts modules
    if host == "build":
        BY_NAME[name].build(folder)
    else:
        try_package(name, host == "busy", folder)
