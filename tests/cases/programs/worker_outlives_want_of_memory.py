# seconds: 400
"""A call that uses up all memory fails with MemoryError; its interpreter, and the others, go on."""

import resource

import multipy_actors as multipy


def fill_with_blocks(size):
    blocks = []
    while True:
        blocks.append(bytearray(size))


def fill_with_lists():
    chain = []
    while True:
        chain = [chain, 1.5]


def fill_with_entries():
    entries = {}
    while True:
        entries[len(entries)] = str(len(entries))


def limit_memory(room):
    """Let the process have `room` bytes more than it has; None: any number."""
    limit = resource.RLIM_INFINITY
    if room is not None:
        with open("/proc/self/statm") as statm:
            limit = int(statm.read().split()[0]) * resource.getpagesize() + room
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


with multipy.Pool(2) as pool:
    pool.submit(abs, 1).result(timeout=60)
    for fill, args in (
        (fill_with_blocks, (1 << 20,)),
        (fill_with_blocks, (100,)),
        (fill_with_lists, ()),
        (fill_with_entries, ()),
        (fill_with_blocks, (1 << 20,)),
    ):
        limit_memory(200 << 20)
        future = pool.submit(fill, *args)
        error = future.exception(timeout=120)
        limit_memory(None)  # the interpreter may keep what it has taken, and the host needs some
        assert isinstance(error, MemoryError), error
        assert [future.result(timeout=120) for future in pool.broadcast(abs, -1)] == [1, 1]
