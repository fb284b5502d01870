"""A method that did not await once held up its event loop for ever, and with it the end of the pool."""

import multipy_actors as multipy


@multipy.remote
class Spinner:
    def plain(self):
        while True:
            pass

    async def coroutine(self):
        while True:
            pass

    async def ok(self):
        return "ok"


if __name__ == "__main__":
    for method in ("plain", "coroutine"):
        try:
            with multipy.Pool(1) as pool:
                spinner = Spinner.options(pool=pool).remote()
                assert spinner.ok() == "ok"
                call = getattr(spinner, method).submit()
                while not call.running():
                    pass
                raise KeyError("the pool is left")
        except KeyError:
            pass
        assert type(call.exception(60)) is multipy.Interrupted
