"""A module that uses torch.distributed."""

from __future__ import annotations

import torch
import torch.distributed


def sum_of_a_world_of_one(value):
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        tensor = torch.tensor([float(value)])
        torch.distributed.all_reduce(tensor)
        return tensor.item()
    finally:
        torch.distributed.destroy_process_group()
