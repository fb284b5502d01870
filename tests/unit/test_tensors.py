"""Tensors and arrays arrive as the same memory, wherever in a value they sit."""

from __future__ import annotations

import gc
import os
import sys
import time

import numpy
import pytest
from hypothesis import given, settings
from strategies import Record, arrays, contents, same, tensors

from multipy_actors import _native
from multipy_actors.wire import copied, decode, encode

modest = settings(deadline=None, max_examples=150)


def travelled(value):
    return decode(*encode(value))


# NumPy -----------------------------------------------------------------------------------------------------


def same_memory(sent, received):
    return sent.__array_interface__["data"][0] == received.__array_interface__["data"][0]


@modest
@given(arrays())
def test_an_array_arrives_as_the_same_memory(array):
    for received in (travelled(array), travelled({"k": (array,)})["k"][0], travelled(Record(array)).name):
        assert same(array, received)
        # An array whose items have no size has no memory to share.
        assert array.dtype.itemsize == 0 or same_memory(array, received)


def test_a_write_to_an_array_is_seen_by_both():
    array = numpy.zeros(4)
    received = travelled(array[::-2])
    received[0] = 5
    array[1] = 6
    assert array.tolist() == [0, 6, 0, 5]
    assert received.tolist() == [5, 6]


def test_a_copied_array_shares_nothing_and_keeps_its_identity():
    array = numpy.zeros((3, 4)).T
    received = travelled([copied((array, array)), array])
    assert same(array, received[0][0])
    assert received[0][0] is received[0][1]
    assert not same_memory(array, received[0][0])
    assert same_memory(array, received[1])


@pytest.mark.parametrize(
    "array",
    [
        numpy.array([1, None, "x", [1]], dtype=object),
        numpy.ma.masked_array([1, 2], [True, False]),
        numpy.rec.array([(1, 2.0)], dtype=[("a", int), ("b", float)]),
        numpy.zeros((2, 2)).view(type("Own", (numpy.ndarray,), {})),
    ],
)
def test_arrays_that_cannot_be_shared_arrive_in_their_type(array):
    received = travelled([array])[0]
    assert type(received) is type(array)
    assert received.dtype == array.dtype
    assert received.tolist() == array.tolist()


def test_an_array_of_objects_shares_the_arrays_in_it():
    inner = numpy.arange(3)
    outer = numpy.empty(2, object)
    outer[:] = [inner, 1]
    assert same_memory(inner, travelled(outer)[0])


def test_an_array_met_twice_arrives_as_one_object():
    array = numpy.zeros(2)
    first, second = travelled([array, array])
    assert first is second
    record = travelled(Record(array, [array]))
    assert record.name is record.items[0]


def test_an_array_can_be_received_many_times_and_outlives_its_sender():
    array = numpy.arange(5)
    encoded = encode(array)
    received = [decode(*encoded) for _ in range(3)]
    expected = array.tolist()
    del array, encoded
    gc.collect()
    assert [one.tolist() for one in received] == [expected] * 3


# torch -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch")


@modest
@given(tensors())
def test_a_tensor_arrives_as_the_same_memory(torch, tensor):
    shares = not tensor.is_conj()
    for received in (travelled(tensor), travelled({"k": (tensor,)})["k"][0], travelled(Record(tensor)).name):
        assert type(received) is type(tensor)
        if shares:
            assert same(tensor, received)
            assert tensor.data_ptr() == received.data_ptr()
        else:
            assert contents(received) == contents(tensor)
            assert received.requires_grad == tensor.requires_grad
        assert received.is_leaf


def test_a_write_to_a_tensor_is_seen_by_both(torch):
    tensor = torch.zeros(3, 4)
    received = travelled(tensor.t())
    received[2, 1] = 5
    tensor[0, 0] = 6
    assert tensor[1, 2] == 5
    assert received[0, 0] == 6


def test_a_negated_view_arrives_with_its_value(torch):
    tensor = torch.tensor([1 + 2j]).conj().imag
    assert tensor.is_neg()
    assert travelled(tensor).tolist() == [-2.0]


def test_a_model_arrives_with_its_own_weights(torch):
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 3))
    model[2].weight = torch.nn.Parameter(model[0].weight.detach().t())
    model[0].twin = model[0].bias
    model.eval()
    received = travelled(model)
    sent_state, state = model.state_dict(), received.state_dict()
    assert list(state) == list(sent_state)
    assert all(state[name].data_ptr() == sent_state[name].data_ptr() for name in state)
    assert received[0].twin is received[0].bias
    assert {type(p) for p in received.parameters()} == {torch.nn.Parameter}
    example = torch.randn(2, 3)
    assert torch.equal(received(example), model(example))


def test_a_tensor_captured_by_a_closure_is_shared(torch):
    tensor = torch.zeros(2)
    assert travelled(lambda: tensor)().data_ptr() == tensor.data_ptr()


def test_attributes_of_a_tensor_are_kept(torch):
    for tensor in (torch.zeros(2), torch.nn.Parameter(torch.zeros(2)), torch.nn.Buffer(torch.zeros(2))):
        tensor.note = ["kept"]
        received = travelled([tensor])[0]
        assert type(received) is type(tensor)
        assert received.note == ["kept"]
        assert vars(received).keys() == vars(tensor).keys()
        assert received.data_ptr() == tensor.data_ptr()


def test_a_tensor_met_twice_arrives_as_one_object(torch):
    tensor = torch.zeros(2)
    first, (second,) = travelled([tensor, (tensor,)])
    assert first is second


def test_a_copied_tensor_shares_nothing(torch):
    tensor = torch.arange(4.0, requires_grad=True)
    received = travelled(copied({"k": [tensor]}))["k"][0]
    assert same(tensor, received)
    assert received.data_ptr() != tensor.data_ptr()


def test_sparse_meta_and_subclassed_tensors_arrive_in_their_kind(torch):
    class Own(torch.Tensor):
        pass

    sparse = torch.eye(3).to_sparse()
    meta = torch.empty(2, 3, device="meta")
    own = torch.arange(3.0).as_subclass(Own)
    received = travelled([sparse, meta, own])
    assert torch.equal(received[0].to_dense(), sparse.to_dense())
    assert received[0].layout is torch.sparse_coo
    assert (received[1].device.type, received[1].shape) == ("meta", (2, 3))
    assert type(received[2]) is Own
    assert received[2].tolist() == [0, 1, 2]


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch's own, of quantised tensors
def test_subclassed_and_quantised_tensors_and_storages_share_their_memory(torch):
    class Own(torch.Tensor):
        pass

    own = torch.arange(6.0).reshape(2, 3).t().as_subclass(Own)
    own.unit = "m"
    parameter = torch.nn.Parameter(torch.ones(2).as_subclass(Own))
    quantised = torch._empty_affine_quantized([4], scale=0.5, zero_point=1, dtype=torch.qint8)
    sparse = torch.eye(3).to_sparse()
    storage = torch.arange(4.0).untyped_storage()
    received = travelled([own, parameter, quantised, sparse, storage, torch.UntypedStorage(0)])
    assert type(received[0]) is Own and received[0].unit == "m" and torch.equal(received[0], own)
    assert received[0].stride() == own.stride() and received[0].data_ptr() == own.data_ptr()
    assert type(received[1]) is type(parameter) and received[1].data_ptr() == parameter.data_ptr()
    assert (received[2].dtype, received[2].q_scale(), received[2].q_zero_point()) == (torch.qint8, 0.5, 1)
    assert received[2].data_ptr() == quantised.data_ptr()
    assert received[3]._values().data_ptr() == sparse._values().data_ptr()
    assert (received[4].data_ptr(), received[4].nbytes()) == (storage.data_ptr(), 16)
    assert received[5].nbytes() == 0
    copy = travelled(copied(own))
    assert type(copy) is Own and copy.data_ptr() != own.data_ptr()


def test_memory_mapped_and_subclassed_arrays_share_their_memory(tmp_path):
    class Measured(numpy.ndarray):
        def __array_finalize__(self, source):
            self.unit = getattr(source, "unit", None)

    class Bare(numpy.ndarray):
        __slots__ = ()

    mapped = numpy.memmap(tmp_path / "numbers", "f4", "w+", shape=(8,))
    mapped[:] = range(8)
    frozen = numpy.memmap(tmp_path / "numbers", "f4", "r", offset=4)
    measured = numpy.arange(6.0).view(Measured)
    measured.unit = "m"
    records = numpy.rec.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")])
    sent = [mapped, mapped[2:7:2], frozen, measured[::-2], numpy.arange(3).view(Bare), records]
    for array, received in zip(sent, travelled(sent), strict=True):
        assert type(received) is type(array) and received.dtype == array.dtype
        assert received.tolist() == array.tolist() and received.flags.writeable == array.flags.writeable
        assert received.ctypes.data == array.ctypes.data
        assert getattr(received, "unit", None) == getattr(array, "unit", None)
        assert getattr(received, "filename", None) == getattr(array, "filename", None)
    masked = travelled(numpy.ma.array([1, 2], mask=[False, True]))
    assert masked.tolist() == [1, None]
    objects = travelled(numpy.array([1, "a"], dtype=object).view(Measured))
    assert type(objects) is Measured and objects.tolist() == [1, "a"]


def test_a_dtype_unknown_to_dlpack_travels_as_bytes(torch):
    tensor = torch.arange(4, dtype=torch.uint8).view(torch.bits8)
    received = travelled(tensor)
    assert received.dtype is torch.bits8
    assert received.data_ptr() == tensor.data_ptr()


def test_other_objects_of_torch_arrive(torch):
    for value in (torch.float16, torch.device("cpu"), torch.Size([1, 2]), torch.strided):
        assert same(value, travelled((value,))[0])


def test_the_encoded_size_of_a_tensor_is_independent_of_its_size(torch):
    small, large = encode((torch.zeros(2),))[0], encode((torch.zeros(1 << 22),))[0]
    assert len(large) == len(small)


def test_the_memory_of_a_tensor_is_freed_with_its_last_holder(torch):
    array = numpy.zeros(3)
    before = sys.getrefcount(array)
    for _ in range(100):
        travelled((torch.from_numpy(array), array))
    gc.collect()
    # The exporter's thread releases, or we do: whichever comes first to the queue of returns.
    deadline = time.monotonic() + 10
    while sys.getrefcount(array) != before and time.monotonic() < deadline:
        _native.drain_returns()
        os.sched_yield()
    assert sys.getrefcount(array) == before
