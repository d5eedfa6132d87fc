"""Connections that cannot be held for ever: by who sends slowly, does not read, or opens too many."""

import asyncio
import json
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol

from guardrail.server.http_errors import ApiError

__all__ = ["BoundedConnection"]

# In which of its states the protocol may still begin a response.
_MAY_RESPOND = (h11.IDLE, h11.SEND_RESPONSE)


class BoundedConnection(H11Protocol):
    """uvicorn's HTTP/1.1 connection, with an end to every wait for the client.

    While a request is answered, its own limits hold. At all other times it is the client's turn: to send the
    next request to the end of its headers, and whatever is left of a body that nobody read.

    Attributes:
        headers_within: Seconds in which a whole head must have come, from the connection's or the last
            response's begin on; an idle connection is closed earlier, by uvicorn.
        read_within: Seconds in which a client must read some of what waits to be sent.
        most: Connections that are open at once; further ones are told to come again.
    """

    headers_within = 10.0
    read_within = 30.0
    most = 900

    _turn: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request; or end, where there are too many connections."""
        super().connection_made(transport)
        if len(self.connections) > self.most:
            self._refuse(
                ApiError(
                    503,
                    f"{self.most} connections are open, as many as this server takes. Try again later.",
                    kind="rate_limit_error",
                    code="too_many_connections",
                    headers={"retry-after": "1"},
                )
            )
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Read on, unless the connection is about to close."""
        if not self.transport.is_closing():
            super().data_received(data)
            self._watch()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        for timer in (self._turn, self._unread):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Give the client some time to read."""
        super().pause_writing()
        if self._unread is None:
            self._unread = self.loop.call_later(self.read_within, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on: it read."""
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def send_400_response(self, msg: str) -> None:
        """Tell the client that its request is no HTTP, in the form that all errors have here."""
        self._refuse(ApiError(400, msg, code="invalid_http"))

    def _watch(self) -> None:
        is_clients_turn = self.cycle is None or self.cycle.response_complete
        if not is_clients_turn and self._turn is not None:
            self._turn.cancel()
            self._turn = None
        elif is_clients_turn and self._turn is None:
            self._turn = self.loop.call_later(self.headers_within, self._late)

    def _late(self) -> None:
        if self.transport.is_closing():
            # It was to close once the client had read the rest.
            self.transport.abort()
            return
        self._turn = self.loop.call_later(self.headers_within, self.transport.abort)
        if self.conn.trailing_data[0]:
            self._refuse(ApiError(408, "The request did not come in time.", code="timeout"))
        else:
            # Of an idle connection nobody waits for an answer.
            self.transport.close()

    def _refuse(self, error: ApiError) -> None:
        """Answer with an error where that is still possible, and close."""
        if self.conn.our_state in _MAY_RESPOND:
            body = json.dumps(error.as_plain()).encode()
            headers = {
                **error.headers,
                "content-type": "application/json",
                "content-length": str(len(body)),
                "connection": "close",
            }
            events: list[Any] = [
                h11.Response(
                    status_code=error.status,
                    headers=[*headers.items()],
                    reason=STATUS_PHRASES[error.status],
                ),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ]
            for event in events:
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
