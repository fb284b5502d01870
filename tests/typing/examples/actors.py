"""What mypy and pyright must make of actors and handles. Checked by test_checkers.py, never run.

An `ignore` comment says that its line is an error: both checkers report those that are not needed.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Generator, Iterator
from dataclasses import dataclass
from typing import Any

from typing_extensions import assert_type

import multipy_actors as multipy
from multipy_actors.actors.handle import RemoteMethod
from multipy_actors.actors.stream import Stream


class Embedder(multipy.Actor):
    def __init__(self, name: str, size: int = 384) -> None:
        self.name = name

    def embed(self, texts: list[str], *, normalise: bool = True) -> list[float]:
        return []

    async def fetch(self, url: str) -> bytes:
        return b""

    @property
    def ready(self) -> bool:
        return True


class Multilingual(Embedder):
    def languages(self) -> set[str]:
        return set()


@dataclass
class Counter(multipy.Actor):
    start: int
    step: int = 1

    def add(self) -> int:
        return self.start + self.step


class Writer(multipy.Actor):
    def words(self, count: int) -> Iterator[str]:
        yield "word"

    def lines(self, count: int) -> Generator[bytes, None, int]:
        yield b"line"
        return 1

    async def tokens(self) -> AsyncIterator[int]:
        yield 1

    async def chunks(self) -> AsyncGenerator[float, None]:
        yield 1.0


class Classifier(multipy.Actor):
    @multipy.batch
    def classify(self, texts: list[str]) -> list[int]:
        return [len(text) for text in texts]

    @multipy.batch(max_batch_size=8, batch_wait=0.01)
    async def classify_later(self, texts: list[str], *, top: int = 1) -> list[int]:
        return [top for _ in texts]


@multipy.remote
class Both(multipy.Actor):
    """The decorator changes nothing for a checker: the class stays a class."""


# Making actors ---------------------------------------------------------------------------------------------

assert_type(Embedder.remote("minilm"), multipy.ReplicatedObj[Embedder])
assert_type(Multilingual.remote("minilm", size=3), multipy.ReplicatedObj[Multilingual])
assert_type(Counter.remote(start=1), multipy.ReplicatedObj[Counter])
assert_type(Both.remote(), multipy.ReplicatedObj[Both])
assert_type(Both(), Both)
assert_type(Embedder("minilm").embed(["text"]), list[float])
assert_type(Embedder.options(replicas="all", name="minilm").remote("minilm"), multipy.ReplicatedObj[Embedder])
assert_type(
    Embedder.options(timeout=1.5).options(max_pending=8, on_full="raise").remote("minilm"),
    multipy.ReplicatedObj[Embedder],
)

Embedder.remote()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Embedder.remote(384)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Counter.remote("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Embedder.options().remote(384)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Embedder.options(replica=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
Embedder.options(on_full="drop")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Embedder.options(timeout="1 s")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

# A batched method stays what it is.
assert_type(Classifier().classify(["text"]), list[int])
assert_type(Classifier.options(max_batch_size=4, batch_wait=None).remote(), multipy.ReplicatedObj[Classifier])
numbers: Coroutine[Any, Any, list[int]] = Classifier().classify_later(["text"], top=2)
Classifier().classify(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
multipy.batch(3)  # type: ignore[call-overload]  # pyright: ignore
multipy.batch(max_batch_size="3")  # type: ignore[call-overload]  # pyright: ignore
multipy.batch(size=3)  # type: ignore[call-overload]  # pyright: ignore

# Handles ---------------------------------------------------------------------------------------------------

handle = Embedder.remote("minilm")
assert_type(handle.on(0), multipy.ReplicatedObj[Embedder])
assert_type(handle.replicas, int)
assert_type(handle.interpreters, list[multipy.Interpreter])

# Attributes of a handle are never an error, ...
assert_type(handle.embed, Any)
assert_type(handle.ready, Any)
ready: bool = handle.ready
vectors: list[float] = handle.embed(["text"])

# ... and what is taken by its method is checked.
assert_type(handle[Embedder.embed](["text"]), list[float])
assert_type(handle[Embedder.embed].submit(["text"], normalise=False), multipy.Future[list[float]])
assert_type(handle[Embedder.embed].submit(["text"]).result(timeout=1.0), list[float])
assert_type(handle[Embedder.fetch].submit("https://example.org"), multipy.Future[bytes])
assert_type(handle[Embedder.fetch]("https://example.org"), bytes)
assert_type(handle.broadcast[Embedder.embed].submit(["text"]), list[multipy.Future[list[float]]])
assert_type(list(handle[Embedder.embed].map([["text"], ["more"]])), list[list[float]])
assert_type(Multilingual.remote("minilm")[Embedder.embed](["text"]), list[float])
assert_type(Multilingual.remote("minilm")[Multilingual.embed](["text"]), list[float])
assert_type(handle.on(1)[Embedder.embed](["text"]), list[float])

handle[Embedder.embed].submit("text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
handle[Embedder.embed].submit()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
handle[Embedder.embed].submit(["text"], normalize=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
handle[Embedder.embet]  # type: ignore[attr-defined]  # pyright: ignore
handle[Multilingual.languages]  # type: ignore[index]  # pyright: ignore
handle[0]  # type: ignore[call-overload]  # pyright: ignore


def search(embed: RemoteMethod[[list[str]], list[float]], by: multipy.ReplicatedObj[Embedder]) -> list[float]:
    """Both can be named in signatures."""
    return embed(["text"]) or by[Embedder.embed](["text"])


writer = Writer.remote()
assert_type(writer[Writer.words].stream(3), Stream[str])
assert_type(writer[Writer.lines].stream(count=3), Stream[bytes])
assert_type(writer[Writer.tokens].stream(), Stream[int])
assert_type(writer[Writer.chunks].stream(), Stream[float])
assert_type(list(writer[Writer.words].stream(3)), list[str])
writer[Writer.words].stream("3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
writer[Writer.words].submit(3)  # type: ignore[attr-defined]  # pyright: ignore


async def awaited() -> None:
    async for token in writer[Writer.tokens].stream():
        assert_type(token, int)
    assert_type(await handle[Embedder.embed].submit(["text"]), list[float])


with handle as entered:
    assert_type(entered, Any)

assert_type(multipy.replicate(Counter(1)), multipy.ReplicatedObj[Counter])
assert_type(multipy.replicate(Counter(1))[Counter.add](), int)
assert_type(multipy.get_actor("minilm"), multipy.ReplicatedObj[Any])
multipy.kill(handle)
multipy.kill(Embedder)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
