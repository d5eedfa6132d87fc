"""Keep a chain and its callers apart: copied inputs, errors without their cause, streams that are closed."""

import copy
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

from langchain_core.runnables import Runnable
from pydantic import BaseModel

__all__ = ["NOTHING", "aclose", "aiter_of", "amap", "anext_of", "bare", "closed", "copied", "joined"]


T = TypeVar("T")
E = TypeVar("E", bound=BaseException)


def copied(value: T) -> T:
    """A copy of everything that can be written into, as deep as lists, dicts, sets and messages go.

    Other objects (clients, files, tensors) stay the same: they are no data.
    """
    return _copied(value, {})  # type: ignore[no-any-return]


def _copied(value: Any, known: dict[int, Any]) -> Any:
    if id(value) in known:
        return known[id(value)]
    twin: Any
    if isinstance(value, dict):
        twin = known[id(value)] = copy.copy(value)
        for key, one in value.items():
            twin[key] = _copied(one, known)
        return twin
    if isinstance(value, list | deque):
        twin = known[id(value)] = copy.copy(value)
        for at, one in enumerate(value):
            twin[at] = _copied(one, known)
        return twin
    if isinstance(value, set | bytearray):
        return copy.copy(value)
    if isinstance(value, tuple):
        parts = [_copied(one, known) for one in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if isinstance(value, Runnable):
        return value
    if isinstance(value, BaseModel):
        twin = known[id(value)] = value.model_copy()
        for values in (twin.__dict__, twin.__pydantic_extra__ or {}):
            for key, one in values.items():
                values[key] = _copied(one, known)
        return twin
    if is_dataclass(value) and not isinstance(value, type):
        twin = known[id(value)] = copy.copy(value)
        for one in fields(value):
            # Also of a frozen one: nobody else has the copy yet.
            object.__setattr__(twin, one.name, _copied(getattr(value, one.name), known))
        return twin
    return value


def bare(error: E) -> E:
    """An error without the frames that it went through, and without the errors that it came of.

    What it says itself stays. For errors that are passed on although an answer is withheld.
    """
    error.__traceback__ = error.__cause__ = error.__context__ = None
    return error


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
