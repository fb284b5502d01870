"""Streams: items in their order and as soon as they are there, back-pressure and errors."""

import asyncio

import pytest
from gates import Gate
from sources import AsyncSource, Marks, Source

import multipy_actors as multipy

PATIENCE = 60
AHEAD = 200  # items that a generator may be ahead of its reader


@multipy.remote
class Reader:
    def read(self, source, n):
        return list(source.count.stream(n))


@pytest.fixture(params=[Source, AsyncSource], ids=["generator", "async generator"])
def source(request, pool):
    return request.param.options(pool=pool).remote()


@pytest.mark.parametrize("count", [0, 1, 2, 1000])
def test_all_items_arrive_in_their_order(source, count):
    assert list(source.count.stream(count)) == list(range(count))


def test_a_stream_is_an_async_iterator_too(source):
    async def read():
        return [item async for item in source.count.stream(300)]

    assert asyncio.run(read()) == list(range(300))


def test_an_item_arrives_before_the_generator_goes_on(source):
    with Gate() as first, Gate() as second:
        stream = source.in_steps.stream([first, second])
        for i, gate in enumerate([first, second]):
            assert [next(stream) for _ in range(4)] == [
                (i, x) for x in ("first", "second", "third", "fourth")
            ]
            gate.open()
        assert list(stream) == []


def test_the_generator_does_not_run_far_ahead_of_its_reader(source):
    stream = source.count.stream()
    read = [next(stream) for _ in range(500)]
    assert read == list(range(500))
    multipy.get([source.how_many.submit() for _ in range(20)], timeout=PATIENCE)
    assert source.how_many() <= 500 + AHEAD
    stream.close()


def test_what_the_generator_raises_comes_after_its_items(source):
    stream = source.fail_after.stream(100)
    assert [next(stream) for _ in range(100)] == list(range(100))
    with pytest.raises(ValueError, match="after the items") as raised:
        next(stream)
    assert "fail_after" in str(raised.value.__cause__)
    assert list(stream) == []


def test_what_is_wrong_with_the_arguments_is_raised_when_it_is_read(source):
    with pytest.raises(TypeError, match="unexpected keyword"):
        next(source.count.stream(colour="red"))


def test_an_item_is_what_it_was_when_it_was_yielded(source):
    assert [len(items) for items in source.same_list.stream(100)] == list(range(1, 101))


def test_an_item_that_cannot_be_sent_is_an_error_after_those_before_it(source):
    stream = source.unsendable_third.stream()
    assert [next(stream), next(stream)] == [1, 2]
    with pytest.raises(multipy.SerializationError, match="item"):
        next(stream)


def test_who_gives_up_on_an_item_may_come_back_for_it(pool):
    async def read():
        stream = source.in_steps.stream([gate])
        items = [await anext(stream) for _ in range(4)]
        assert len(items) == 4
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(anext(stream), 0.05)
        gate.open()
        return [item async for item in stream]

    source = AsyncSource.options(pool=pool).remote()
    with Gate() as gate:
        assert asyncio.run(read()) == []


def test_other_calls_go_on_while_a_stream_is_read(source):
    stream = source.count.stream()
    next(stream)
    assert source.how_many() >= 1
    other = source.same_list.stream(3)
    assert [next(stream), len(next(other)), next(stream)] == [1, 1, 2]
    stream.close()


def test_arrays_in_a_stream_are_shared(pool):
    source = Source.options(pool=pool).remote()
    for i, array in enumerate(source.arrays.stream()):
        array[i] = i + 1
    assert source.touched() == [1, 2, 3]


def test_an_async_generator_runs_in_one_task(pool):
    source = AsyncSource.options(pool=pool).remote()
    assert len(set(source.one_task.stream())) == 1


def test_a_plain_generator_of_an_async_actor_streams(pool):
    assert list(AsyncSource.options(pool=pool).remote().plain_generator.stream(500)) == list(range(500))


def test_closing_cancels_an_async_generator_that_waits(pool):
    source, marks = AsyncSource.options(pool=pool).remote(), Marks()
    stream = source.wait.stream(marks)
    assert next(stream) == 1
    assert marks.next() == "w"
    stream.close()
    assert marks.next() == "c"


def test_streams_are_read_inside_interpreters(pool, source):
    reader = Reader.options(pool=pool, interpreter=1).remote()
    there = type_of(source).options(pool=pool, interpreter=0).remote()
    assert reader.read(there, 200) == list(range(200))
    asynchronous = AsyncSource.options(pool=pool, interpreter=1).remote()
    assert asynchronous.read_another(there, 200) == list(range(200))


def type_of(handle):
    return AsyncSource if "AsyncSource" in repr(handle) else Source


def test_a_stream_of_replicas_stays_with_one_of_them(pool):
    source = Source.options(pool=pool, replicas="all").remote()
    letters = "abcdefgh" * 40
    streams = [source.letters.stream(letters) for _ in range(4)]
    assert ["".join(stream) for stream in streams] == [letters] * 4
    assert list(source.on(1).letters.stream("ab")) == ["a", "b"]


def test_a_generator_is_not_called_without_stream(pool):
    source = Source.options(pool=pool).remote()
    for wrong in (source.count, source.count.submit, source.broadcast.count.submit):
        with pytest.raises(TypeError, match=r"use handle\.count\.stream"):
            wrong(1)
    with pytest.raises(TypeError, match="is a method"):
        source.plain.stream()
    with pytest.raises(TypeError, match="is a coroutine"):
        AsyncSource.options(pool=pool).remote().coroutine.stream()


def test_a_stream_has_one_reader_at_a_time(pool):
    async def read_twice():
        reading = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="being read already"):
            await anext(stream)
        await source.open.submit()
        with pytest.raises(StopAsyncIteration):
            await reading

    source = AsyncSource.options(pool=pool).remote()
    stream = source.wait.stream(Marks())
    assert next(stream) == 1
    asyncio.run(read_twice())


def test_a_stream_does_not_travel(pool):
    stream = Source.options(pool=pool).remote().count.stream(3)
    with pytest.raises(multipy.SerializationError, match="argument 0"):
        pool.submit(list, stream)
    assert list(stream) == [0, 1, 2]
