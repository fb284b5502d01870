# What a call was given can be resized and closed as soon as its result is there, every time.
import array
import mmap

import numpy

import multipy_actors as multipy


def total(view):
    return sum(view[:4])


with multipy.Pool(1) as pool:
    for _ in range(300):
        block = bytearray(100_000)
        assert pool.submit(len, block).result() == 100_000
        block.append(1)

        with mmap.mmap(-1, 1 << 16) as mapped:
            assert pool.submit(total, memoryview(mapped)).result() == 0

        numbers = array.array("d", [0.0] * 10_000)
        pool.submit(total, memoryview(numbers)).result()
        numbers.append(1.0)

        view = memoryview(bytearray(100))
        pool.submit(total, view).result()
        view.release()

        matrix = numpy.zeros(100)
        pool.submit(total, matrix).result()
        matrix.resize(200)
