"""A pool made in a forked child leaves signals with its host, the child."""

import os
import signal
import warnings

import multipy_actors as multipy

warnings.simplefilter("ignore")


def ignore_sigterm():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return signal.getsignal(signal.SIGTERM) is signal.SIG_IGN


def ignored():
    with open("/proc/self/status") as file:
        fields = dict(line.split(":", 1) for line in file)
    return int(fields["SigIgn"], 16)


def look():
    before = ignored()
    with multipy.Pool(1) as pool:
        assert pool.submit(ignore_sigterm).result()
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        assert ignored() == before


if __name__ == "__main__":
    look()
    if (pid := os.fork()) == 0:
        look()
        os._exit(0)
    raise SystemExit(os.waitpid(pid, 0)[1])
