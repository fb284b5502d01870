"""A gate that holds calls back until it is opened, so that tests need no sleeps.

Interpreters of one process share its file descriptors, so a gate is two pipes: a call that arrives writes to
the one and reads from the other, which ends when the gate is opened. Nobody holds a GIL while waiting. The
module imports little, because interpreters import it too.
"""

from __future__ import annotations

import os
import select

_PATIENCE = 60.0  # seconds; then something has gone wrong, and a failure is better than a hang


class Gate:
    """Calls `stop` at it; the test waits for `arrivals` and opens it. Can be sent to interpreters."""

    def __init__(self):
        self._arrivals = os.pipe()
        self._way = os.pipe()
        self._open = False

    def stop(self, value=None):
        """Report the arrival, wait until the gate is open, and return `value`."""
        self.report()
        _read(self._way[0], "the gate was never opened")
        return value

    def report(self):
        """Report an arrival without stopping."""
        os.write(self._arrivals[1], b".")

    def arrivals(self, count=1):
        """Wait until `count` more calls have arrived."""
        for _ in range(count):
            _read(self._arrivals[0], "a call never arrived")

    def open(self):
        """Let everybody through, from now on."""
        if not self._open:
            self._open = True
            os.close(self._way[1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.open()


def _read(descriptor, complaint):
    if not select.select([descriptor], [], [], _PATIENCE)[0]:
        raise TimeoutError(complaint)
    os.read(descriptor, 1)
