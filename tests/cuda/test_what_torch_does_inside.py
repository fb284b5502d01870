"""CUDA graphs, lazily loaded libraries, compiled kernels and devices, in two interpreters at once."""

from __future__ import annotations

import pytest
from gpu_actors import Worker

import multipy_actors as multipy

torch = pytest.importorskip("torch")


def at_once(pool, function):
    return [future.result(timeout=300) for future in pool.broadcast(function)]


def test_linear_algebra_loads_its_libraries_in_each_interpreter(pool):
    def solve():
        import torch

        matrix = torch.eye(64, device="cuda") * 2
        inverse = torch.linalg.inv(matrix)
        values = torch.linalg.eigvalsh(matrix)
        factor = torch.linalg.cholesky(matrix)
        return inverse.trace().item(), values.sum().item(), (factor @ factor.T).trace().item()

    for result in at_once(pool, solve):
        assert result == pytest.approx((32.0, 128.0, 128.0))


def test_convolutions_run_in_each_interpreter(pool):
    def convolve():
        import torch

        torch.manual_seed(0)
        layer = torch.nn.Conv2d(3, 8, 3).cuda()
        image = torch.randn(2, 3, 32, 32, device="cuda")
        layer(image).square().sum().backward()
        return layer.weight.grad.double().sum().item()

    first, second = at_once(pool, convolve)
    assert first == pytest.approx(second)


def test_kernels_are_compiled_at_run_time_in_each_interpreter(pool):
    def jiterate():
        import torch

        code = "template <typename T> T f(T x, T s) { return x * s; }"
        scaled = torch.cuda.jiterator._create_jit_fn(code, s=3.0)
        return scaled(torch.ones(10, device="cuda")).sum().item()

    assert at_once(pool, jiterate) == [30.0, 30.0]


@multipy.remote
class Captured:
    """A small model as a CUDA graph."""

    def __init__(self):
        torch.manual_seed(1)
        layers = torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 64)
        self.model = torch.nn.Sequential(*layers).cuda()
        self.given = torch.zeros(8, 64, device="cuda")
        self.graph = torch.cuda.CUDAGraph()
        with torch.inference_mode():
            self.model(self.given)
            with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
                self.result = self.model(self.given)

    def replay(self, given, rounds):
        """Return how far the graph's results are from the model's."""
        self.given.copy_(given)
        for _ in range(rounds):
            self.graph.replay()
        with torch.inference_mode():
            return (self.result - self.model(given)).abs().max().item()

    def run(self, given, rounds):
        """The same without the graph."""
        with torch.inference_mode():
            for _ in range(rounds):
                result = self.model(given)
            return (result - self.model(given)).abs().max().item()


def test_graphs_captured_in_one_interpreter_replay_while_others_run(pool):
    # Captured one after the other: CUDA ends a capture if another thread waits for the whole GPU meanwhile.
    captured = [Captured.options(pool=pool, interpreter=index).remote() for index in (0, 1)]
    given = [torch.randn(8, 64, device="cuda") for _ in captured]
    for actor, tensor in zip(captured, given, strict=True):
        assert actor.replay(tensor, 1) < 1e-4
    for _ in range(5):
        futures = [
            captured[0].replay.submit(given[0], 3000),
            captured[1].replay.submit(given[1], 3000),
            captured[0].run.submit(given[1], 3000),
            captured[1].replay.submit(given[0], 3000),
        ]
        assert max(future.result() for future in futures) < 1e-4


def test_torch_compile_with_triton_in_two_interpreters_at_once():
    pytest.importorskip("triton")

    def compiled():
        import torch

        @torch.compile
        def f(x):
            return torch.sin(x) * 2 + x.relu()

        x = torch.linspace(-1, 1, 1000, device="cuda")
        return (f(x) - (torch.sin(x) * 2 + x.relu())).abs().max().item()

    with multipy.Pool(2) as pool:
        for difference in at_once(pool, compiled):
            assert difference < 1e-5


def test_an_error_of_a_kernel_launch_fails_its_call_alone(pool):
    worker = Worker.options(pool=pool, interpreter=0).remote()
    with pytest.raises(RuntimeError):
        worker.run(lambda: torch.ones(2, 3, device="cuda") @ torch.ones(2, 3, device="cuda"))
    assert worker.fill_late(1.0).sum().item() == 1 << 20


def where():
    import torch

    return torch.ones(1, device="cuda").device.index


@multipy.remote
class Placed:
    def __init__(self):
        self.weights = torch.ones(4, device="cuda")

    def where(self):
        return self.weights.device.index, where()


def test_an_actor_runs_with_the_gpu_that_was_chosen_for_it(pool):
    assert Placed.options(pool=pool, device="cuda:0").remote().where() == (0, 0)
    assert Placed.options(pool=pool, device="auto").remote().where()[0] in range(torch.cuda.device_count())


def test_a_gpu_that_there_is_not_is_an_error_of_torch(pool):
    with pytest.raises(RuntimeError):
        Placed.options(pool=pool, device=f"cuda:{torch.cuda.device_count()}").remote().where()


@pytest.mark.gpus(2)
def test_replicas_are_spread_over_the_gpus(pool):
    placed = Placed.options(pool=pool, replicas="all", device="auto").remote()
    places = [future.result() for future in placed.broadcast.where.submit()]
    assert sorted(places) == [(0, 0), (1, 1)]


@pytest.mark.gpus(2)
def test_actors_of_one_interpreter_have_each_their_gpu(pool):
    chosen = [Placed.options(pool=pool, interpreter=0, device=number).remote() for number in (1, 0)]
    for _ in range(3):
        assert [placed.where() for placed in chosen] == [(1, 1), (0, 0)]
    assert pool.interpreters[0].submit(where).result() == 0


@pytest.mark.gpus(2)
def test_coroutines_of_actors_with_different_gpus_take_turns(pool):
    @multipy.remote
    class Turns:
        async def where(self):
            import asyncio

            import torch

            found = set()
            for _ in range(50):
                await asyncio.sleep(0)
                found.add(torch.ones(1, device="cuda").device.index)
            return found

    chosen = [Turns.options(pool=pool, interpreter=0, device=number).remote() for number in (0, 1)]
    futures = [turns.where.submit() for turns in chosen for _ in range(3)]
    assert [future.result() for future in futures] == [{0}] * 3 + [{1}] * 3


@pytest.mark.gpus(2)
def test_tensors_of_a_second_gpu_keep_their_device_and_their_order(pool):
    worker = Worker.options(pool=pool, interpreter=0, device=1).remote()
    late = worker.fill_late(2.0)
    assert late.device.index == 1
    assert late.sum().item() == 2.0 * late.numel()
