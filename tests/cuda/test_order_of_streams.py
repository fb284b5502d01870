"""Tensors of a GPU handed over before they are computed, and given up before they were used."""

from __future__ import annotations

import pytest
from gpu_actors import Worker

import multipy_actors as multipy

torch = pytest.importorskip("torch")

_ROUNDS = 1500


@pytest.fixture(scope="module")
def workers(pool):
    return [Worker.options(pool=pool, interpreter=index).remote() for index in range(2)]


def test_each_interpreter_has_a_stream_of_its_own(workers):
    streams = [worker.stream() for worker in workers]
    assert 0 not in streams
    assert len(set(streams)) == 2
    assert [worker.stream() for worker in workers] == streams


def test_with_default_streams_all_use_the_default_one():
    with multipy.Pool(2, cuda_streams="default") as pool:
        workers = [Worker.options(pool=pool, interpreter=index).remote() for index in range(2)]
        assert [worker.stream() for worker in workers] == [0, 0]
        late = workers[0].fill_late(3.0)
        assert workers[1].sum_late(late).item() == 3.0 * late.numel()


def test_coroutines_run_on_the_stream_of_their_interpreter(pool):
    @multipy.remote
    class Asynchronous:
        async def stream(self):
            import torch

            torch.cuda.init()
            return torch.cuda.current_stream().cuda_stream

    plain = Worker.options(pool=pool, interpreter=0).remote()
    asynchronous = Asynchronous.options(pool=pool, interpreter=0).remote()
    assert asynchronous.stream() == plain.stream() != 0


def test_cuda_that_is_initialised_within_a_call_uses_the_own_stream_at_once():
    def first_call():
        import torch

        torch.ones(1, device="cuda")
        return torch.cuda.current_stream().cuda_stream

    with multipy.Pool(1) as pool:
        assert pool.submit(first_call).result() != 0


def test_a_result_is_waited_for_on_the_gpu_and_not_on_the_cpu(workers):
    late = workers[0].fill_late(2.0, cycles=2_000_000_000)
    event = torch.cuda.Event()
    event.record()
    assert not event.query(), "the host's stream should be waiting for the worker's"
    assert late.sum().item() == 2.0 * late.numel()


def test_an_argument_is_waited_for_by_its_receiver(workers):
    side = torch.cuda.Stream()
    workers[0].sum_late(torch.zeros(1 << 20, device="cuda"), 0)  # loading a kernel waits for the whole GPU
    with torch.cuda.stream(side):
        tensor = torch.zeros(1 << 20, device="cuda")
        torch.cuda._sleep(500_000_000)
        tensor.fill_(5.0)
        assert workers[0].sum_late(tensor, 0).item() == 5.0 * (1 << 20)


def test_what_a_call_does_to_its_argument_comes_before_what_its_caller_does_next(workers):
    tensor = torch.zeros(1 << 20, device="cuda")
    for _ in range(20):
        assert workers[0].add_late(tensor, 1.0) is None
        workers[1].add_late(tensor, 1.0)
    assert tensor.sum().item() == 40.0 * (1 << 20)


def test_so_it_does_if_the_call_raises_or_is_a_coroutine(pool):
    @multipy.remote
    class Careless:
        def add_and_raise(self, tensor):
            import torch

            torch.cuda._sleep(200_000_000)
            tensor.add_(1.0)
            raise LookupError("after that")

    @multipy.remote
    class Asynchronous:
        async def add(self, tensor):
            import torch

            torch.cuda._sleep(200_000_000)
            tensor.add_(1.0)

    tensor = torch.zeros(1 << 20, device="cuda")
    careless = Careless.options(pool=pool, interpreter=0).remote()
    asynchronous = Asynchronous.options(pool=pool, interpreter=1).remote()
    for expected in (1.0, 2.0, 3.0):
        with pytest.raises(LookupError):
            careless.add_and_raise(tensor)
        assert tensor.mean().item() == 2 * expected - 1
        asynchronous.add(tensor)
        assert tensor.mean().item() == 2 * expected


def test_a_tensor_passes_through_several_interpreters_without_being_copied(workers):
    late = workers[0].fill_late(1.5)
    workers[1].keep(late)
    address = late.data_ptr()
    back = workers[1].give()
    assert back.data_ptr() == address
    assert workers[0].sum_late(back).item() == 1.5 * late.numel()


@pytest.mark.parametrize("cycles", [0, 20_000, 500_000])
def test_results_given_up_early_are_never_overwritten_while_they_are_used(workers, cycles):
    """The consumer's stream is behind; the producer allocates at once, and would get the same memory."""
    producer, size = workers[0], 4096
    side = torch.cuda.Stream()
    sums = torch.zeros(_ROUNDS, device="cuda")
    with torch.cuda.stream(side):
        for number in range(_ROUNDS):
            tensor = producer.fill_and_reuse(float(number), size, cycles)
            torch.cuda._sleep(cycles)
            torch.sum(tensor, 0, out=sums[number])
            del tensor
        found = sums.tolist()
    assert found == [float(number * size) for number in range(_ROUNDS)]


@pytest.mark.parametrize("cycles", [0, 20_000, 500_000])
def test_arguments_given_up_early_are_never_overwritten_while_they_are_used(workers, cycles):
    """The host overwrites what its allocator hands out again, while the workers are behind."""
    size = 4096
    totals = []
    for number in range(_ROUNDS):
        tensor = torch.full((size,), float(number), device="cuda")
        totals.append(workers[number % 2].sum_late.submit(tensor, cycles))
        del tensor
        torch.full((size,), -1.0, device="cuda")
    found = torch.stack([total.result() for total in totals]).tolist()
    assert found == [float(number * size) for number in range(_ROUNDS)]


def test_between_two_interpreters_nothing_is_overwritten_either(workers):
    producer, consumer = workers
    futures = []
    for number in range(_ROUNDS):
        tensor = producer.fill_and_reuse.submit(float(number), 4096, 20_000)
        futures.append(consumer.sum_late.submit(tensor, 500_000))
    found = torch.stack([future.result() for future in futures]).tolist()
    assert found == [float(number * 4096) for number in range(_ROUNDS)]
