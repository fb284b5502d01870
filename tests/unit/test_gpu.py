"""What CUDA's support does where there is no GPU: little, and it says so."""

from __future__ import annotations

import asyncio

import pytest
from sample_actors import Counter

import multipy_actors as multipy
from multipy_actors import gpu
from multipy_actors.actors.creation import gpu_number


@pytest.mark.parametrize(
    ("device", "number"), [("cuda:1", 1), ("cuda", 0), (3, 3), ("cuda:12", 12), (0, 0)], ids=repr
)
def test_a_gpu_is_named_as_torch_does_or_by_its_number(device, number):
    assert gpu_number(device) == number


@pytest.mark.parametrize("device", ["cpu", "cuda:x", "cuda:-1", -1, True, 1.5, "auto", None, ""], ids=repr)
def test_what_is_no_name_of_a_gpu_is_found_out(device):
    assert gpu_number(device) is None


def test_a_torch_device_is_a_name_as_well():
    torch = pytest.importorskip("torch")
    assert gpu_number(torch.device("cuda", 2)) == 2
    assert gpu_number(torch.device("cpu")) is None


def test_a_wrong_device_is_refused_where_it_is_written():
    with pytest.raises(ValueError, match="option 'device' must be"):
        Counter.options(device="gpu0")


def test_a_wrong_kind_of_streams_is_refused_before_anything_starts():
    with pytest.raises(ValueError, match='must be "per-interpreter" or "default"'):
        multipy.Pool(1, cuda_streams="mine")


def test_an_actor_with_a_gpu_works_until_it_uses_it(pool):
    assert Counter.options(pool=pool, device="cuda:0").remote(1).add() == 2


def test_an_inline_pool_takes_no_notice_of_the_option():
    with multipy.Pool(1, inline=True) as pool:
        assert Counter.options(pool=pool, device="cuda:1").remote(1).add() == 2
        assert pool.statistics()[0]["gpu_bytes"] == 0


def test_a_gpu_in_turn_needs_one(pool):
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(RuntimeError, match="torch sees none"):
        Counter.options(pool=pool, device="auto").remote().add()


def test_interpreters_that_use_no_gpu_have_taken_nothing_of_one(pool):
    assert [figures["gpu_bytes"] for figures in pool.statistics()] == [0, 0]


def test_an_import_of_torch_is_noticed_and_cuda_is_left_alone(pool):
    pytest.importorskip("torch")

    def look():
        import torch

        from multipy_actors import gpu

        return gpu._is_registered, torch.cuda.is_initialized(), gpu._torch is None

    assert pool.submit(look).result() == (True, False, True)


def test_a_coroutine_has_its_gpu_at_each_step_and_others_do_not():
    seen = []

    async def look(name):
        for _ in range(3):
            seen.append((name, gpu._thread.gpu))
            await asyncio.sleep(0)
        return name

    async def main():
        tasks = [gpu.on_gpu(gpu.OnGpu(number), look(number)) for number in (1, 2)]
        return await asyncio.gather(*tasks, look(None))

    assert asyncio.run(main()) == [1, 2, None]
    assert len(seen) == 9
    assert all(name == on for name, on in seen)


def test_what_a_coroutine_raises_or_is_thrown_passes_through():
    async def fail():
        await asyncio.sleep(0)
        raise LookupError("gone")

    async def wait():
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "cancelled"

    async def main():
        with pytest.raises(LookupError, match="gone"):
            await gpu.on_gpu(gpu.OnGpu(1), fail())
        task = asyncio.ensure_future(gpu.on_gpu(gpu.OnGpu(1), wait()))
        await asyncio.sleep(0)
        task.cancel()
        return await task

    assert asyncio.run(main()) == "cancelled"
