"""Interpreters that take no calls for a while, so that what is submitted stays queued."""

from __future__ import annotations

import contextlib
import threading


@contextlib.contextmanager
def occupied(*interpreters):
    """Have another thread hold them; yields a function that lets go of them earlier than the block's end."""
    taken = threading.Semaphore(0)
    over = threading.Event()

    def hold():
        with contextlib.ExitStack() as stack:
            for interpreter in interpreters:
                stack.enter_context(interpreter.acquire())
            taken.release()
            over.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    taken.acquire()

    def let_go():
        over.set()
        thread.join()

    try:
        yield let_go
    finally:
        let_go()
