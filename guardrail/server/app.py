"""The server's app: its routes, and what each asks the guard."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from guardrail import __version__
from guardrail.escalation.verdict import AnswerDocument, Verdict
from guardrail.guard.guard import Guard
from guardrail.labelling.provenance import Author
from guardrail.langchain.call_options import CallOptions
from guardrail.langchain.message_conversion import prompt_of
from guardrail.langchain.reply import Shown, told_of_schema
from guardrail.langchain.request import ChatRequest, alive
from guardrail.server.access import least, policy_for, seen_document
from guardrail.server.admission import Admission, while_connected
from guardrail.server.api_keys import CALLER, ApiKeys
from guardrail.server.chat_completions import (
    CompletionChunks,
    completion,
    messages_of,
    options_of,
    verdict_headers,
)
from guardrail.server.event_streams import DONE, KEEP_ALIVE, EventStream, Feed, event
from guardrail.server.gateway_guardrail import GatewayGuardrail
from guardrail.server.http_boundary import LOCAL_HOSTS, HttpBoundary, failure_told, note
from guardrail.server.http_errors import ApiError, error_response, no_route
from guardrail.server.http_telemetry import HttpTelemetry, PrometheusMetrics
from guardrail.server.json_bodies import Asked, read_body
from guardrail.server.litellm_protocol import GATEWAY_PATH, GatewayCall, blocked
from guardrail.server.openai_protocol import ChatCompletionRequest, JudgeRequest
from guardrail.server.openapi_description import describe, described_error, responses
from guardrail.server.readiness import Readiness
from guardrail.server.review_routes import ReviewRoutes
from guardrail.server.server_settings import ServerSettings
from guardrail.telemetry.instruments import Reading, observe
from guardrail.telemetry.semantic_conventions import MetricName
from guardrail.upstream.chat_endpoint import public_name
from guardrail.upstream.upstream_guard import UpstreamGuard

if TYPE_CHECKING:
    from fastapi.telemetry import TelemetryConfig
    from prometheus_client import CollectorRegistry

__all__ = ["create_app"]

# What the routes read for themselves: strictly, and without what FastAPI would make fit.
_BODIES: dict[str, type[BaseModel]] = {
    "/v1/chat/completions": ChatCompletionRequest,
    "/v1/guardrail/judge": JudgeRequest,
}
# FastAPI's own would have paths and queries in its spans, and what errors say in its events.
_NO_OTHER_TELEMETRY: "TelemetryConfig" = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}
# Seconds for a body, which no honest client needs.
_BODY_WITHIN = 30.0
# Whose response it is that a client sends to be decided on, and names nobody for: it may be anybody's.
UNDECLARED = Author("a model that the request does not name", "name it by model or answered_by")
# What a stream is made of: pieces of a draft that may be shown at once, and what may be seen of the answer.
_Piece = str | Shown


def create_app(
    guard: Guard,
    settings: ServerSettings,
    keys: ApiKeys | None = None,
    metrics: "CollectorRegistry | None" = None,
    *,
    others: Mapping[str, Guard] | None = None,
) -> FastAPI:
    """The app that serves a guard.

    Args:
        guard: The guard.
        settings: Limits, and the names that the server answers to.
        keys: Who is let in; None for anybody.
        metrics: What Prometheus reads; None for nothing.
        others: Guards of the same model by further policies, by the names that keys know these by.

    Raises:
        OptionError: A key names a policy that is not served.
    """
    guards = {guard.policy.name: guard, **(others or {})}
    if keys is not None:
        keys.check_policies([*guards])
    app = FastAPI(
        title="guardrail", version=__version__, docs_url=None, redoc_url=None, telemetry=_NO_OTHER_TELEMETRY
    )
    service = _Service(guards, settings)
    metered = PrometheusMetrics(metrics).metrics
    app.add_api_route("/metrics", metered, methods=["GET"], include_in_schema=False)
    for path, endpoint, answer in (
        ("/healthz", service.healthz, None),
        ("/readyz", service.readyz, None),
        ("/v1/models", service.models, "Models"),
    ):
        app.add_api_route(path, endpoint, methods=["GET"], responses=responses(answer))
    one_model = {**responses("Model"), 404: described_error(404)}
    app.add_api_route("/v1/models/{name:path}", service.model, methods=["GET"], responses=one_model)
    completed = responses("ChatCompletion", has_body=True, events=True)
    app.add_api_route("/v1/chat/completions", service.chat_completions, methods=["POST"], responses=completed)
    judged = responses("AnswerDocument", has_body=True)
    app.add_api_route("/v1/guardrail/judge", service.judge, methods=["POST"], responses=judged)
    # LiteLLM's interface, which is described by it.
    app.add_api_route(GATEWAY_PATH, service.gateway, methods=["POST"], include_in_schema=False)
    ReviewRoutes({name: one.policy for name, one in guards.items()}).add_to(app)
    app.add_exception_handler(HTTPException, no_route)
    hosts = settings.allowed_hosts if not settings.is_local else (*LOCAL_HOSTS, *settings.allowed_hosts)
    app.add_middleware(HttpBoundary, keys=keys, hosts=hosts, max_body_bytes=settings.max_body_bytes)
    app.add_middleware(HttpTelemetry)
    description = cache(lambda: describe(app, _BODIES, [service.name], has_keys=keys is not None))
    app.openapi = description  # type: ignore[method-assign]
    return app


class _Service:
    """The guards as the routes ask them.

    Args:
        guards: A guard for each policy, by its name, all of one model; the server's own first.
        settings: Limits.
    """

    def __init__(self, guards: Mapping[str, Guard], settings: ServerSettings) -> None:
        self._guards, self._settings = guards, settings
        guard = next(iter(guards.values()))
        self._readiness = Readiness(one.policy for one in guards.values())
        self._upstream = guard if isinstance(guard, UpstreamGuard) else None
        # What answers is served, and not what reads its answers.
        self.name = public_name((self._upstream and self._upstream.upstream.model) or guard.model.name)
        self._began = int(time.time())
        self._admission = Admission(settings.max_waiting)
        about = "Requests that run and wait."
        observe(MetricName.HTTP_ADMITTED, self._admission, _inside, unit="{request}", description=about)
        self._gateways = {name: GatewayGuardrail(one) for name, one in guards.items()}

    @property
    def _guard(self) -> Guard:
        """The guard of the policy that the request being served goes by."""
        return self._guards[policy_for(CALLER.get(), [*self._guards])]

    @property
    def _gateway(self) -> GatewayGuardrail:
        return self._gateways[policy_for(CALLER.get(), [*self._guards])]

    async def healthz(self) -> Response:
        """Whether the process answers."""
        return JSONResponse({"status": "ok"})

    async def readyz(self) -> Response:
        """Whether requests can be answered: weights and profile were loaded before the server listened."""
        if self._upstream is not None and (problem := await self._upstream.upstream.problem()):
            words = f"The upstream server cannot be asked: {problem}."
            return error_response(ApiError(503, words, kind="server_error", code="upstream_not_ready"))
        if problems := await self._readiness.problems():
            words = f"Not ready: {', '.join(problems)}."
            return error_response(ApiError(503, words, kind="server_error", code="not_ready"))
        return JSONResponse({"status": "ready", "model": self.name, "waiting": self._admission.inside})

    async def models(self) -> Response:
        """The one model that is served."""
        return JSONResponse({"object": "list", "data": [self._described()]})

    async def model(self, name: str) -> Response:
        """The served model by its name."""
        self._check_model(name)
        return JSONResponse(self._described())

    async def chat_completions(self, request: Request) -> Response:
        """Answer a conversation, as OpenAI's chat completions do."""
        asked = await self._read(request, ChatCompletionRequest)
        self._check_model(asked.model)
        options = options_of(asked, self._guard.sampling, self._max_output_tokens())
        options = replace(options, policy_tags=CALLER.get().tags)
        identity = f"chatcmpl-{_request_id(request)}"
        if asked.stream:
            return await self._streamed(request, asked, options, identity)
        place = self._admission.enter()
        try:
            shown = await while_connected(request, self._shown(request, asked, options))
        finally:
            place.leave()
        _note_verdict(request, shown.verdict)
        document = seen_document(completion(shown, identity, self.name))
        return JSONResponse(document, headers=verdict_headers(shown.verdict))

    async def judge(self, request: Request) -> Response:
        """Decide on a response that was produced elsewhere."""
        asked = await self._read(request, JudgeRequest)
        if asked.model is not None:
            self._check_model(asked.model)
        place = self._admission.enter()
        try:
            document = await while_connected(request, self._judged(request, asked))
        finally:
            place.leave()
        _note_verdict(request, document)
        return JSONResponse(seen_document(document), headers=verdict_headers(document))

    async def gateway(self, request: Request) -> Response:
        """Decide on a call of LiteLLM's. A failure is told as a block: it may be set to ignore errors."""
        try:
            call = await self._read(request, GatewayCall)
            if call.input_type == "request":
                return JSONResponse(self._gateway.note_question(call, len(await request.body())))
            with CALLER.get().counted():
                place = self._admission.enter()
                try:
                    told, verdict = await while_connected(request, self._decided(request, call))
                finally:
                    place.leave()
        except Exception as error:  # noqa: BLE001  (told, and logged where it is the server's own)
            return JSONResponse(blocked(failure_told(error, _request_id(request)).message))
        _note_verdict(request, verdict)
        return JSONResponse(told, headers=verdict_headers(verdict))

    async def _decided(self, request: Request, call: GatewayCall) -> tuple[dict[str, Any], Verdict]:
        async with self._limit():
            if (question := self._gateway.question_of(call)) is not None:
                await asyncio.to_thread(self._check_prompt, prompt_of(question.messages), ())
            await asyncio.to_thread(self._check_response, call.text)
            told, answer = await self._gateway.decide(call, _request_id(request), CALLER.get().tags)
        return told, answer.as_plain()

    async def _shown(self, request: Request, asked: ChatCompletionRequest, options: CallOptions) -> Shown:
        async with self._limit():
            return await (await self._chat(request, asked, options)).aask()

    async def _judged(self, request: Request, asked: JudgeRequest) -> AnswerDocument:
        prompt = prompt_of(messages_of(asked.messages))
        async with self._limit():
            await asyncio.to_thread(self._check_prompt, prompt, ())
            await asyncio.to_thread(self._check_response, asked.response)
            unnamed = asked.model is None and asked.answered_by is None
            served = self._upstream.author if self._upstream is not None else None
            answer = await self._guard.ajudge(
                prompt,
                asked.response,
                finish_reason=asked.finish_reason,
                tags=CALLER.get().tags,
                answered_by=UNDECLARED if unnamed else asked.answered_by or served,
                request_id=_request_id(request),
            )
        return answer.as_document()

    async def _streamed(
        self, request: Request, asked: ChatCompletionRequest, options: CallOptions, identity: str
    ) -> Response:
        place = self._admission.enter()

        async def work(tell: Callable[[_Piece], None]) -> None:
            async with self._limit():
                await self._tell(request, asked, options, tell)

        feed = Feed[_Piece](work, place.leave)
        include_usage = bool(asked.stream_options and asked.stream_options.include_usage)
        chunks = CompletionChunks(identity, self.name, include_usage=include_usage)
        try:
            # What is refused, or fails, at once has a status of its own.
            first = await while_connected(request, feed.next(self._settings.keep_alive))
        except BaseException:
            feed.close()
            raise
        headers = verdict_headers(first.verdict) if isinstance(first, Shown) else {}
        return EventStream(self._events(request, chunks, feed, first), feed, headers)

    async def _tell(
        self,
        request: Request,
        asked: ChatCompletionRequest,
        options: CallOptions,
        tell: Callable[[_Piece], None],
    ) -> None:
        chat = await self._chat(request, asked, options)
        if not chat.is_live():
            tell(await chat.aask())
            return
        async with aclosing(alive(chat.aask)) as pieces:
            async for piece in pieces:
                tell(piece)

    async def _events(
        self, request: Request, chunks: CompletionChunks, feed: Feed[_Piece], piece: _Piece | None
    ) -> AsyncIterator[str]:
        note(request.scope, stream=True, outcome="stream not complete")
        try:
            while not isinstance(piece, Shown):
                if piece is None:
                    yield KEEP_ALIVE
                else:
                    for chunk in chunks.piece(piece):
                        yield event(chunk)
                piece = await feed.next(self._settings.keep_alive)
        except Exception as error:  # noqa: BLE001  (told as the stream's last event)
            yield event(failure_told(error, _request_id(request)).as_plain())
            return
        for chunk in chunks.last(piece):
            yield event(seen_document(chunk))
        _note_verdict(request, piece.verdict)
        note(request.scope, outcome="complete")
        yield DONE

    async def _chat(
        self, request: Request, asked: ChatCompletionRequest, options: CallOptions
    ) -> ChatRequest:
        messages = messages_of(asked.messages)
        prompt = prompt_of(messages)
        if options.json_schema is not None:
            prompt = told_of_schema(prompt, options.json_schema)
        await asyncio.to_thread(self._check_prompt, prompt, options.tools)
        # A schema may take long to make a grammar of.
        return await asyncio.to_thread(
            ChatRequest,
            self._guard,
            messages,
            options,
            with_draft=False,
            request_id=_request_id(request),
        )

    def _check_prompt(self, prompt: Any, tools: Any) -> None:
        most = least(self._settings.max_prompt_tokens, CALLER.get().limits.max_prompt_tokens)
        if most is None:
            return
        count = len(self._guard.model.encode_prompt(self._guard.spoken(prompt).messages, tools).ids)
        if count > most:
            raise ApiError(
                400,
                f"The prompt has {count} tokens; this server reads prompts of at most {most}.",
                param="messages",
                code="context_length_exceeded",
            )

    def _check_response(self, response: str | list[int]) -> None:
        ids = self._guard.model.token_ids(response) if isinstance(response, str) else response
        most = self._max_output_tokens()
        if len(ids) > most:
            raise ApiError(
                400,
                f"The response has {len(ids)} tokens; this server reads responses of at most {most}.",
                param="response",
                code="invalid_value",
            )

    def _max_output_tokens(self) -> int:
        most = self._settings.max_output_tokens
        return least(most, CALLER.get().limits.max_output_tokens) or most

    def _limit(self) -> asyncio.Timeout:
        return asyncio.timeout(self._settings.request_timeout)

    async def _read(self, request: Request, kind: type[Asked]) -> Asked:
        return await read_body(request, kind, min(_BODY_WITHIN, self._settings.request_timeout))

    def _check_model(self, name: str) -> None:
        if name != self.name:
            raise ApiError(
                404,
                f"There is no model of this name here; {self.name!r} is served.",
                param="model",
                code="model_not_found",
            )

    def _described(self) -> dict[str, Any]:
        return {"id": self.name, "object": "model", "created": self._began, "owned_by": "guardrail"}


def _note_verdict(request: Request, verdict: Verdict) -> None:
    note(
        request.scope,
        action=verdict["action"],
        rule=verdict["rule"],
        enforced=verdict["enforced"],
        confidence=verdict["confidence"],
        usage=verdict["usage"],
    )


def _inside(admission: Admission) -> list[Reading]:
    return [(float(admission.inside), {})]


def _request_id(request: Request) -> str:
    return str(request.state.request_id)
