"""What the host does to sys.path after the pool was made is seen by the next call, whatever imports there."""

import importlib
import os
import sys
import tempfile

import multipy_actors as multipy


def write_module(name, text):
    folder = tempfile.mkdtemp()
    with open(os.path.join(folder, f"{name}.py"), "w") as file:
        file.write(text)
    return folder


def import_inside(name):
    return importlib.import_module(name).VALUE


def own_paths(path):
    sys.path.insert(0, path)


class Importer:
    def load(self, name):
        return importlib.import_module(name).VALUE

    def paths(self):
        return list(sys.path)


if __name__ == "__main__":
    with multipy.Pool(1) as pool:
        importer = multipy.remote(Importer).options(pool=pool).remote()
        before = importer.paths()
        sys.path.append(write_module("shop", "class Cart:\n    def total(self):\n        return 1\n"))
        import shop

        assert multipy.remote(shop.Cart).options(pool=pool).remote().total() == 1
        sys.path.append(write_module("later", "VALUE = 2\n"))
        assert importer.load("later") == 2
        sys.path.insert(0, write_module("first", "VALUE = 3\n"))
        assert pool.submit(import_inside, "first").result(timeout=60) == 3
        with pool.acquire() as session:
            sys.path.append(write_module("held", "VALUE = 4\n"))
            assert session.global_("held", "VALUE").value() == 4
        assert importer.paths() == sys.path
        pool.submit(own_paths, "/of/the/interpreter").result(timeout=60)
        sys.path[:] = before
        assert importer.paths() == ["/of/the/interpreter", *before]
