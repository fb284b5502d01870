"""Libraries in sessions: gradients, NumPy, YAML, metadata, printing; and pools one after the other."""

from __future__ import annotations

import importlib.metadata
from concurrent.futures import ThreadPoolExecutor

import pytest

import multipy_actors as multipy

torch = pytest.importorskip("torch")

GRADIENT = """
import torch

torch.manual_seed(7)
x, y = torch.ones(5), torch.zeros(3)
w = torch.randn(5, 3, requires_grad=True)
b = torch.randn(3, requires_grad=True)
loss = torch.nn.functional.binary_cross_entropy_with_logits(x @ w + b, y)
loss.backward()
gradients = [w.grad, b.grad]
"""


def test_autograd_gives_the_hosts_gradients_in_each_interpreter(pool):
    pool.register_module_source("autograd_in_sessions", GRADIENT)
    names = {}
    with torch.random.fork_rng():
        exec(GRADIENT, names)
    for interpreter in pool.interpreters[:2]:
        with interpreter.acquire() as session:
            gradients = session.global_("autograd_in_sessions", "gradients").value()
            assert all(map(torch.equal, gradients, names["gradients"]))


def test_a_tensor_that_many_threads_and_all_interpreters_take_at_once_stays_what_it_is(pool):
    tensor = torch.zeros(16, 1000)

    def take(number):
        with pool.interpreters[number % len(pool)].acquire() as session:
            there = session.from_value(tensor)
            assert there.attr("data_ptr")().value() == tensor.data_ptr()
            session.global_("operator", "getitem")(there, number).attr("add_")(number)

    with ThreadPoolExecutor(16) as threads:
        for _ in range(4):
            list(threads.map(take, range(16)))
    assert torch.equal(tensor, 4 * torch.arange(16.0)[:, None].expand(16, 1000))


def test_a_tensor_outlives_the_pool_it_came_from_and_goes_into_the_next():
    with multipy.Pool(1) as first, first.acquire() as session:
        tensor = session.from_value(torch.ones(3)).attr("add")(1).value()
    with multipy.Pool(1) as second, second.acquire() as session:
        assert session.from_value(tensor).attr("sum")().attr("item")().value() == 6


def test_numpy_computes_in_a_session(pool):
    pytest.importorskip("numpy")
    with pool.acquire() as session:
        rand = session.global_("numpy", "random.rand")
        product = session.global_("numpy", "matmul")(rand(3, 5), rand(5, 8))
        assert product.attr("shape").value() == (3, 8)
        assert product.value().shape == (3, 8)


def test_yaml_reads_and_writes_in_a_session(pool):
    pytest.importorskip("yaml")
    with pool.acquire() as session:
        loaded = session.global_("yaml", "safe_load")("a: 1\n")
        assert loaded.value() == {"a": 1}
        assert session.global_("yaml", "dump")(loaded).value() == "a: 1\n"


def test_metadata_of_packages_is_found(pool):
    with pool.acquire() as session:
        version = session.global_("importlib.metadata", "version")("torch").value()
    assert version == importlib.metadata.version("torch")


def test_torchscript_prints_before_during_and_after_a_pool(run_script):
    script = """
        import multipy_actors as multipy
        import torch

        @torch.jit.script
        def doubled(text: str, number: int):
            print(text)
            return number + number

        if __name__ == "__main__":
            assert doubled("before", 1) == 2
            with multipy.Pool(1, prefix_output=False) as pool:
                assert doubled("during", 2) == 4
                with pool.acquire() as session:
                    session.global_("builtins", "print")("inside")
                    assert session.global_("__main__", "__name__").value() == "__main__"
            assert doubled("after", 3) == 6
    """
    finished = run_script(script)
    assert sorted(finished.stdout.split()) == ["after", "before", "during", "inside"]


def test_pools_are_made_and_closed_over_and_over(run_script):
    script = """
        import multipy_actors as multipy

        def resident():
            with open("/proc/self/statm") as figures:
                return int(figures.read().split()[1]) * 4096

        if __name__ == "__main__":
            sizes = []
            for _ in range(10):
                with multipy.Pool(2) as pool, pool.acquire() as session:
                    assert session.global_("json", "loads")("[1]").value() == [1]
                sizes.append(resident())
            print(*(size >> 10 for size in sizes))
    """
    sizes = [int(size) for size in run_script(script).stdout.split()]
    assert len(sizes) == 10
    # Kilobytes. Images are never unmapped, so a pool leaves behind the data that their code has written to.
    assert sizes[-1] - sizes[1] < 8 * 2 * 10_000
