# What an initializer, a lazy cache and a counter leave in globals of the script, or on its classes, lives on
# in each interpreter; it is its own.
import functools
import pickle
import sys

import multipy_actors as multipy

model = None
cache = {}
calls = 0


class Registry:
    models = {}  # noqa: RUF012


def load(path):
    global model
    model = {"path": path}


def predict(x):
    return model["path"], x


def by_global(name):
    hit = name in cache
    cache[name] = "loaded"
    return hit


def by_class(name):
    hit = name in Registry.models
    Registry.models[name] = "loaded"
    return hit


def count():
    global calls
    calls += 1
    return calls


@functools.cache
def slow(x):
    return [x]


class Counter:
    made = 0

    def __init__(self):
        type(self).made += 1
        count()

    def told(self):
        return self.made, calls, model


def main_module():
    main = sys.modules["__main__"]
    return (
        main.__file__,
        main.cache is cache,
        main.predict is predict,
        pickle.loads(pickle.dumps(count)) is count,
    )


with multipy.Pool(1, initializer=load, initargs=("weights.bin",)) as pool:
    assert list(pool.map(predict, [1, 2])) == [("weights.bin", 1), ("weights.bin", 2)]
    for use in (by_global, by_class):
        assert [pool.submit(use, "m").result() for _ in range(3)] == [False, True, True], use
    assert [pool.submit(count).result() for _ in range(3)] == [1, 2, 3]
    assert pool.submit(lambda: (count(), calls)).result() == (4, 4)
    assert pool.submit(lambda: slow(1) is slow(1)).result()
    first = pool.submit(lambda: id(slow(2))).result()
    assert pool.submit(lambda: id(slow(2))).result() == first
    for made in (1, 2):
        counter = multipy.remote(Counter).options(pool=pool).remote()
        assert counter.told() == (made, 4 + made, {"path": "weights.bin"})
    assert pool.submit(main_module).result() == (__file__, True, True, True)
assert model is None and cache == {} and Registry.models == {} and calls == 0 and Counter.made == 0
with multipy.Pool(2, initializer=load, initargs=("other.bin",)) as pool:
    assert [pool.interpreters[i].submit(predict, 0).result() for i in (0, 1)] == [("other.bin", 0)] * 2
    assert [pool.interpreters[i].submit(count).result() for i in (0, 1, 0)] == [1, 1, 2]
