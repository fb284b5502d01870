"""GPU memory: shared by pointer, counted, given back to others who run out, freed with its interpreter."""

from __future__ import annotations

import gc

import pytest
from gpu_actors import Worker

import multipy_actors as multipy

torch = pytest.importorskip("torch")

_MIB = 1 << 20


def used():
    """Return the bytes of the GPU that are in use, by whomever."""
    torch.cuda.synchronize()
    free, total = torch.cuda.mem_get_info()
    return total - free


def test_weights_of_a_replicated_model_are_on_the_gpu_once(pool):
    model = torch.nn.Linear(512, 512).cuda().eval()
    replicas = multipy.replicate(model, pool)
    addresses = [
        pool.interpreters[index].submit(lambda m: m(torch.ones(1, 512, device="cuda")).sum().item(), model)
        for index in range(len(pool))
    ]
    here = model(torch.ones(1, 512, device="cuda")).sum().item()
    assert [address.result() for address in addresses] == pytest.approx([here, here])
    weights = [replicas.on(index).state_dict()["weight"].data_ptr() for index in range(len(pool))]
    assert weights == [model.weight.data_ptr()] * len(pool)


def test_statistics_show_what_each_interpreter_has_taken():
    with multipy.Pool(2) as pool:
        assert [figures["gpu_bytes"] for figures in pool.statistics()] == [0, 0]
        worker = Worker.options(pool=pool, interpreter=1).remote()
        reserved = worker.allocate(64 * _MIB)
        figures = [interpreter.statistics()["gpu_bytes"] for interpreter in pool.interpreters]
        assert figures == [0, reserved]
        assert reserved >= 64 * _MIB
        worker.run(torch.cuda.empty_cache)
        assert pool.interpreters[1].statistics()["gpu_bytes"] == 0


def keep_in_a_module():
    import builtins

    builtins.kept = torch.ones(256 * _MIB // 4, device="cuda")
    matrix = torch.eye(64, device="cuda")
    torch.linalg.inv(matrix @ matrix)
    torch.nn.Conv2d(3, 3, 3).cuda()(torch.ones(1, 3, 9, 9, device="cuda"))


def test_an_interpreter_that_ends_frees_its_gpu_memory():
    keep_in_a_module()
    before = used()
    for _ in range(4):
        with multipy.Pool(2) as pool:
            for future in pool.broadcast(keep_in_a_module):
                future.result()
            assert used() - before >= 512 * _MIB
    # What is left is code: a few megabytes for each that there has been.
    assert used() - before < 128 * _MIB


def test_a_tensor_outlives_the_interpreter_that_made_it_and_its_memory_goes_with_it():
    torch.cuda.init()
    with multipy.Pool(1) as pool:
        pool.submit(lambda: torch.ones(1, device="cuda").sum().item()).result()
    before = used()
    with multipy.Pool(1) as pool:
        worker = Worker.options(pool=pool).remote()
        tensor = worker.fill_late(4.0, 64 * _MIB)
        worker.keep(None)
        del worker
    assert tensor.sum().item() == 4.0 * 64 * _MIB
    assert used() - before >= 256 * _MIB
    del tensor
    gc.collect()
    assert used() - before < 192 * _MIB


def test_who_runs_out_of_memory_has_the_others_empty_their_caches():
    with multipy.Pool(3) as pool:
        workers = [Worker.options(pool=pool, interpreter=index).remote() for index in range(3)]
        torch.cuda.empty_cache()
        free, _ = torch.cuda.mem_get_info()
        part = int(free * 0.4) // _MIB * _MIB
        for worker in workers[:2]:
            worker.allocate(part)
        workers[2].hold(part)
        statistics = [figures["gpu_bytes"] for figures in pool.statistics()]
        assert statistics[2] >= part
        assert min(statistics[:2]) < part


def test_out_of_memory_for_good_is_torchs_own_error():
    with multipy.Pool(2) as pool:
        worker = Worker.options(pool=pool, interpreter=0).remote()
        other = Worker.options(pool=pool, interpreter=1).remote()
        other.hold(_MIB)
        free, _ = torch.cuda.mem_get_info()
        with pytest.raises(torch.OutOfMemoryError):
            worker.hold(free * 2)
        worker.hold(_MIB)
        assert worker.fill_late(1.0).sum().item() == 1 << 20


def test_the_hosts_cache_is_emptied_as_well():
    with multipy.Pool(1) as pool:
        worker = Worker.options(pool=pool).remote()
        worker.keep(torch.ones(1, device="cuda"))
        torch.cuda.empty_cache()
        free, _ = torch.cuda.mem_get_info()
        part = int(free * 0.6) // _MIB * _MIB
        torch.empty(part, dtype=torch.uint8, device="cuda")
        assert torch.cuda.memory_reserved() >= part
        worker.hold(part)
        assert torch.cuda.memory_reserved() < part


@multipy.remote
class Hoarder:
    """Takes memory of the GPU piece by piece, and lets go of all of it, into torch's cache."""

    def fill_and_drop(self, piece, count):
        kept = [torch.empty(piece, dtype=torch.uint8, device="cuda") for _ in range(count)]
        return len(kept)


def test_interpreters_that_run_out_of_gpu_memory_at_once_all_get_it(pool):
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info()
    hoarders = [Hoarder.options(pool=pool, interpreter=index).remote() for index in range(2)]
    piece = free // 24
    for _ in range(6):
        # Each takes 11 of 24 parts, which fits beside what the other uses, but not beside the other's cache.
        futures = [
            hoarder.fill_and_drop.submit(piece + _MIB * n, 11) for n, hoarder in enumerate(hoarders, 1)
        ]
        assert [future.result() for future in futures] == [11, 11]
        piece -= 2 * _MIB
    for hoarder in hoarders:
        hoarder.fill_and_drop(_MIB, 1)
    for index in range(2):
        pool.interpreters[index].submit(torch.cuda.empty_cache).result()
