"""Where a class or an argument cannot be decoded, the calls of that actor raise why, each time."""

import multipy_actors as multipy


class Argument:
    def __reduce__(self):
        return refuse, ()


def refuse():
    raise ValueError("the true reason")


def fail():
    raise KeyError("of a future")


class Plain:
    def __init__(self, argument):
        pass

    def method(self):
        return 1


class Asynchronous(Plain):
    async def method(self):
        return 1


class Generating(Plain):
    def method(self):
        yield 1


for inline in (False, True):
    with multipy.Pool(1, inline=inline) as pool:
        for cls in (Plain, Asynchronous, Generating):
            actor = multipy.remote(cls).options(pool=pool).remote(Argument())
            for _ in range(2):
                try:
                    list(actor.method.stream()) if cls is Generating else actor.method()
                except multipy.SerializationError as error:
                    assert "the true reason" in str(error), error
                else:
                    raise AssertionError(cls)
        actor = multipy.remote(Plain).options(pool=pool).remote(pool.submit(fail))
        for _ in range(2):
            try:
                actor.method()
            except KeyError as error:
                assert error.args == ("of a future",)
            else:
                raise AssertionError("a future that failed was an argument")
