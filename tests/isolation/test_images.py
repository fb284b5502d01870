"""What a pool tells of the libraries that its interpreters have private images of."""

from __future__ import annotations

import os

import multipy_actors as multipy


def test_a_pool_tells_what_each_interpreter_has_loaded_and_why(pool):
    first, second = pool.images()
    libpython = first[0]
    assert isinstance(libpython, multipy.ImageInfo)
    assert libpython.path == second[0].path and "libpython" in libpython.path
    assert libpython.private and libpython.reason
    assert libpython.size > 1_000_000 and libpython.address % os.sysconf("SC_PAGE_SIZE") == 0
    mine, others = ({image.address for image in images if image.private} for images in (first, second))
    assert not mine & others


def test_images_lie_where_they_are_said_to(pool):
    def address():
        import ctypes

        return ctypes.cast(ctypes.pythonapi.Py_IsInitialized, ctypes.c_void_p).value

    for images, inside in zip(pool.images(), multipy.get(pool.broadcast(address)), strict=True):
        assert images[0].address <= inside < images[0].address + images[0].size


def test_a_library_that_an_import_brings_is_listed_with_its_reason():
    def load():
        import _sqlite3

        return _sqlite3.__file__

    with multipy.Pool(2) as pool:
        path = pool.interpreters[1].submit(load).result()
        mine, other = ([image for image in images if image.path == path] for images in pool.images()[::-1])
        assert len(mine) == 1 and mine[0].private and "Py" in mine[0].reason
        assert other == []
    assert len(pool.images()) == 2  # a closed pool still tells


def test_what_the_user_makes_private_is_listed_as_such():
    def load():
        import ctypes

        ctypes.CDLL("libz.so.1")

    with multipy.Pool(1) as pool:
        pool.submit(load).result()
        (found,) = (image for image in pool.images()[0] if "libz.so" in image.path)
        assert not found.private
        assert found.address and found.size
    with multipy.Pool(1, private=["libz.so*"]) as pool:
        pool.submit(load).result()
        (found,) = (image for image in pool.images()[0] if "libz.so" in image.path)
        assert found.private
        assert found.reason == "named by the policy"


def test_shared_libraries_are_listed_after_the_private_ones(pool):
    (listed, _) = pool.images()
    shared = [image for image in listed if not image.private]
    assert listed[-len(shared) :] == shared
    libc = next(image for image in shared if "libc.so" in image.path)
    assert "CPython" in libc.reason


def test_what_the_user_makes_shared_is_listed_as_such():
    def load():
        import _sqlite3

        return _sqlite3.__name__

    with multipy.Pool(1, shared=["libsqlite3*"]) as pool:
        pool.submit(load).result()
        for image in pool.images()[0]:
            assert not image.private or "libsqlite3" not in image.path


def test_statistics_of_a_pool_tell_what_the_images_of_each_interpreter_take(pool):
    multipy.get(pool.broadcast(abs, -1))
    for index, figures in enumerate(pool.statistics()):
        assert figures["done"] >= 1
        assert figures.keys() > pool.interpreters[index].statistics().keys()
        assert figures["images"] == sum(image.private for image in pool.images()[index])
        assert 100_000 < figures["image_bytes"] < 100_000_000
