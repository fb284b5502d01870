"""Objects that note how they come into being, and one that says itself how it is rebuilt."""

from __future__ import annotations

import os

import torch

loads: list[str] = []
ANSWER = 42


class Noted:
    """Tells how many were unpickled here; fails to be if there is a file of its name."""

    def __init__(self, obstacle: str = ""):
        self.obstacle = obstacle

    def __setstate__(self, state):
        if state["obstacle"] and os.path.exists(state["obstacle"]):
            raise ValueError("cannot be unpickled while the file is there")
        self.__dict__.update(state)
        loads.append("Noted")

    def met(self):
        return len(loads)


class Endless:
    """Is never done with being unpickled while there is a pipe of its name; tells there that it has begun."""

    def __init__(self, pipe: str):
        self.pipe = pipe

    def __setstate__(self, state):
        if os.path.exists(state["pipe"]):
            with open(state["pipe"], "w") as pipe:
                pipe.write("begun")
        while os.path.exists(state["pipe"]):
            pass
        self.__dict__.update(state)

    def answer(self):
        return ANSWER


def loaded():
    return len(loads)


def add(left, right=1):
    return left + right


async def later(value):
    return value


class Rebuilt:
    """Travels by `__reduce_deploy__` alone."""

    def __init__(self, tensor: torch.Tensor):
        self.tensor = tensor

    def __reduce__(self):
        raise TypeError("this is not the way")

    def __reduce_deploy__(self, importer):
        return rebuild, (self.tensor, importer.get_name(type(self)))


def rebuild(importer, tensor, name):
    rebuilt = Rebuilt(tensor)
    rebuilt.name = name
    rebuilt.importer = type(importer).__name__
    return rebuilt
