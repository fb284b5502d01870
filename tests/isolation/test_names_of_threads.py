"""Debuggers and `top -H` show what the threads of interpreters run."""

import threading

import multipy_actors as multipy


def name_of_thread():
    with open(f"/proc/self/task/{threading.get_native_id()}/comm") as file:
        return file.read().strip()


@multipy.remote
class Embedder:
    def name(self):
        return name_of_thread()

    def names(self, other):
        return [name_of_thread(), other.name(), name_of_thread()]


@multipy.remote
class WithANameThatIsTooLong:
    def name(self):
        return name_of_thread()


def test_a_thread_bears_the_name_of_the_actor_whose_call_it_runs():
    with multipy.Pool(2, name="names") as pool:
        embedder = Embedder.options(pool=pool, interpreter=1).remote()
        assert embedder.name() == "1:Embedder"
        long = WithANameThatIsTooLong.options(pool=pool, interpreter=1).remote()
        assert long.name() == "1:WithANameThat"


def test_functions_run_under_the_name_of_the_interpreter():
    with multipy.Pool(1, name="names") as pool:
        embedder = Embedder.options(pool=pool).remote()
        for _ in range(3):
            assert embedder.name() == "0:Embedder"
            assert pool.submit(name_of_thread).result() == "names-0"


def test_the_threads_of_a_chain_bear_the_names_of_its_actors():
    with multipy.Pool(1, name="names") as pool:
        first, second = (Embedder.options(pool=pool).remote() for _ in range(2))
        for _ in range(20):
            assert first.names(second) == ["0:Embedder"] * 3
