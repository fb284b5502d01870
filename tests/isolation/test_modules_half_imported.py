"""A module in whose import another thread is just now counts as not imported."""

import pytest

STOPPING = """
    import asyncio, contextlib, importlib.machinery, os, sys, threading

    import multipy_actors as multipy

    @contextlib.contextmanager
    def half_imported(name):
        '''Another thread is at the beginning of the import of a module.'''
        begun, may_go_on = threading.Event(), threading.Event()

        class Finder:
            @staticmethod
            def find_spec(wanted, path=None, target=None):
                if wanted != name:
                    return None
                spec = importlib.machinery.PathFinder.find_spec(name, path)
                run = spec.loader.exec_module
                def stop_and_run(module):
                    begun.set()
                    may_go_on.wait()
                    run(module)
                spec.loader.exec_module = stop_and_run
                return spec

        assert name not in sys.modules, f"{name} has been imported"
        sys.meta_path.insert(0, Finder)
        thread = threading.Thread(target=__import__, args=(name,))
        thread.start()
        begun.wait()
        try:
            yield
        finally:
            may_go_on.set()
            thread.join()
"""

HOST = """
    class Own:
        def __init__(self, number):
            self.number = number

    def add(own, number=1):
        return own.number + number

    def do_things():
        with multipy.Pool(1) as pool:
            assert pool.submit(add, Own(1)).result() == 2
            assert pool.submit(lambda own: own, Own(3)).result().number == 3
            assert pool.submit(len, [int, threading.Thread, {1: b"2"}]).result() == 3
            assert isinstance(pool.submit(add, Own(None)).exception(), TypeError)

            async def wait():
                return await asyncio.wrap_future(pool.submit(add, Own(1), pool.submit(add, Own(1))))

            assert asyncio.run(wait()) == 3
        assert multipy.current_interpreter() is None

    with half_imported(os.environ["MODULE"]):
        do_things()
    do_things()
"""

INSIDE = """
    @multipy.remote
    class Echo:
        def echo(self, value):
            return value

    def await_a_call_and_fail(echo):
        with half_imported(os.environ["MODULE"]):
            async def wait():
                return await echo.echo.submit(7)

            assert asyncio.run(wait()) == 7
        raise LookupError

    with multipy.Pool(2) as pool:
        echo = Echo.options(pool=pool, interpreter=1).remote()
        error = pool.submit(await_a_call_and_fail, echo).exception()
        if not isinstance(error, LookupError):
            raise error
"""


@pytest.mark.parametrize(
    "module",
    [
        "multipy_actors.worker.event_loop",
        "multipy_actors.worker.torch_packages",
        "multipy_actors.inline.pool",
        *("bdb", "numpy", "msgspec", "torch"),
    ],
)
def test_the_host_goes_on_while_another_thread_imports(run_script, module):
    if "." not in module:
        pytest.importorskip(module)
    run_script(STOPPING + HOST, MODULE=module)


@pytest.mark.parametrize("module", ["event_loop", "torch_packages"])
def test_an_interpreter_goes_on_while_another_thread_imports(run_script, module):
    run_script(STOPPING + INSIDE, MODULE=f"multipy_actors.worker.{module}")
