"""What the C++ programs of this folder have their interpreters do."""

import ctypes
import os
import sys
import threading

from smoke import USES, use_standard_library

_BLOCKED_SECONDS = 1000


def add(first, second):
    return first + second


def say(text):
    print(text)


def python_address():
    """Use the standard library, and say where this interpreter's Python lies."""
    assert os.path.samefile(os.path.dirname(__file__), sys.path[0])
    return use_standard_library()


def describe():
    """Return what the host's Python would say of itself."""
    return [sys.version, sys.executable, sys.prefix, sys.getfilesystemencoding(), *sys.path]


def meet_and_use(package, mine, others):
    """Import and use a package when the other interpreter has come to do so too."""
    meet(mine, others)
    USES[package]()


def meet(mine, others):
    """Say that this interpreter is here, and wait for the other: both must run at the same time."""
    os.write(mine, b".")
    os.read(others, 1)


def fail():
    try:
        {}["reason"]
    except KeyError as error:
        raise ValueError("as it was told to") from error


def call_into_nothing():
    import a_module_that_is_not_there  # noqa: F401


def exit_python():
    sys.exit(3)


def random_product(seed, side):
    """As the function of this name in cpp/own_torch.cpp."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    matrix = torch.randn(side, side, dtype=torch.float64)
    return (matrix @ matrix).sum(0).tolist()


def change_torch():
    """Change what would be global if there were one torch."""
    import torch

    torch.manual_seed(99)
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(2)
    torch.rand(1000)


# What may go on when the program ends; `arrive` is written to first.


def spin(arrive):
    os.write(arrive, b".")
    while True:
        pass


def block(arrive):
    os.write(arrive, b".")
    ctypes.CDLL(None).sleep(_BLOCKED_SECONDS)


def leave_a_thread(arrive):
    threading.Thread(target=spin, args=(arrive,)).start()


def compute(arrive):
    import torch

    matrix = torch.ones(300, 300)
    matrix @ matrix
    os.write(arrive, b".")
    while True:
        matrix @ matrix
