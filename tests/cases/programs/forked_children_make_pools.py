# seconds: 300
"""Children forked while interpreters call each other make pools; no lock is left held in them."""

import os
import signal
import time
import warnings

import multipy_actors as multipy

warnings.simplefilter("ignore")


class Echo:
    def ping(self, number):
        return number


class Caller:
    def __init__(self, other):
        self.other = other

    def call(self, stop):
        count = 0
        while not stop[0]:
            self.other.ping(count)
            count += 1
        return count


def child():
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(120)
    with multipy.Pool(1) as pool:
        assert pool.submit(abs, -1).result() == 1
    os._exit(0)


if __name__ == "__main__":
    import numpy

    stop = numpy.zeros(1, dtype=numpy.int64)
    with multipy.Pool(2) as pool:
        other = multipy.remote(Echo).options(pool=pool, interpreter=1).remote()
        caller = multipy.remote(Caller).options(pool=pool, interpreter=0).remote(other)
        calls = caller.call.submit(stop)
        ends = []
        for _ in range(40):
            pid = os.fork()
            if pid == 0:
                child()
            ends.append(pid)
            if len(ends) >= 4:
                status = os.waitpid(ends.pop(0), 0)[1]
                assert status == 0, f"a child ended with {status}"
        for pid in ends:
            assert os.waitpid(pid, 0)[1] == 0
        stop[0] = 1
        assert calls.result() > 0
    time.sleep(0)
