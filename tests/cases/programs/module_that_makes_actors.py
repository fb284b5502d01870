"""A module that makes its pool and actors when it is imported: each actor is made once for the process."""

import os
import sys
import tempfile

folder = tempfile.mkdtemp()
sys.path.insert(0, folder)
made = os.path.join(folder, "made")
with open(os.path.join(folder, "app.py"), "w") as file:
    file.write(
        f"""
import multipy_actors as multipy

multipy.init(interpreters=3)


@multipy.remote
class Model:
    def __init__(self, factor=2):
        self.factor = factor
        with open({made!r}, "a") as file:
            file.write("x")

    def predict(self, x):
        return self.factor * x

    def of_other(self, x):
        return other.predict(x)


model = Model.options(name="model").remote()
other = Model.remote(3)
many = [Model.remote(factor) for factor in range(4, 6)]


def all_of_them():
    return [model, other, *many]
"""
    )
with open(os.path.join(folder, "pools.py"), "w") as file:
    file.write(
        """
import multipy_actors as multipy

pool = multipy.Pool(1)


def function():
    return 1
"""
    )

if __name__ == "__main__":
    import app

    import multipy_actors as multipy

    assert [actor.predict(4) for actor in app.all_of_them()] == [8, 12, 16, 20]
    assert app.model.of_other(4) == 12
    assert "\0" not in repr(app.other)
    for future in multipy.default_pool().broadcast(app.all_of_them):
        assert future.result(timeout=60) == app.all_of_them()
    with open(made) as file:
        assert file.read() == "x" * 4

    import pools

    try:
        pools.pool.submit(pools.function).result(timeout=60)
    except multipy.SerializationError as error:
        assert "'pools' makes a pool when it is imported" in str(error), error
    else:
        raise AssertionError("a pool in an interpreter that imports its module")
    pools.pool.shutdown()
    multipy.shutdown()
