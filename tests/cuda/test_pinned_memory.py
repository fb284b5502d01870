"""Pinned memory is not used again while a GPU still reads or writes it, whoever told the GPU to."""

from __future__ import annotations

import gc

import pytest

import multipy_actors as multipy

torch = pytest.importorskip("torch")
numpy = pytest.importorskip("numpy")

_ITEMS = 4 << 20
_ROUNDS = 20
_PAUSE = 60_000_000  # clock cycles: some 30 ms, in which the memory would be written to again


@multipy.remote
class Loader:
    """Makes pinned buffers; what it is given back it fills again at once."""

    def begin(self):
        torch.zeros(1, device="cuda")

    def make(self, value):
        return torch.empty(_ITEMS, pin_memory=True).fill_(value)

    def make_array(self, value):
        return self.make(value).numpy()

    def make_bytes(self, value):
        return memoryview(self.make(value).numpy()).cast("B")

    def stream(self, values):
        for value in values:
            yield self.make(value)

    async def make_slowly(self, value):
        return self.make(value)

    def copy(self, pinned):
        torch.cuda._sleep(_PAUSE)
        self.copied = pinned.to("cuda", non_blocking=True)

    def copy_on_the_side(self, pinned):
        side = torch.cuda.Stream()
        with torch.cuda.stream(side):
            torch.cuda._sleep(_PAUSE)
            self.copied = pinned.to("cuda", non_blocking=True)

    def pinned(self, tensor):
        return tensor.is_pinned()

    def extent(self):
        torch.cuda.synchronize()
        return self.copied.min().item(), self.copied.max().item()


@pytest.fixture
def loader(pool):
    torch.zeros(1, device="cuda")
    return Loader.options(pool=pool, interpreter=0).remote()


def late_copies(give, as_tensor, again):
    """Copy what `give` returns late, let go of it, have its maker use memory again; how many were spoilt."""
    spoilt = 0
    for number in range(_ROUNDS):
        pinned = give(float(number))
        torch.cuda._sleep(_PAUSE)
        copy = as_tensor(pinned).to("cuda", non_blocking=True)
        del pinned
        for _ in range(3):
            again(1000.0 + number)
        torch.cuda.synchronize()
        spoilt += copy.min().item() != number or copy.max().item() != number
    return spoilt


def test_a_pinned_result_is_not_written_again_while_the_hosts_gpu_work_reads_it(loader):
    assert late_copies(loader.make, lambda tensor: tensor, loader.make) == 0


def test_a_numpy_view_of_pinned_memory_is_as_safe(loader):
    assert late_copies(loader.make_array, torch.from_numpy, loader.make) == 0


def test_bytes_in_pinned_memory_are_as_safe(loader):
    def as_tensor(data):
        return torch.frombuffer(data, dtype=torch.float32)

    assert late_copies(loader.make_bytes, as_tensor, loader.make) == 0


def test_what_a_stream_yields_is_as_safe(loader):
    values = loader.stream.stream([float(number) for number in range(_ROUNDS)])
    assert late_copies(lambda _: next(values), lambda tensor: tensor, loader.make) == 0


def test_what_a_coroutine_returns_is_as_safe(pool, loader):
    assert late_copies(loader.make_slowly, lambda tensor: tensor, loader.make_slowly) == 0


@pytest.mark.parametrize("way", ["copy", "copy_on_the_side"])
@pytest.mark.parametrize("maker", ["the host", "an interpreter"])
def test_a_pinned_argument_is_not_written_again_while_its_receivers_gpu_work_reads_it(pool, way, maker):
    reader = Loader.options(pool=pool, interpreter=1).remote()
    reader.begin()
    other = Loader.options(pool=pool, interpreter=0).remote()
    make = (
        other.make if maker == "an interpreter" else lambda v: torch.empty(_ITEMS, pin_memory=True).fill_(v)
    )
    for number in range(_ROUNDS):
        pinned = make(float(number))
        getattr(reader, way)(pinned)
        del pinned
        for _ in range(3):
            make(1000.0 + number)
        assert reader.extent() == (number, number)


def test_pinned_memory_outlives_the_interpreter_it_was_made_in():
    with multipy.Pool(1) as pool:
        pinned = Loader.options(pool=pool).remote().make(7.0)
    copy = pinned.to("cuda", non_blocking=True)
    assert (pinned == 7).all() and copy.min().item() == 7
    del pinned
    gc.collect()
    assert copy.max().item() == 7


def test_an_interpreter_that_has_not_begun_to_use_cuda_sees_that_memory_is_pinned():
    torch.zeros(1, device="cuda")
    with multipy.Pool(1) as pool:
        loader = Loader.options(pool=pool).remote()
        assert not loader.pinned(torch.ones(3))
        assert loader.pinned(torch.ones(3).pin_memory())


def test_a_capture_of_a_graph_is_not_spoilt_by_pinned_memory_that_is_let_go_of(pool, loader):
    counter, graph = torch.zeros(1, device="cuda"), torch.cuda.CUDAGraph()
    kept = [loader.make(float(number)) for number in range(3)]
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        counter += 1
        del kept[:]
        gc.collect()
        counter += 1
    graph.replay()
    assert counter.item() == 2
    assert late_copies(loader.make, lambda tensor: tensor, loader.make) == 0


@multipy.remote
class Capturer:
    """Captures a graph in its interpreter, until it is told to end."""

    def capture(self, gate):
        counter, graph = torch.zeros(1, device="cuda"), torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            counter += 1
            gate.stop()
            counter += 1
        graph.replay()
        return counter.item()


def test_a_capture_in_an_interpreter_is_not_spoilt_either(pool, loader, gate):
    capturer = Capturer.options(pool=pool, interpreter=1).remote()
    pinned = loader.make(1.0)
    captured = capturer.capture.submit(gate)
    gate.arrivals()
    del pinned
    gc.collect()
    gate.open()
    assert captured.result() == 2
