# Jobs change into folders of their own, at the same time.
import multipy_actors as multipy


def job(number):
    import os
    import tempfile
    import time

    os.chdir(tempfile.mkdtemp())
    with open("result.txt", "w") as file:
        file.write(str(number))
    time.sleep(0.1)
    with open("result.txt") as file:
        return int(file.read())


with multipy.Pool(2) as pool:
    assert list(pool.map(job, range(4))) == [0, 1, 2, 3]
