"""Requests as OpenAI defines them, as far as the guard can follow them; anything else is refused by name."""

import json
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

__all__ = [
    "KNOWN_PARAMETERS",
    "ChatCompletionRequest",
    "ChatMessage",
    "JudgeRequest",
    "TextPart",
]

# Parameters that OpenAI has and this server does not.
_UNSUPPORTED = (
    "audio",
    "function_call",
    "functions",
    "moderation",
    "prediction",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "reasoning_effort",
    "safety_identifier",
    "top_logprobs",
    "verbosity",
    "web_search_options",
)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True)


def _is_zero(value: float | None) -> float | None:
    if value:
        raise ValueError("this server does not change probabilities by what was said; it can be 0")
    return value


def _is_empty(value: dict[str, Any] | None) -> dict[str, Any] | None:
    if value:
        raise ValueError("this server does not change the probabilities of tokens; it can be empty")
    return value


def _is_labels(value: dict[str, str] | None) -> dict[str, str] | None:
    if value and (len(value) > 16 or any(len(k) > 64 or len(v) > 512 for k, v in value.items())):
        raise ValueError("it has at most 16 keys of 64 characters, with values of 512")
    return value


Neutral = Annotated[float | None, AfterValidator(_is_zero)]
NoBias = Annotated[dict[str, Any] | None, AfterValidator(_is_empty)]
Labels = Annotated[dict[str, str] | None, AfterValidator(_is_labels)]


class TextPart(_Strict):
    """A part of a message's content. A text model reads nothing but text."""

    type: Literal["text"]
    text: str


class CalledFunction(_Strict):
    """The function of a call, with its arguments as JSON."""

    name: str
    arguments: str

    @model_validator(mode="after")
    def _has_an_object(self) -> Self:
        try:
            value = json.loads(self.arguments or "{}")
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise ValueError("arguments is the JSON of an object")
        return self


class CallPart(_Strict):
    """A call of a tool in an earlier answer."""

    id: str
    type: Literal["function"]
    function: CalledFunction


class ChatMessage(_Strict):
    """A message of a conversation.

    Attributes:
        guardrail: The verdict that came with an answer, if the client kept it: an answer that was withheld
            is then no part of the prompt.
        document: The part of the content that is a document, word for word, for a profile that reads how much
            it moved the answer.
    """

    role: Literal["developer", "system", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = None
    name: str | None = None
    refusal: str | None = None
    tool_calls: list[CallPart] | None = None
    tool_call_id: str | None = None
    guardrail: dict[str, Any] | None = None
    document: str | None = None
    # What the models of OpenAI's client write beside a text.
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None
    audio: None = None
    function_call: None = None

    @model_validator(mode="after")
    def _fits_its_role(self) -> Self:
        is_answer = self.role == "assistant"
        if not is_answer and (self.tool_calls or self.refusal is not None or self.guardrail is not None):
            raise ValueError("tool_calls, refusal and guardrail are of messages of the assistant")
        if self.document is not None and self.role in ("assistant", "tool"):
            raise ValueError("document is of messages of the user or of the system")
        if self.content is None and not (is_answer and (self.tool_calls or self.refusal)):
            raise ValueError("content is missing")
        if (self.role == "tool") != (self.tool_call_id is not None):
            raise ValueError("a message of a tool, and no other, has a tool_call_id")
        return self


class Function(_Strict):
    """A function that the model may call."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(_Strict):
    """A tool; a local model can be offered functions."""

    type: Literal["function"]
    function: Function


class NamedFunction(_Strict):
    """The function that is to be called."""

    name: str


class NamedTool(_Strict):
    """The tool that is to be called."""

    type: Literal["function"]
    function: NamedFunction


class JsonSchema(_Strict):
    """A JSON schema with its name."""

    name: str
    description: str | None = None
    schema_: Annotated[dict[str, Any], Field(alias="schema")]
    strict: bool | None = None


class ResponseFormat(_Strict):
    """The form of an answer."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _has_its_schema(self) -> Self:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("the type json_schema, and no other, has a json_schema")
        return self


class StreamOptions(_Strict):
    """Options of a stream."""

    include_usage: bool | None = None
    # What it hides from who listens to a connection is hidden by sending the answer at once.
    include_obfuscation: Literal[False] | None = None


class ChatCompletionRequest(_Strict):
    """The body of ``POST /v1/chat/completions``.

    ``user`` and ``metadata`` are labels of OpenAI's own records; they change no answer there and none here.
    """

    model: str
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    n: Literal[1] | None = None
    tools: list[Tool] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None
    metadata: Labels = None
    # Only as they are without being given.
    frequency_penalty: Neutral = None
    presence_penalty: Neutral = None
    logit_bias: NoBias = None
    logprobs: Literal[False] | None = None
    modalities: list[Literal["text"]] | None = None
    service_tier: Literal["auto", "default"] | None = None
    store: Literal[False] | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise ValueError("stream_options is only for stream: true")
        if self.tool_choice not in (None, "none", "auto") and not self.tools:
            raise ValueError("tool_choice needs tools")
        return self


class JudgeRequest(_Strict):
    """The body of ``POST /v1/guardrail/judge``: a response that was produced elsewhere, to be decided on.

    Attributes:
        model: The served model's name, where it is that one which answered.
        messages: What was asked.
        response: What was answered, as a text or token ids.
        finish_reason: Why it ended, if that is known.
        answered_by: The name of the model that answered, where it is not the served one.
    """

    model: str | None = None
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    response: str | list[int]
    finish_reason: Literal["stop", "length"] | None = None
    answered_by: str | None = None


KNOWN_PARAMETERS = frozenset({*ChatCompletionRequest.model_fields, *_UNSUPPORTED})
