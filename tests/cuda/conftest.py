"""Tests that need a GPU; without one they are skipped, and say so.

They use CUDA in the host's process, so they come in files of a few: a failed kernel would spoil the others.
"""

from __future__ import annotations

import functools

import pytest

import multipy_actors as multipy


@functools.cache
def gpus():
    """Return how many GPUs torch sees, and why none, if so."""
    try:
        import torch
    except ImportError:
        return 0, "torch is not installed"
    if torch.version.cuda is None:
        return 0, "this torch is built without CUDA"
    return torch.cuda.device_count(), "there is no NVIDIA GPU"


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.parent.name != "cuda":
            continue
        wanted = item.get_closest_marker("gpus")
        count, reason = gpus()
        if count < 1:
            item.add_marker(pytest.mark.skip(reason=reason))
        elif wanted is not None and count < wanted.args[0]:
            item.add_marker(pytest.mark.skip(reason=f"needs {wanted.args[0]} GPUs, there is {count}"))


@pytest.fixture(scope="module")
def pool():
    with multipy.Pool(2, name="gpu") as pool:
        yield pool
