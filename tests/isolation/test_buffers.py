"""bytes, bytearrays and memoryviews between the host and interpreters: what is copied, what is shared."""

import gc
import weakref

import pytest

import multipy_actors as multipy

LARGE = 1 << 20


class Keeper:
    """Holds on to what it is given."""

    def __init__(self):
        self.held = None

    def hold(self, value):
        self.held = value

    def show(self):
        return self.held

    def write(self, index, byte):
        self.held[index] = byte

    def describe(self):
        held = self.held
        return type(held).__name__, held.readonly, held.format, held.shape

    def drop(self):
        self.held = None
        gc.collect()


@pytest.fixture(scope="module")
def pool():
    with multipy.Pool(2) as made:
        yield made


@pytest.fixture
def keeper(pool):
    return multipy.remote(Keeper).options(pool=pool).remote()


@pytest.mark.parametrize("size", [0, 1, 100, LARGE])
@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_bytes_of_any_size_arrive_in_their_own_type(keeper, kind, size):
    sent = kind(b"\x07" * size)
    keeper.hold(sent)
    received = keeper.show()
    assert received == sent
    assert type(received) is kind


def test_large_bytes_arrive_from_any_depth_as_what_they_were(keeper):
    large = b"x" * LARGE
    sent = {"a": [1, (large, {bytearray(large).count(b"x"): bytearray(large)})], large: {large, b"small"}}
    keeper.hold(sent)
    received = keeper.show()
    assert received == sent
    assert type(received["a"][1][1][LARGE]) is bytearray


def test_large_bytes_beside_what_only_pickle_knows_arrive_as_what_they_were(keeper):
    sent = [b"x" * LARGE, 3 + 4j, slice(1, 2), bytearray(LARGE)]
    keeper.hold(sent)
    assert keeper.show() == sent


def test_a_list_in_a_circle_with_large_bytes_in_it_arrives(keeper):
    sent = [b"x" * LARGE]
    sent.append(sent)
    keeper.hold(sent)
    received = keeper.show()
    assert received[0] == sent[0]
    assert received[1] is received


def test_a_memoryview_shows_the_memory_of_its_sender(keeper):
    memory = bytearray(64)
    keeper.hold(memoryview(memory))
    keeper.write(5, 99)
    assert memory[5] == 99
    memory[6] = 98
    assert keeper.show()[6] == 98


def test_a_memoryview_made_in_an_interpreter_is_written_by_the_host(keeper):
    keeper.hold(memoryview(bytearray(LARGE)))
    view = keeper.show()
    view[LARGE - 1] = 42
    assert keeper.show()[LARGE - 1] == 42


def test_a_memoryview_keeps_format_shape_and_being_read_only(keeper):
    keeper.hold(memoryview(bytes(range(24))).cast("h", (3, 4)))
    assert keeper.describe() == ("memoryview", True, "h", (3, 4))
    with pytest.raises(TypeError):
        keeper.write((0, 0), 1)


def test_a_memoryview_with_gaps_arrives_with_the_same_contents(keeper):
    keeper.hold(memoryview(b"abcdef")[::2])
    assert keeper.show().tobytes() == b"ace"


def test_a_copied_memoryview_shares_nothing(keeper):
    memory = bytearray(64)
    keeper.hold(multipy.copied(memoryview(memory)))
    keeper.write(0, 1)
    assert memory[0] == 0


def test_what_a_view_looked_at_is_released_when_the_receiver_lets_go(keeper):
    class Memory(bytearray):
        pass

    memory = Memory(LARGE)
    gone = weakref.ref(memory)
    keeper.hold(memoryview(memory))
    del memory
    gc.collect()
    assert gone() is not None
    keeper.drop()
    keeper.show()  # a call drains what has come back
    gc.collect()
    assert gone() is None


def test_a_bytearray_can_be_resized_once_it_was_received(keeper):
    memory = bytearray(LARGE)
    keeper.hold(memory)
    keeper.show()
    memory.extend(b"more")
    assert len(memory) == LARGE + 4


@pytest.mark.parametrize(
    "unfit", [(number for number in [1]), [{"deep": (number for number in [1])}]], ids=["beside", "inside"]
)
def test_a_bytearray_can_be_resized_if_what_it_was_with_could_not_be_sent(keeper, unfit):
    memory = bytearray(LARGE)
    gc.disable()
    try:
        with pytest.raises(multipy.SerializationError, match="generator") as raised:
            keeper.hold([memory, unfit])
        del raised
        keeper.show()  # a call drains what has come back
        memory.extend(b"more")
    finally:
        gc.enable()


def test_a_view_from_an_interpreter_outlives_its_pool():
    with multipy.Pool(1) as pool:
        view = pool.submit(eval, "memoryview(bytearray(b'still here' * 10000))").result()
    assert view[:10].tobytes() == b"still here"
    assert view.nbytes == 100_000
