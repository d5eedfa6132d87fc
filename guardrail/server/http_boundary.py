"""What every request passes first: id, host name, key and size are checked, and a line is logged."""

import re
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from guardrail.server.access import POLICY_HEADER, check_role, seen_headers
from guardrail.server.api_keys import CALLER, NOBODY, ApiKeys, Caller
from guardrail.server.http_errors import ApiError, as_api_error, error_response
from guardrail.server.json_logging import LOGGER
from guardrail.server.litellm_protocol import GATEWAY_PATH

__all__ = ["LOCAL_HOSTS", "HttpBoundary", "failure_told", "note"]

LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")
# What a supervisor asks, which has no key.
_OPEN_PATHS = ("/healthz", "/readyz")
# A gateway may be set to ignore errors: one request too many is a block there, which its route tells.
_COUNTED_BY_ROUTE = (GATEWAY_PATH,)
_REQUEST_ID = "request_id"
# What a client calls the request itself; OpenAI's name for it. Only written beside ours, never used.
_CLIENT_REQUEST_ID = "x-client-request-id"
_NAME = re.compile(r"[A-Za-z0-9._:/-]{1,128}")
_FACTS = "log_facts"


def note(scope: Scope, **facts: Any) -> None:
    """Add facts to the line that a request logs: numbers and names, never a text.

    Args:
        scope: Of the request.
        facts: What is known.
    """
    scope["state"][_FACTS].update(facts)


def failure_told(error: Exception, request_id: str) -> ApiError:
    """What the client is told of an error; one of the server's own is logged.

    Args:
        error: What was raised.
        request_id: By which the log knows the request.
    """
    told = as_api_error(error, request_id)
    if told.status >= 500:
        LOGGER.error("request failed", exc_info=error, extra={"facts": {_REQUEST_ID: request_id}})
    return told


class HttpBoundary:
    """Stands before the app. Whatever is raised within it ends as an error that says nothing of a request.

    Args:
        app: The app.
        keys: Who is let in; None for anybody.
        hosts: Names that requests may be addressed to, without ports; none for any. A page that is open in a
            browser can point its own name at this machine, and would be let in otherwise.
        max_body_bytes: Largest body.
    """

    def __init__(
        self, app: ASGIApp, *, keys: ApiKeys | None, hosts: Sequence[str], max_body_bytes: int
    ) -> None:
        self._app, self._keys, self._hosts, self._most = app, keys, hosts, max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id, began = uuid4().hex, time.perf_counter()
        scope["state"] = {**scope.get("state", {}), _REQUEST_ID: request_id, _FACTS: {}}
        status = 0
        got = 0
        caller, entered = NOBODY, False

        async def limited() -> Message:
            nonlocal got
            message = await receive()
            got += len(message.get("body", b""))
            if got > self._most:
                raise self._too_large()
            return message

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                headers["x-content-type-options"] = "nosniff"
                headers["cache-control"] = "no-store"
                for name in seen_headers(caller.sight):
                    del headers[name]
            await send(message)

        try:
            caller = self._checked(scope)
            CALLER.set(caller)
            if scope["method"] == "POST" and scope["path"] not in _COUNTED_BY_ROUTE:
                caller.enter()
                entered = True
            await self._app(scope, limited, told)
        except Exception as error:  # noqa: BLE001  (told as an error, whatever it is)
            told_error = failure_told(error, request_id)
            # A response that began is cut off by the server, since it is not complete.
            if not status:
                await error_response(told_error)(scope, receive, told)
        finally:
            if entered:
                caller.leave()
            self._log(scope, status, time.perf_counter() - began)

    def _checked(self, scope: Scope) -> Caller:
        """Whose request it is.

        Raises:
            ApiError: It is not let in.
        """
        headers = Headers(scope=scope)
        if self._hosts and _without_port(headers.get("host", "")) not in self._hosts:
            raise ApiError(
                421,
                "The server does not answer to this host name; whoever runs it can add it by --allowed-host.",
                code="unknown_host",
            )
        caller = NOBODY
        if scope["path"] not in _OPEN_PATHS:
            caller = self._known(headers)
            note(scope, **({"key": caller.name} if caller.name else {}))
            check_role(scope, caller, has_keys=self._keys is not None)
        named = headers.getlist(POLICY_HEADER)
        if len(named) > 1:
            raise ApiError(400, f"{POLICY_HEADER} is there more than once.", code="invalid_value")
        if named:
            caller = replace(caller, policy=named[0])
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self._most:
            raise self._too_large()
        return caller

    def _known(self, headers: Headers) -> Caller:
        if self._keys is None:
            return NOBODY
        # LiteLLM sends the key that its configuration names as x-api-key.
        sent = [
            *headers.getlist("authorization"),
            *(f"Bearer {key}" for key in headers.getlist("x-api-key")),
        ]
        caller = self._keys.caller(sent[0].encode("latin-1")) if len(sent) == 1 else None
        if caller is None:
            raise ApiError(
                401,
                "There is no key, or not one that this server knows: Authorization: Bearer KEY.",
                kind="authentication_error",
                code="invalid_api_key",
                headers={"www-authenticate": "Bearer"},
            )
        return caller

    def _too_large(self) -> ApiError:
        message = f"The body is larger than the {self._most} bytes that this server reads."
        return ApiError(413, message, code="body_too_large", headers={"connection": "close"})

    def _log(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", None)
        facts = {
            _REQUEST_ID: scope["state"][_REQUEST_ID],
            **_client_request_id(scope),
            "method": scope["method"] if route else None,
            # Not the path that was sent, which may be any text.
            "route": route,
            "status": status or None,
            "seconds": round(seconds, 4),
            **scope["state"][_FACTS],
        }
        LOGGER.info("request", extra={"facts": facts})


def _client_request_id(scope: Scope) -> dict[str, str]:
    sent = Headers(scope=scope).getlist(_CLIENT_REQUEST_ID)
    # Anything else may be a text, or not the only one.
    return {"client_request_id": sent[0]} if len(sent) == 1 and _NAME.fullmatch(sent[0]) else {}


def _without_port(host: str) -> str:
    name, colon, port = host.lower().rpartition(":")
    return name if colon and port.isdecimal() and not name.endswith(":") else host.lower()
