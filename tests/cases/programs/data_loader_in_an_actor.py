# requires: torch
# seconds: 300
"""A trainer actor reads its data through a DataLoader with worker processes, forked and spawned."""

import torch
from torch.utils.data import DataLoader, TensorDataset

import multipy_actors as multipy


@multipy.remote
class Trainer:
    def epoch(self, **options):
        data = TensorDataset(torch.arange(8))
        return [batch.tolist() for (batch,) in DataLoader(data, batch_size=4, num_workers=2, **options)]


if __name__ == "__main__":
    with multipy.Pool(1) as pool:
        trainer = Trainer.options(pool=pool).remote()
        for options in ({}, {"multiprocessing_context": "spawn"}):
            assert trainer.epoch(**options) == [[0, 1, 2, 3], [4, 5, 6, 7]], options
