"""Bodies of requests: JSON that means one thing, read within a time."""

import asyncio
from typing import TypeVar

from pydantic import BaseModel
from starlette.requests import Request

from guardrail.errors import RecordError
from guardrail.server.http_errors import ApiError
from guardrail.utils.json_lines import json_value

__all__ = ["Asked", "read_body"]

Asked = TypeVar("Asked", bound=BaseModel)


async def read_body(request: Request, kind: type[Asked], within: float) -> Asked:
    """Read the body of a request.

    Args:
        request: The request.
        kind: What the body is.
        within: Seconds in which it must have come.

    Raises:
        ApiError: It is not sent as JSON, comes too slowly, or can be read in several ways.
        ValidationError: It is not of that kind.
        ClientDisconnect: The client left before its end.
    """
    sent = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if sent != "application/json":
        raise ApiError(415, "Send the body as JSON: Content-Type: application/json.")
    try:
        async with asyncio.timeout(within):
            body = await request.body()
    except TimeoutError:
        raise ApiError(
            408, "The body did not come in time.", code="timeout", headers={"connection": "close"}
        ) from None
    asked = kind.model_validate_json(body)
    # pydantic takes the last of several values of one key, another reader of the same body the first; and
    # takes infinities where a schema of the client's has them.
    try:
        json_value(body.decode())
    except RecordError as error:
        words = str(error).replace("The line", "The body", 1)
        raise ApiError(400, words, code="invalid_json") from None
    return asked
