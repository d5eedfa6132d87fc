"""The server's description of itself as OpenAPI: what each route takes, and every status it answers with."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, TypeAdapter

from guardrail.escalation.verdict import AnswerDocument, Verdict

__all__ = ["describe", "described_error", "responses"]

_ERRORS: Mapping[int, str] = {
    400: "The request cannot be followed, or is no HTTP; `param` says which parameter is at fault.",
    401: "There is no key, or not one that this server knows.",
    403: "The key is not one that may do this.",
    404: "There is no such model, or nothing at this path.",
    405: "This path has no such method.",
    408: "The request did not come in time.",
    413: "The body is larger than this server reads.",
    415: "The body is not sent as JSON.",
    421: "The server does not answer to this host name.",
    429: "As many requests run and wait as this server takes.",
    500: "The server failed on this request; its log has the id.",
    503: "As many connections are open as this server takes, or the server that generates cannot be asked.",
    504: "There was no answer in the time that a request has.",
}
# Before any route: by the connection, and by the boundary.
_ANYWHERE = (400, 401, 403, 408, 413, 421, 500, 503)
_WITH_BODY = (404, 415, 429, 504)
_HEADERS: Mapping[int, Mapping[str, str]] = {
    401: {"www-authenticate": "How to show a key."},
    429: {"retry-after": "Seconds after which to come again."},
}
_VERDICT_HEADERS = {
    "x-guardrail-action": {"description": "The verdict's action.", "schema": {"type": "string"}},
    "x-guardrail-confidence": {
        "description": "P(correct), where it is known.",
        "schema": {"type": "number", "minimum": 0, "maximum": 1},
    },
}
_REFERENCE = "#/components/schemas/{model}"


def describe(
    app: FastAPI, bodies: Mapping[str, type[BaseModel]], models: list[str], *, has_keys: bool
) -> dict[str, Any]:
    """The OpenAPI description of the app.

    Args:
        app: The app, whose routes say their responses by :func:`responses`.
        bodies: The body of each route that reads one, by its path.
        models: Names of the models that are served: a request names one of these.
        has_keys: Whether clients need a key.
    """
    described: dict[str, Any] = get_openapi(title=app.title, version=app.version, routes=app.routes)
    components = described.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for path, body in bodies.items():
        schema = body.model_json_schema(ref_template=_REFERENCE)
        schemas |= schema.pop("$defs", {})
        schemas[body.__name__] = _naming(schema, models)
        asked: dict[str, Any] = {"messages": [{"role": "user", "content": "Who wrote Faust?"}]}
        if "response" in schema["required"]:
            asked["response"] = "Goethe wrote it."
        example = {"model": models[0], **asked}
        content = {"application/json": {"schema": _reference(body.__name__), "example": example}}
        described["paths"][path]["post"]["requestBody"] = {"content": content, "required": True}
    for name, kind in (("Verdict", Verdict), ("AnswerDocument", AnswerDocument)):
        schema = TypeAdapter(kind).json_schema(ref_template=_REFERENCE, mode="serialization")
        schemas |= schema.pop("$defs", {})
        schemas[name] = schema
    schemas["ChatMessage"] = _by_role(schemas["ChatMessage"])
    schemas |= _own_schemas(models)
    # FastAPI's own; nothing here answers so.
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    for operations in described["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("422", None)
    if has_keys:
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        described["security"] = [{"key": []}]
    return described


def responses(
    answer: str | None = None, *, has_body: bool = False, events: bool = False
) -> dict[int | str, dict[str, Any]]:
    """What a route answers, for its ``responses``.

    Args:
        answer: Schema of the response, by its name among the components; any object if not given.
        has_body: Whether the route reads a body, and asks the guard.
        events: Whether the response may be a stream of events.
    """
    content: dict[str, Any] = {"application/json": {"schema": _reference(answer) if answer else _OBJECT}}
    if events:
        content["text/event-stream"] = {}
    good: dict[str, Any] = {"description": "The answer.", "content": content}
    if has_body:
        good["headers"] = _VERDICT_HEADERS
    statuses = (*_ANYWHERE, *_WITH_BODY) if has_body else _ANYWHERE
    return {200: good, **{status: described_error(status) for status in sorted(statuses)}}


def described_error(status: int) -> dict[str, Any]:
    """The description of an error's response."""
    told = {"description": _ERRORS[status], "content": {"application/json": {"schema": _reference("Error")}}}
    headers = {
        name: {"description": words, "schema": {"type": "string"}}
        for name, words in _HEADERS.get(status, {}).items()
    }
    return {**told, "headers": headers} if headers else told


_OBJECT = {"type": "object"}


def _reference(name: str) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(model=name)}


def _naming(schema: dict[str, Any], models: list[str]) -> dict[str, Any]:
    """The schema of a body with the names that its ``model`` may have."""
    model = schema["properties"].get("model", {})
    for form in (model, *model.get("anyOf", ())):
        if form.get("type") == "string":
            form["enum"] = models
    return schema


def _by_role(message: dict[str, Any]) -> dict[str, Any]:
    """The schema of a message as one form for each role, which says what its validator checks."""
    properties = message["properties"]
    text = {"anyOf": [form for form in properties["content"]["anyOf"] if form.get("type") != "null"]}
    some = {**next(form for form in properties["tool_calls"]["anyOf"] if "items" in form), "minItems": 1}
    nothing = {"type": "null"}
    of_answers = {"tool_calls": nothing, "refusal": nothing, "guardrail": nothing}
    of_tools = {"tool_call_id": nothing}
    of_askers = {"document": nothing}

    def form(roles: list[str], required: list[str], **narrower: Any) -> dict[str, Any]:
        narrowed = {**properties, "role": {"enum": roles}, **narrower}
        return {**message, "properties": narrowed, "required": ["role", *required]}

    return {
        "description": message["description"],
        "anyOf": [
            form(["developer", "system", "user"], ["content"], content=text, **of_answers, **of_tools),
            form(["assistant"], ["content"], content=text, **of_tools, **of_askers),
            form(["assistant"], ["tool_calls"], tool_calls=some, **of_tools, **of_askers),
            form(
                ["tool"],
                ["content", "tool_call_id"],
                content=text,
                tool_call_id={"type": "string"},
                **of_askers,
                **of_answers,
            ),
        ],
    }


def _own_schemas(models: list[str]) -> dict[str, Any]:
    text = {"type": "string"}
    maybe = {"type": ["string", "null"]}
    told = {"message": text, "type": text, "param": maybe, "code": maybe}
    model = {
        "id": {"enum": models},
        "object": {"const": "model"},
        "created": {"type": "integer"},
        "owned_by": text,
    }
    call = _object(
        {"id": text, "type": {"const": "function"}, "function": _object({"name": text, "arguments": text})}
    )
    message = {"role": {"const": "assistant"}, "content": maybe, "refusal": maybe}
    choice = {
        "index": {"const": 0},
        "message": {
            "type": "object",
            "properties": {**message, "tool_calls": {"type": "array", "items": call}},
            "required": [*message],
        },
        "logprobs": {"type": "null"},
        "finish_reason": {"enum": ["stop", "length", "tool_calls", "content_filter"]},
    }
    counts = {key: {"type": "integer"} for key in ("prompt_tokens", "completion_tokens", "total_tokens")}
    usage = {"type": ["object", "null"], "properties": counts, "required": [*counts]}
    return {
        "Error": _object({"error": _object(told)}),
        "Model": _object(model),
        "Models": _object(
            {"object": {"const": "list"}, "data": {"type": "array", "items": _reference("Model")}}
        ),
        "ChatCompletion": _object(
            {
                "id": text,
                "object": {"const": "chat.completion"},
                "created": {"type": "integer"},
                "model": {"enum": models},
                "choices": {"type": "array", "items": _object(choice), "minItems": 1, "maxItems": 1},
                "usage": usage,
                "guardrail": _reference("Verdict"),
            }
        ),
    }


def _object(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": dict(properties), "required": [*properties]}
