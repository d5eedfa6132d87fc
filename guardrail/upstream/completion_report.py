"""What an inference server says in a chat completion, read strictly: whatever is not in order is an error."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from guardrail.errors import UpstreamError

__all__ = ["CompletionReport", "read_completion", "read_model_names"]

# Some servers round up; a probability above 1 by more is none.
_MOST_LOG_PROBABILITY = 1e-6
_REASONS: Mapping[str, Literal["stop", "length"]] = {
    "stop": "stop",
    "tool_calls": "stop",
    "function_call": "stop",
    "length": "length",
}


class _Reported(BaseModel):
    # Servers add fields of their own. What they send is in no error.
    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False, hide_input_in_errors=True)


class _Token(_Reported):
    logprob: Annotated[float, Field(le=_MOST_LOG_PROBABILITY)]


class _LogProbabilities(_Reported):
    content: list[_Token] | None = None


class _Function(_Reported):
    name: str
    arguments: str


class _Call(_Reported):
    function: _Function


class _Message(_Reported):
    role: Literal["assistant"]
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[_Call] | None = None
    # What servers call the text of the model's reasoning where they take it out of the answer.
    reasoning: str | None = None
    reasoning_content: str | None = None


class _Choice(_Reported):
    message: _Message
    finish_reason: str
    logprobs: _LogProbabilities | None = None
    token_ids: list[Annotated[int, Field(ge=0)]] | None = None


class _Completion(_Reported):
    model: str | None = None
    choices: Annotated[list[_Choice], Field(min_length=1, max_length=1)]
    prompt_token_ids: list[Annotated[int, Field(ge=0)]] | None = None


class _Model(_Reported):
    id: Annotated[str, Field(min_length=1)]


class _Models(_Reported):
    data: list[_Model]


@dataclass(frozen=True, slots=True)
class CompletionReport:
    """One chat completion as the server reports it.

    Attributes:
        model: Name of the model that answered; None where the server does not say.
        content: The text; empty where there is none, perhaps because it is nothing but calls.
        calls: Calls of tools that the server found in what its model wrote: each name, with its arguments.
        reasoning: The reasoning that the server took out of the text.
        finish_reason: Why it ended.
        token_ids: What the model wrote, as token ids; None where the server does not report them.
        prompt_ids: What it read, likewise.
        log_probabilities: Log-probability of each token in nats; None likewise.
    """

    model: str | None
    content: str = field(repr=False)
    calls: Sequence[tuple[str, str]] = field(repr=False)
    reasoning: str = field(repr=False)
    finish_reason: Literal["stop", "length"]
    token_ids: Sequence[int] | None = field(repr=False)
    prompt_ids: Sequence[int] | None = field(repr=False)
    log_probabilities: Sequence[float] | None = field(repr=False)

    def as_written(self) -> str:
        """The text with its calls as many models write them, where it is not known how this one did."""
        calls = [
            f'<tool_call>\n{{"name": {json.dumps(name)}, "arguments": {arguments or "{}"}}}\n</tool_call>'
            for name, arguments in self.calls
        ]
        return "\n".join(part for part in (self.content, *calls) if part)


def read_completion(body: bytes) -> CompletionReport:
    """Read the body of a response to ``POST /chat/completions``.

    Raises:
        UpstreamError: It is not one whole chat completion with one choice, or a number in it is none.
    """
    completion = _read(_Completion, body, "a chat completion")
    choice = completion.choices[0]
    if choice.finish_reason not in _REASONS:
        raise UpstreamError("the server says that its answer ended for a reason other than stop or length")
    message = choice.message
    if message.refusal:
        raise UpstreamError("the server refused to answer")
    tokens = choice.logprobs.content if choice.logprobs is not None else None
    return CompletionReport(
        model=completion.model,
        content=message.content or "",
        calls=tuple((call.function.name, call.function.arguments) for call in message.tool_calls or ()),
        reasoning=message.reasoning_content or message.reasoning or "",
        finish_reason=_REASONS[choice.finish_reason],
        token_ids=None if choice.token_ids is None else tuple(choice.token_ids),
        prompt_ids=None if completion.prompt_token_ids is None else tuple(completion.prompt_token_ids),
        log_probabilities=None if tokens is None else tuple(token.logprob for token in tokens),
    )


def read_model_names(body: bytes) -> list[str]:
    """The names in the body of a response to ``GET /models``.

    Raises:
        UpstreamError: It is no list of models.
    """
    return [model.id for model in _read(_Models, body, "a list of models").data]


def _read(kind: type[Any], body: bytes, what: str) -> Any:
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        # Keys that are not known are passed over, so that every name in a place is one of ours.
        place = error.errors(include_url=False, include_input=False)[0]["loc"]
        path = ".".join(map(str, place))
        raise UpstreamError(
            f"the server's response is not {what} that can be read ({path or 'no JSON'})"
        ) from None
