"""Errors in the form that OpenAI's clients read, without a word of what was asked or answered."""

import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from guardrail.errors import OptionError, PromptError, ResponseError
from guardrail.server.openai_protocol import KNOWN_PARAMETERS

__all__ = ["ApiError", "as_api_error", "client_gone", "error_response", "no_route", "refused"]

_FIRST_WORD = re.compile(r"[a-z_]+")
# What pydantic calls the forms of a choice.
_FORMS = ("int", "str", "NamedTool")
# Options of a call whose names are others here, or parts of others.
_PARAMETERS = {"json_schema": "response_format"}


class ApiError(Exception):
    """A request that gets an error in place of an answer.

    Attributes:
        status: The HTTP status.
        message: What was wrong and what to do, for the client.
        kind: OpenAI's ``type``.
        param: The parameter that is at fault.
        code: OpenAI's ``code``.
        headers: Further headers of the response.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.kind = status, message, kind
        self.param, self.code, self.headers = param, code, dict(headers or {})

    def as_plain(self) -> dict[str, Any]:
        """The body of the response."""
        told = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return {"error": told}


def client_gone() -> ApiError:
    """The client left before there was an answer; nobody is told, but the log."""
    return ApiError(499, "The client closed the connection.", code="client_closed_request")


def error_response(error: ApiError) -> JSONResponse:
    """The response that tells a client of an error."""
    return JSONResponse(error.as_plain(), error.status, headers=error.headers)


async def no_route(request: Request, error: Exception) -> Response:
    """The response where no route takes a request. What routes raise is for the boundary."""
    if not isinstance(error, HTTPException):
        raise error
    status = error.status_code
    words = {404: "There is nothing at this path.", 405: "This path has no such method."}
    told = ApiError(status, words.get(status, "The request cannot be read."), headers=error.headers)
    return error_response(told)


def as_api_error(error: BaseException, request_id: str) -> ApiError:
    """What a client is told of an error.

    What was wrong with the request is said; what went wrong here is not, since nobody knows what is in the
    words of another's error.

    Args:
        error: What was raised.
        request_id: By which the log knows the request.
    """
    if isinstance(error, ApiError):
        return error
    if isinstance(error, ValidationError):
        return refused(error)
    if isinstance(error, TimeoutError):
        return ApiError(
            504,
            "There was no answer in the time that a request has here. Ask for fewer tokens, or later.",
            kind="server_error",
            code="timeout",
        )
    if isinstance(error, ClientDisconnect):
        return client_gone()
    if isinstance(error, PromptError):
        return ApiError(400, str(error), param="messages")
    if isinstance(error, ResponseError):
        return ApiError(400, str(error), param="response")
    if isinstance(error, OptionError):
        return ApiError(400, str(error), param=_param_of(str(error)))
    return ApiError(
        500,
        f"The server failed on this request, so there is no answer. Its log has the id {request_id}.",
        kind="server_error",
        code="internal_error",
    )


def refused(error: ValidationError) -> ApiError:
    """The first mistake of a request, by the name of its parameter."""
    mistakes = error.errors(include_url=False, include_input=False)
    # Of a choice of forms, each is a mistake; the one furthest in is of the form that was meant.
    first = mistakes[0]["loc"][:1]
    one = max((m for m in mistakes if m["loc"][:1] == first), key=lambda mistake: len(mistake["loc"]))
    if one["type"] == "json_invalid":
        return ApiError(400, f"The body is no JSON that can be read. {one['msg']}.", code="invalid_json")
    param = _path(one["loc"])
    if one["type"] == "extra_forbidden":
        name = str(one["loc"][-1])
        known = len(one["loc"]) == 1 and name in KNOWN_PARAMETERS
        why = "is not supported by this server" if known else "is no parameter that this server knows"
        code = "unsupported_parameter" if known else "unknown_parameter"
        return ApiError(400, f"{param} {why}. Leave it out.", param=param, code=code)
    same = [m["msg"] for m in mistakes if len(m["loc"]) == len(one["loc"]) and _path(m["loc"]) == param]
    message = ", or: ".join(words.removeprefix("Value error, ") for words in same)
    where = f"{param}: " if param else ""
    code = "missing_required_parameter" if one["type"] == "missing" else "invalid_value"
    return ApiError(400, f"{where}{message}.", param=param or None, code=code)


def _path(place: tuple[int | str, ...]) -> str:
    """Where a mistake stands, without the names that pydantic gives to the forms of a choice."""
    path = ""
    for part in place:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part.isidentifier() and part not in _FORMS:
            path += f".{part}" if path else part
    return path


def _param_of(message: str) -> str | None:
    """The parameter that an option's error begins with."""
    found = _FIRST_WORD.match(message)
    name = found[0] if found else ""
    name = _PARAMETERS.get(name, name)
    return name if name in KNOWN_PARAMETERS else None
