"""Classes and functions that are local to a function of the script, and refer to no global of it."""

import multipy_actors as multipy


def main():
    class Echo:
        def echo(self, value):
            return value

    with multipy.Pool(1) as pool:
        assert pool.submit(lambda cls: cls().echo(3), Echo).result() == 3
        assert multipy.remote(Echo).options(pool=pool).remote().echo(4) == 4
    with multipy.Pool(1) as pool:
        assert multipy.remote(Echo).options(pool=pool).remote().echo(5) == 5


if __name__ == "__main__":
    main()
