# requires: torch
# seconds: 900
"""An interrupt during `import torch` once left a torch that could not be used, nor imported again."""

import time

import multipy_actors as multipy

PATIENCE = 300


def import_and_spin():
    import torch  # noqa: F401

    while True:
        pass


def add():
    import torch

    return torch.ones(2).sum().item()


if __name__ == "__main__":
    for moment in (0.05, 0.5, 1.0):
        with multipy.Pool(1) as pool:
            call = pool.submit(import_and_spin)
            time.sleep(moment)
            call.cancel(interrupt=True)
            assert type(call.exception(PATIENCE)) is multipy.Interrupted
            assert pool.submit(add).result(PATIENCE) == 2
