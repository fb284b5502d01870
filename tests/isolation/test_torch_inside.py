"""torch in two interpreters at once computes what it computes in the host: eager, autograd, script, func."""

from __future__ import annotations

import pytest
import torch

import multipy_actors as multipy

torch.manual_seed(0)


class Perceptron(torch.nn.Module):
    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(7)
        self.first = torch.nn.Linear(8, 16)
        self.second = torch.nn.Linear(16, 4)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.rand(parameter.shape, generator=generator) - 0.5)

    def forward(self, x):
        return self.second(torch.relu(self.first(x)))


def inputs():
    return torch.linspace(-1, 1, 24).reshape(3, 8)


def forward():
    with torch.inference_mode():
        return Perceptron()(inputs())


def backward():
    model = Perceptron()
    model(inputs()).square().sum().backward()
    return [parameter.grad for parameter in model.parameters()]


def training():
    model = Perceptron()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    for _ in range(5):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(inputs()), torch.tensor([0, 1, 2]))
        loss.backward()
        optimizer.step()
    return [parameter.detach() for parameter in model.parameters()]


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(context, x):
        context.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(context, gradient):
        (x,) = context.saved_tensors
        return 3 * x**2 * gradient


def custom_autograd():
    x = torch.linspace(0, 1, 5, requires_grad=True)
    Cube.apply(x).sum().backward()
    return x.grad


def scripted(x: torch.Tensor, n: int):
    total = torch.zeros_like(x)
    for i in range(n):
        if i % 2 == 0:
            total = total + x
        elif i > 0:
            total = total * 2
    return total


def script():
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated
        function = torch.jit.script(scripted)
        model = torch.jit.script(Perceptron())
        traced = torch.jit.trace(Perceptron(), inputs())
    return function(inputs(), 5), model(inputs()), traced(inputs())


def functional():
    from torch.func import functional_call, grad, jacrev, vmap

    def loss(x):
        return x.sin().sum()

    model = Perceptron()
    called = functional_call(model, dict(model.named_parameters()), (inputs(),))
    return grad(loss)(inputs()), vmap(grad(loss))(inputs()), jacrev(torch.sin)(inputs()[0]), called


def linear_algebra():
    matrix = torch.arange(16.0, dtype=torch.float64).reshape(4, 4) + 5 * torch.eye(4, dtype=torch.float64)
    return torch.linalg.inv(matrix), torch.linalg.eigvals(matrix).abs(), torch.linalg.svdvals(matrix)


def fft_and_convolution():
    image = torch.linspace(0, 1, 64).reshape(1, 1, 8, 8)
    weight = torch.ones(1, 1, 3, 3)
    return torch.fft.rfft2(image).abs(), torch.nn.functional.conv2d(image, weight)


def attention():
    query = torch.linspace(-1, 1, 64).reshape(1, 2, 4, 8)
    return torch.nn.functional.scaled_dot_product_attention(query, query, query)


def dispatch_modes():
    from torch.utils._python_dispatch import TorchDispatchMode

    class Counting(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.names = []

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            self.names.append(str(function))
            return function(*args, **(kwargs or {}))

    with Counting() as mode:
        Perceptron()(inputs())
    return [torch.tensor(len(mode.names))]


def flat(outcome):
    return [outcome] if isinstance(outcome, torch.Tensor) else list(outcome)


WORK = [
    forward,
    backward,
    training,
    custom_autograd,
    script,
    functional,
    linear_algebra,
    fft_and_convolution,
    attention,
    dispatch_modes,
]


def repeat(work, times):
    """Return the last outcome of `times`; the more, the more the interpreters overlap."""
    for _ in range(times):
        outcome = work()
    return outcome


@pytest.mark.parametrize("work", WORK)
def test_two_interpreters_at_once_compute_what_the_host_computes(pool, work):
    futures = pool.broadcast(repeat, work, 3)
    expected = flat(work())
    for future in futures:
        outcome = flat(future.result())
        assert len(outcome) == len(expected)
        for there, here in zip(outcome, expected, strict=True):
            torch.testing.assert_close(there, here.detach())


def test_different_work_in_the_interpreters_does_not_mix(pool):
    futures = {work: [i.submit(repeat, work, 2) for i in pool.interpreters] for work in WORK}
    for outcomes in futures.values():
        first, second = (flat(future.result()) for future in outcomes)
        for one, other in zip(first, second, strict=True):
            torch.testing.assert_close(one, other)


def test_an_error_of_torch_arrives_in_its_own_type(pool):
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        pool.submit(torch.matmul, torch.ones(2, 3), torch.ones(2, 3)).result()
    with pytest.raises(torch.linalg.LinAlgError):
        pool.submit(torch.linalg.inv, torch.zeros(2, 2)).result()


def test_gradients_recorded_in_one_interpreter_stay_there(pool):
    @multipy.remote
    class Learner:
        def __init__(self, weight):
            self.weight = weight

        def step(self, x):
            loss = (self.weight * x).sum()
            loss.backward()
            return self.weight.grad, self.weight.is_leaf, loss.requires_grad

    weight = torch.ones(3, requires_grad=True)
    learner = Learner.options(pool=pool, replicas="all").remote(weight)
    for grad, leaf, recorded in learner.broadcast.step(torch.tensor([1.0, 2.0, 3.0])):
        assert grad.tolist() == [1.0, 2.0, 3.0] and leaf and recorded
    assert weight.grad is None


def test_a_model_saved_in_one_interpreter_is_loaded_in_another(pool, tmp_path):
    path = str(tmp_path / "model.pt")

    def save():
        torch.save(Perceptron().state_dict(), path)

    def load():
        model = Perceptron()
        model.load_state_dict(torch.load(path))
        return model(inputs()).detach()

    pool.interpreters[0].submit(save).result()
    torch.testing.assert_close(pool.interpreters[1].submit(load).result(), forward())


def test_torch_uses_the_threads_it_is_given():
    with multipy.Pool(1, intra_op_threads=1) as pool:
        assert pool.submit(torch.get_num_threads).result() == 1
