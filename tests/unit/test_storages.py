"""The flag of torch's storages is found by proof, and stays as it is while it is looked for."""

from __future__ import annotations

import torch

from multipy_actors import _native
from multipy_actors.wire import storages
from multipy_actors.wire.tensors import share


def test_the_flag_is_found_with_this_torch():
    found = storages.find_flag(torch)
    assert found is not None
    assert storages.find_flag(torch) == found


def test_a_storage_can_be_resized_again_when_all_who_share_it_have_let_go():
    tensor = torch.zeros(100)
    first, _ = share(tensor, False)
    second, _ = share(tensor[10:], False)
    assert not tensor.untyped_storage().resizable()
    del first
    _native.drain_returns()
    assert not tensor.untyped_storage().resizable()
    del second
    _native.drain_returns()
    assert tensor.untyped_storage().resizable()


def test_what_cannot_be_resized_stays_so():
    tensor = torch.utils.dlpack.from_dlpack(torch.utils.dlpack.to_dlpack(torch.zeros(10)))
    shared, _ = share(tensor, False)
    del shared
    _native.drain_returns()
    assert not tensor.untyped_storage().resizable()


def test_a_copy_leaves_the_storage_alone():
    tensor = torch.zeros(100)
    shared, _ = share(tensor, True)
    assert tensor.untyped_storage().resizable() and not shared.must_be_copied
