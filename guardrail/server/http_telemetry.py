"""What telemetry is told of HTTP: a span and numbers for each request; and what Prometheus reads."""

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from guardrail.server.http_errors import ApiError
from guardrail.telemetry.instruments import Instruments, instruments
from guardrail.telemetry.providers import safely, signals, within
from guardrail.telemetry.semantic_conventions import Attribute

if TYPE_CHECKING:
    from opentelemetry.trace import Span
    from prometheus_client import CollectorRegistry

    from guardrail.telemetry.providers import Signals

__all__ = ["HttpTelemetry", "PrometheusMetrics"]

_METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
# Not the path that was sent, which may be any text, and of which there are as many.
_NO_ROUTE = "(none)"


class PrometheusMetrics:
    """The route that Prometheus reads.

    Args:
        registry: What is read; None where there is no telemetry.
    """

    def __init__(self, registry: "CollectorRegistry | None") -> None:
        self._registry = registry
        # Two that read at once would get parts of each other's numbers.
        self._one = threading.Lock()

    async def metrics(self, request: Request) -> Response:
        """All metrics, in the text format of Prometheus.

        Raises:
            ApiError: There is no telemetry.
        """
        if self._registry is None:
            raise ApiError(
                404,
                "This server has no metrics: it was started with --no-telemetry, or telemetry is not "
                'installed: pip install "guardrail-llm[telemetry]"',
                code="no_telemetry",
            )
        from prometheus_client.exposition import CONTENT_TYPE_LATEST

        return Response(await asyncio.to_thread(self._text, self._registry), media_type=CONTENT_TYPE_LATEST)

    def _text(self, registry: "CollectorRegistry") -> bytes:
        from prometheus_client.exposition import generate_latest

        with self._one:
            return generate_latest(registry)


class HttpTelemetry:
    """Stands around the app, and records each request: by its route, never by its path, query or headers.

    A client's ``traceparent`` is followed: its span is then around the server's.

    Args:
        app: The app.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        known = signals()
        if scope["type"] != "http" or known is None:
            await self._app(scope, receive, send)
            return
        made = safely(instruments)
        method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
        span = safely(_started, known, method, Headers(scope=scope))
        began = time.perf_counter()
        status = 0

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        if made is not None:
            safely(_count_active, made, method, 1)
        kind = ""
        try:
            with within(span):
                await self._app(scope, receive, told)
        except BaseException as error:
            kind = type(error).__name__
            raise
        finally:
            if made is not None:
                safely(_count_active, made, method, -1)
            safely(_told, scope, span, made, method, status, kind, time.perf_counter() - began)


def _started(known: "Signals", method: str, headers: Headers) -> "Span":
    from opentelemetry.trace import SpanKind
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    # Nothing else of what a client sends, such as baggage.
    sent = {name: headers[name] for name in ("traceparent", "tracestate") if name in headers}
    around = TraceContextTextMapPropagator().extract(sent)
    attributes = {Attribute.HTTP_METHOD: method}
    return known.tracer.start_span(method, around, SpanKind.SERVER, attributes)


def _count_active(made: Instruments, method: str, change: int) -> None:
    made.http_active.add(change, {Attribute.HTTP_METHOD: method})


def _told(
    scope: Scope,
    span: "Span | None",
    made: Instruments | None,
    method: str,
    status: int,
    kind: str,
    seconds: float,
) -> None:
    route = getattr(scope.get("route"), "path", None) or _NO_ROUTE
    facts: dict[str, Any] = {Attribute.HTTP_METHOD: method, Attribute.HTTP_ROUTE: route}
    if status:
        facts[Attribute.HTTP_STATUS] = status
    failed = kind or (str(status) if status >= 500 else "")
    if failed:
        facts[Attribute.ERROR_TYPE] = failed
    if span is not None:
        from opentelemetry.trace import Status, StatusCode

        span.update_name(f"{method} {route}")
        span.set_attributes({**facts, Attribute.REQUEST_ID: scope.get("state", {}).get("request_id", "")})
        if failed:
            span.set_status(Status(StatusCode.ERROR))
        span.end()
    if made is not None:
        made.http_duration.record(seconds, facts)
