"""Reading streams, which are closed by whoever leaves them."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

__all__ = ["NOTHING", "aclose", "aiter_of", "amap", "anext_of", "closed", "joined"]

T = TypeVar("T")

# What comes after the last chunk.
NOTHING: Any = object()


async def amap(change: Callable[[T], T], chunks: AsyncIterator[T]) -> AsyncIterator[T]:
    """The same stream, each chunk changed."""
    async for chunk in chunks:
        yield change(chunk)


def joined(chunks: Sequence[Any]) -> Any:
    """All chunks as one; the last where they cannot be added, as LangChain does it."""
    whole = None
    for chunk in chunks:
        try:
            whole = chunk if whole is None else whole + chunk
        except TypeError:
            whole = chunk
    return whole


async def aiter_of(value: T) -> AsyncIterator[T]:
    """A stream of one chunk."""
    yield value


async def anext_of(chunks: AsyncIterator[Any]) -> Any:
    """The next chunk, or ``NOTHING``."""
    return await anext(chunks, NOTHING)


@asynccontextmanager
async def closed(chunks: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """A stream that is closed when whoever reads it leaves, and not some time later."""
    try:
        yield chunks
    finally:
        await aclose(chunks)


async def aclose(chunks: AsyncIterator[Any]) -> None:
    """Close a stream, if it can be."""
    if isinstance(chunks, AsyncGenerator):
        await chunks.aclose()
