"""Actors that tests of several files use. Interpreters import this module, so it imports little."""

from __future__ import annotations

import os

import multipy_actors as multipy


def where():
    """Return the number of the interpreter this runs in."""
    return multipy.current_interpreter().id


@multipy.remote
class Counter:
    """Counts, and tells where it lives."""

    def __init__(self, value=0):
        self.value = value

    def add(self, amount=1):
        self.value += amount
        return self.value

    def echo(self, value):
        return value

    def where(self):
        return where()

    def stop(self, gate, value=None):
        return gate.stop(value)

    def fail(self, error):
        raise error


@multipy.remote
class Friend:
    """Holds a handle, or whatever else it is given, and calls it."""

    def __init__(self, other=None):
        self.other = other

    def meet(self, other):
        self.other = other

    def forget(self):
        self.other = None

    def introduce(self):
        return self.other

    def call(self, name="add", *args):
        return getattr(self.other, name)(*args)

    def submit(self, name="add", *args):
        return getattr(self.other, name).submit(*args)

    def call_often(self, times):
        return [self.other.add() for _ in range(times)][-1]

    def look(self, function):
        return function(self.other)

    def report_after(self, times, descriptor):
        """Call `times` times, then write to a pipe: whoever has no Python to spare hears of that."""
        self.call_often(times)
        os.write(descriptor, b"x")

    def ring(self, friends):
        """Call the first of `friends`, which calls the next, and so on; return how long the way was."""
        return 0 if not friends else 1 + friends[0].ring(friends[1:])


@multipy.remote
class Spinner:
    """Runs for ever, in pure Python, once it has reported to a gate."""

    def spin(self, gate):
        gate.report()
        while True:
            pass

    def wait_for(self, gate, future):
        gate.report()
        return future[0].result()

    def ok(self):
        return "ok"


@multipy.remote
class Slow:
    """Is made when a gate opens, or never."""

    def __init__(self, gate, endless=False):
        gate.report()
        while endless:
            pass
        gate.stop()

    def ok(self):
        return "ok"
