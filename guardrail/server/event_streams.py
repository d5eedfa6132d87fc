"""Streams of server-sent events: a request that runs in a task of its own, and the response that reads it."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Generic, TypeVar

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

__all__ = ["DONE", "KEEP_ALIVE", "EventStream", "Feed", "event"]

T = TypeVar("T")
DONE = "data: [DONE]\n\n"
# A comment, which clients pass over.
KEEP_ALIVE = ": keep-alive\n\n"


def event(data: Mapping[str, Any]) -> str:
    """An event with a value as JSON."""
    # In ASCII: some clients take U+2028 for the end of a line.
    return f"data: {json.dumps(data, allow_nan=False, separators=(',', ':'))}\n\n"


class Feed(Generic[T]):
    """What comes of some work, piece by piece, while it runs.

    Args:
        work: Does the work; it is told where pieces go. What it raises is read as the last piece.
        ended: Called when it has ended, also where it never began.
    """

    def __init__(
        self, work: Callable[[Callable[[T], None]], Awaitable[None]], ended: Callable[[], None]
    ) -> None:
        self._pieces: asyncio.Queue[T | Exception] = asyncio.Queue()
        self._task = asyncio.ensure_future(self._run(work))
        self._task.add_done_callback(lambda _: ended())

    async def _run(self, work: Callable[[Callable[[T], None]], Awaitable[None]]) -> None:
        try:
            await work(self._pieces.put_nowait)
        except Exception as error:  # noqa: BLE001  (raised where the pieces are read)
            self._pieces.put_nowait(error)

    async def next(self, within: float) -> T | None:
        """The next piece; None where there is none in time.

        Args:
            within: Seconds to wait.
        """
        try:
            async with asyncio.timeout(within):
                piece = await self._pieces.get()
        except TimeoutError:
            return None
        if isinstance(piece, Exception):
            raise piece
        return piece

    def close(self) -> None:
        """Give the work up, if it still runs."""
        self._task.cancel()


class EventStream(StreamingResponse):
    """A response that gives up its work when it ends, however it does.

    Args:
        events: The events.
        feed: Where they come from.
        headers: Further headers.
    """

    def __init__(self, events: AsyncIterator[str], feed: Feed[Any], headers: Mapping[str, str]) -> None:
        super().__init__(events, headers=dict(headers), media_type="text/event-stream")
        self._feed = feed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the events until they end or the client leaves."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            # Also where not one of them was read.
            self._feed.close()
