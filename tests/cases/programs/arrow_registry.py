# requires: pandas, pyarrow
# seconds: 600
"""pandas.read_parquet (pyarrow) in more than one interpreter, in a second pool, and in the host after a pool.

libarrow has no CPython symbols, and keeps the extension types that Python code has registered.
"""

import os
import subprocess
import sys
import tempfile

import multipy_actors as multipy


def roundtrip(folder):
    import pandas as pd

    path = tempfile.mktemp(dir=folder)
    pd.DataFrame({"a": [1, 2]}).to_parquet(path)
    return int(pd.read_parquet(path)["a"].sum())


def write_extension(path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    class Identity(pa.ExtensionType):
        def __init__(self):
            super().__init__(pa.int64(), "my.identity")

        def __arrow_ext_serialize__(self):
            return b""

        @classmethod
        def __arrow_ext_deserialize__(cls, storage, data):
            return cls()

    pa.register_extension_type(Identity())
    array = pa.ExtensionArray.from_storage(Identity(), pa.array([1]))
    pq.write_table(pa.table({"column": array}), path)


def read(path):
    import pyarrow.parquet as pq

    return str(pq.read_table(path).schema.field("column").type)


def in_two_interpreters(folder):
    with multipy.Pool(2) as pool:
        assert [future.result() for future in pool.broadcast(roundtrip, folder)] == [3, 3]


def in_the_host_first(folder):
    assert roundtrip(folder) == 3
    with multipy.Pool(1) as pool:
        assert pool.submit(roundtrip, folder).result() == 3
    assert roundtrip(folder) == 3


def in_a_second_pool_and_the_host_afterwards(folder):
    for _ in range(2):
        with multipy.Pool(1) as pool:
            assert pool.submit(roundtrip, folder).result() == 3
    assert roundtrip(folder) == 3


def a_type_of_one_interpreter_is_unknown_to_the_others(folder):
    path = os.path.join(folder, "extension.parquet")
    with multipy.Pool(2) as pool:
        one, other = pool.interpreters
        one.submit(write_extension, path).result()
        assert "Identity" in one.submit(read, path).result()
        assert other.submit(read, path).result() == "int64"
    assert read(path) == "int64"


SCENES = [
    in_two_interpreters,
    in_the_host_first,
    in_a_second_pool_and_the_host_afterwards,
    a_type_of_one_interpreter_is_unknown_to_the_others,
]

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        if len(sys.argv) > 1:
            SCENES[int(sys.argv[1])](folder)
        else:
            for index, _ in enumerate(SCENES):
                subprocess.run([sys.executable, "-X", "faulthandler", __file__, str(index)], check=True)
