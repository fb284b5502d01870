"""A future that has been to another interpreter and back is a second one of its call: both are told."""

import concurrent.futures
import threading

import multipy_actors as multipy


def wait_for(descriptor):
    import os

    os.read(descriptor, 1)
    return 7


def echo(box):
    return box


if __name__ == "__main__":
    import os

    gate, opener = os.pipe()
    with multipy.Pool(2) as pool:
        first = pool.interpreters[0].submit(wait_for, gate)
        second = pool.interpreters[1].submit(echo, [first]).result(timeout=60)[0]
        assert first is not second
        told = [threading.Event() for _ in range(4)]
        for future, event in zip((first, second, first, second), told, strict=True):
            future.add_done_callback(lambda _, event=event: event.set())
        os.write(opener, b"x")
        for event in told:
            assert event.wait(60)
        done, rest = multipy.wait([first, second], num_returns=2, timeout=60)
        assert len(done) == 2 and not rest
        assert len(concurrent.futures.wait([first, second], timeout=60).done) == 2
        later = threading.Event()
        pool.submit(abs, -1).add_done_callback(lambda _: later.set())
        assert later.wait(60)
