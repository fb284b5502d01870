# An actor that could not be made, as its name was taken, was counted on the seats of an inline pool.
import multipy_actors as multipy


class Actor:
    pass


if __name__ == "__main__":
    pool = multipy.Pool(2, inline=True)
    remote = multipy.remote(Actor)
    kept = remote.options(pool=pool, name="taken").remote()
    for _ in range(3):
        try:
            remote.options(pool=pool, name="taken").remote()
        except ValueError as error:
            assert "'taken'" in str(error)
        else:
            raise AssertionError("the name was given twice")
    others = [remote.options(pool=pool).remote() for _ in range(3)]
    assert pool._native._actor_counts == [2, 2], pool._native._actor_counts
    pool.shutdown()
