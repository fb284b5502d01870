# requires: torch
# A sender that has torch or NumPy free memory which a receiver still has is refused; the receiver reads on.
import gc

import numpy
import torch

import multipy_actors as multipy


@multipy.remote
class Keeper:
    def put(self, kept):
        self.kept = kept

    def sum(self):
        return float(self.kept.sum())

    def drop(self):
        self.kept = None
        gc.collect()


def refused(error, action, *args, **kwargs):
    try:
        action(*args, **kwargs)
    except error:
        return
    raise SystemExit(f"{action.__qualname__}{args} was not refused")


def churn():
    return [torch.full((100_000,), 9.0) for _ in range(50)], [numpy.full(100_000, 9.0) for _ in range(50)]


with multipy.Pool(1) as pool:
    keeper = Keeper.options(pool=pool).remote()

    tensor = torch.full((100_000,), 1.0)
    view = tensor[10:]
    keeper.put(view)
    refused(RuntimeError, tensor.resize_, 20_000_000)
    refused(RuntimeError, tensor.untyped_storage().resize_, 0)
    refused(RuntimeError, torch.cat, [torch.zeros(10**6), torch.zeros(10**6)], out=tensor.detach())
    churn()
    assert keeper.sum() == 99_990
    keeper.drop()
    pool.submit(int).result()
    tensor.untyped_storage().resize_(0)

    kept = numpy.full(100_000, 1.0)
    keeper.put(kept[10:])
    refused(ValueError, kept.resize, 20_000_000)
    refused(ValueError, kept.resize, 20_000_000, refcheck=False)
    churn()
    assert keeper.sum() == 99_990
    keeper.drop()
    pool.submit(int).result()
    kept.resize(200_000, refcheck=False)

    # Replacing a tensor's memory was never a danger.
    for replace in (lambda t: t.set_(torch.zeros(5)), lambda t: setattr(t, "data", torch.zeros(5))):
        tensor = torch.full((1000,), 1.0)
        keeper.put(tensor)
        replace(tensor)
        churn()
        assert keeper.sum() == 1000
