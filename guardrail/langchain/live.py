"""A request whose draft is shown while it grows: the pieces as they come, and at the end the answer."""

import asyncio
import queue
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextvars import copy_context
from typing import TypeVar

__all__ = ["Ask", "alive", "live"]

T = TypeVar("T")

# Runs the request: is told where pieces go, and what to ask whether anybody still listens.
Ask = Callable[[Callable[[str], None], Callable[[], bool]], T]


def live(ask: Ask[T]) -> Generator[str | T]:
    """Give the pieces of a draft, and at last what comes of the request.

    It runs in a thread of its own. What goes wrong there is raised here at once; where nobody goes on
    reading, the model is given up at the next token.
    """
    pieces: queue.SimpleQueue[tuple[str, str | T | BaseException]] = queue.SimpleQueue()
    gone = threading.Event()

    def run() -> None:
        try:
            pieces.put(("end", ask(lambda piece: pieces.put(("piece", piece)), lambda: not gone.is_set())))
        except BaseException as error:  # noqa: BLE001  (raised where the pieces are read)
            pieces.put(("error", error))

    context = copy_context()
    threading.Thread(target=context.run, args=(run,), daemon=True, name="guardrail-stream").start()
    try:
        while True:
            kind, value = pieces.get()
            if isinstance(value, BaseException):
                raise value
            yield value
            if kind == "end":
                return
    finally:
        gone.set()


async def alive(ask: Callable[[Callable[[str], None]], Awaitable[T]]) -> AsyncGenerator[str | T]:
    """The same within an event loop: the request is a task of it."""
    loop = asyncio.get_running_loop()
    pieces: asyncio.Queue[str | None] = asyncio.Queue()
    tell = pieces.put_nowait

    def ended(task: "asyncio.Future[T]") -> None:
        # Asked for, so that nobody is warned of an error that nobody is left to be told of.
        _ = task.cancelled() or task.exception()
        tell(None)

    task = asyncio.ensure_future(ask(lambda piece: _told(loop, tell, piece)))
    task.add_done_callback(ended)
    try:
        while (piece := await pieces.get()) is not None:
            yield piece
        yield await task
    finally:
        task.cancel()


def _told(loop: asyncio.AbstractEventLoop, tell: Callable[[str], None], piece: str) -> None:
    try:
        loop.call_soon_threadsafe(tell, piece)
    except RuntimeError as error:
        # The loop was closed: nobody reads.
        raise asyncio.CancelledError from error
