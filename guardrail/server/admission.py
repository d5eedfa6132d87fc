"""How many requests are let in at once, and that none runs for a client that has left."""

import asyncio
import math
from collections.abc import Coroutine
from typing import Any, TypeVar

from starlette.requests import Request

from guardrail.server.http_boundary import note
from guardrail.server.http_errors import ApiError, client_gone

__all__ = ["Admission", "while_connected"]

T = TypeVar("T")
# How much the latest request says of how long the next will take.
_WEIGHT = 0.2
_LONGEST_WAIT_S = 60


class Place:
    """The place of one request among those that run and wait; given back once."""

    def __init__(self, admission: "Admission") -> None:
        self._admission: Admission | None = admission
        self._began = asyncio.get_running_loop().time()

    def leave(self) -> None:
        """Give the place back."""
        if self._admission is not None:
            self._admission.left(asyncio.get_running_loop().time() - self._began)
            self._admission = None


class Admission:
    """Lets in as many requests as may run and wait at once.

    Args:
        most: How many.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._inside = 0
        self._usual_s = 1.0

    @property
    def inside(self) -> int:
        """How many requests run and wait."""
        return self._inside

    def enter(self) -> Place:
        """Take a place.

        Raises:
            ApiError: There is none; it says when to come again.
        """
        if self._inside >= self._most:
            wait = min(_LONGEST_WAIT_S, max(1, math.ceil(self._usual_s)))
            raise ApiError(
                429,
                f"{self._most} requests run and wait, as many as this server takes. Try again later.",
                kind="rate_limit_error",
                code="server_busy",
                headers={"retry-after": str(wait)},
            )
        self._inside += 1
        return Place(self)

    def left(self, seconds: float) -> None:
        """Take note that a request is done.

        Args:
            seconds: How long it was here.
        """
        self._inside -= 1
        self._usual_s += _WEIGHT * (seconds - self._usual_s)


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Give what comes of some work, and give it up where the client leaves meanwhile.

    Args:
        request: The request, whose body has been read.
        work: The work; cancelled where the client leaves, or who waits here is cancelled.

    Raises:
        ApiError: The client left.
    """
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            note(request.scope, outcome="client left")
            raise client_gone()
        return task.result()
    finally:
        for one in (task, gone):
            one.cancel()
            one.add_done_callback(_noted)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _noted(task: "asyncio.Future[Any]") -> None:
    # Asked for, so that asyncio does not log an error that nobody is left to be told of.
    _ = task.cancelled() or task.exception()
