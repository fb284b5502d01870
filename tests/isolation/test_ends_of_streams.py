"""How streams end: closed, dropped, timed out, or with their actor or pool; the generator ends, too."""

import asyncio
import gc
from concurrent.futures import TimeoutError as FutureTimeoutError

import pytest
from gates import Gate
from sources import AsyncSource, Marks, Source

import multipy_actors as multipy


@pytest.fixture(params=[Source, AsyncSource], ids=["generator", "async generator"])
def source(request, pool):
    return request.param.options(pool=pool).remote()


def test_close_ends_the_generator_before_it_returns(source):
    marks = Marks()
    stream = source.watched.stream(marks)
    assert next(stream) == 0
    stream.close()
    assert marks.next() == "f"
    assert list(stream) == []
    stream.close()


def test_a_stream_that_is_dropped_ends_the_generator(source):
    marks = Marks()
    for item in source.watched.stream(marks):
        assert item == 0
        break
    gc.collect()
    assert marks.next() == "f"


def test_a_stream_that_is_closed_before_it_is_read_ends_as_well(source):
    marks = Marks()
    with source.watched.stream(marks) as stream:
        assert next(stream) == 0
    assert marks.next() == "f"
    source.watched.stream(marks, 0).close()


def test_aclose_ends_the_generator(source):
    async def read():
        async with source.watched.stream(marks) as stream:
            async for item in stream:
                assert item == 0
                break

    marks = Marks()
    asyncio.run(read())
    assert marks.next() == "f"


def test_close_raises_what_the_end_of_the_generator_raises(source):
    stream = source.fail_at_end.stream()
    assert next(stream) == 0
    with pytest.raises(LookupError, match="in finally"):
        stream.close()
    assert list(stream) == []


def test_close_does_not_raise_what_the_generator_raised_further_on_than_it_was_read(source):
    marks = Marks()
    stream = source.fail_further_on.stream(marks)
    assert next(stream) == 0
    assert marks.next() == "f"
    stream.close()
    assert list(stream) == []


def test_the_value_that_a_generator_returns_is_dropped(pool):
    source = Source.options(pool=pool).remote()
    assert list(source.returns.stream()) == [1]
    assert list(source.nothing.stream()) == []


def test_killing_the_actor_closes_its_streams(source):
    marks = Marks()
    stream = source.watched.stream(marks)
    assert next(stream) == 0
    multipy.kill(source)
    assert marks.next() == "f"
    with pytest.raises(multipy.ActorClosedError):
        for _ in stream:
            pass


def test_killing_interrupts_a_generator_that_runs(pool):
    source = Source.options(pool=pool).remote()
    with Gate() as gate:
        stream = source.spin.stream(gate)
        assert next(stream) == 1
        gate.arrivals()
        multipy.kill(source)
        with pytest.raises(multipy.ActorClosedError):
            next(stream)


def test_unloading_the_actor_closes_its_streams(source):
    marks = Marks()
    stream = source.watched.stream(marks)
    assert next(stream) == 0
    source.unload()
    assert marks.next() == "f"
    with pytest.raises(multipy.ActorClosedError):
        for _ in stream:
            pass


def test_a_stream_keeps_its_actor(pool):
    stream = Source.options(pool=pool).remote().count.stream(500)
    gc.collect()
    assert list(stream) == list(range(500))


def test_the_timeout_option_bounds_the_wait_for_each_piece(pool):
    source = AsyncSource.options(pool=pool, timeout=0.2).remote()
    stream = source.wait.stream(Marks())
    assert next(stream) == 1
    with pytest.raises(FutureTimeoutError):
        next(stream)


def test_a_pool_closes_its_open_streams_at_its_end(request):
    marks = Marks()
    with multipy.Pool(1) as pool:
        streams = [
            cls.options(pool=pool).remote().watched.stream(marks)
            for cls in (Source, AsyncSource, Source, AsyncSource)
        ]
        assert [next(stream) for stream in streams] == [0] * 4
    assert [marks.next() for _ in streams] == ["f"] * 4
    for stream in streams:
        with pytest.raises(multipy.ActorClosedError):
            for _ in stream:
                pass
