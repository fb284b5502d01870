# requires: torch
# seconds: 240
"""What a library's decorators have made of the script's functions works in an interpreter."""

import torch

import multipy_actors as multipy


@torch.compile(backend="eager")
def norm(x):
    return (x * x).sum().sqrt()


@torch.no_grad()
def doubled(x):
    return x * 2


model = torch.compile(torch.nn.Linear(4, 2), backend="eager")


def job():
    x = torch.tensor([3.0, 4.0], requires_grad=True)
    return float(norm(x)), doubled(x).requires_grad, tuple(model(torch.ones(1, 4)).shape)


if __name__ == "__main__":
    expected = job()
    assert expected == (5.0, False, (1, 2))
    with multipy.Pool(1) as pool:
        assert pool.submit(job).result(timeout=200) == expected
        assert float(pool.submit(norm, torch.tensor([6.0, 8.0])).result(timeout=200)) == 10.0
