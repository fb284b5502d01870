"""Patterns that ask for what cannot be, a libc for each interpreter or one libpython for all, are refused."""

import multipy_actors as multipy

for options, culprit in [
    ({"private": ["*"]}, "libc.so.6"),
    ({"private": ["libz*", "libpthread*"]}, "libpthread.so.0"),
    ({"private": ["ld-linux*"]}, "ld-linux"),
    ({"shared": ["*"]}, "libpython"),
    ({"shared": ["*python*"]}, "libpython"),
    ({"shared": ["_native*"]}, "_native"),
    ({"shared": ["libc10*"]}, "libc10"),
]:
    try:
        multipy.Pool(1, **options)
    except ValueError as error:
        assert culprit in str(error) and repr(next(iter(options.values()))[-1])[1:-1] in str(error), error
    else:
        raise AssertionError(f"{options} was taken")
with multipy.Pool(1, private=["libz.so*"], shared=["libsqlite3*"]) as pool:
    assert pool.submit(abs, -1).result() == 1
