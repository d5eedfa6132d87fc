"""Chat completions: OpenAI's requests as the guard is asked them, and its answers in OpenAI's form."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage

from guardrail.escalation.verdict import Verdict, withholds
from guardrail.guard.history import VERDICT_FIELD
from guardrail.langchain.call_options import CallOptions
from guardrail.langchain.reply import Shown
from guardrail.models.documents import DOCUMENT_FIELD
from guardrail.models.sampling import Sampling
from guardrail.server.http_errors import ApiError
from guardrail.server.openai_protocol import CallPart, ChatCompletionRequest, ChatMessage
from guardrail.utils.json_lines import plain_json

__all__ = ["CompletionChunks", "completion", "messages_of", "options_of", "verdict_headers"]

_LENGTHS = ("length", "reasoning_length")


def messages_of(messages: Sequence[ChatMessage]) -> list[BaseMessage]:
    """A conversation as the chat model reads it."""
    return [_message(message) for message in messages]


def _message(message: ChatMessage) -> BaseMessage:
    content: Any = message.content or message.refusal or ""
    if not isinstance(content, str):
        content = [{"type": "text", "text": part.text} for part in content]
    declared = {} if message.document is None else {DOCUMENT_FIELD: message.document}
    if message.role == "user":
        return HumanMessage(content, name=message.name, additional_kwargs=declared)
    if message.role == "assistant":
        carried = {} if message.guardrail is None else {VERDICT_FIELD: message.guardrail}
        calls = [_call(call) for call in message.tool_calls or ()]
        return AIMessage(content, name=message.name, tool_calls=calls, response_metadata=carried)
    if message.role == "tool":
        return ToolMessage(content, name=message.name, tool_call_id=message.tool_call_id or "")
    return SystemMessage(content, name=message.name, additional_kwargs=declared)


def _call(call: CallPart) -> dict[str, Any]:
    arguments = json.loads(call.function.arguments or "{}")
    return {"type": "tool_call", "id": call.id, "name": call.function.name, "args": arguments}


def options_of(asked: ChatCompletionRequest, sampling: Sampling, max_output_tokens: int) -> CallOptions:
    """The options of a call.

    Args:
        asked: The request.
        sampling: How answers are drawn where the request says nothing.
        max_output_tokens: Longest answer that may be asked for.

    Raises:
        OptionError: An option cannot be followed.
        ApiError: The answer may become longer than the server allows.
    """
    for name in ("max_tokens", "max_completion_tokens"):
        most = getattr(asked, name)
        if most is not None and most > max_output_tokens:
            raise ApiError(
                400,
                f"{name} is {most}; this server gives answers of at most {max_output_tokens} tokens.",
                param=name,
                code="invalid_value",
            )
    choice = asked.tool_choice
    tools = [tool.model_dump(exclude_none=True) for tool in asked.tools or ()]
    must_call = choice not in (None, "none", "auto")
    stricts = [tool["function"].pop("strict", False) for tool in tools]
    for name, is_asked in (
        ("tools", any(stricts)),
        ("parallel_tool_calls", asked.parallel_tool_calls is False),
    ):
        if is_asked and tools and not must_call:
            raise ApiError(
                400,
                f"{name}: strict functions, and calls that are not parallel, can be had where a tool must be "
                "called: tool_choice: required.",
                param=name,
                code="invalid_value",
            )
    form = asked.response_format
    given = {
        "max_tokens": asked.max_tokens,
        "max_completion_tokens": asked.max_completion_tokens,
        "temperature": asked.temperature,
        "top_p": asked.top_p,
        "seed": asked.seed,
        "tools": tools or None,
        "tool_choice": choice if choice is None or isinstance(choice, str) else choice.model_dump(),
        "parallel_tool_calls": asked.parallel_tool_calls,
        "strict": any(stricts) or None,
        "response_format": form and form.model_dump(by_alias=True, exclude_none=True),
    }
    stop = [asked.stop] if isinstance(asked.stop, str) else asked.stop
    options = CallOptions.of_fields({}, sampling).changed(stop, given)
    if asked.max_tokens is None and asked.max_completion_tokens is None:
        options = replace(options, max_tokens=min(options.max_tokens, max_output_tokens))
    return options


def verdict_headers(verdict: Verdict) -> dict[str, str]:
    """What of a verdict stands in the headers of a response."""
    headers: dict[str, str] = {"x-guardrail-action": verdict["action"]}
    if verdict["confidence"] is not None:
        headers["x-guardrail-confidence"] = f"{verdict['confidence']:.6g}"
    return headers


def completion(shown: Shown, identity: str, model: str) -> dict[str, Any]:
    """A whole response.

    Args:
        shown: What may be seen of the answer.
        identity: Its id.
        model: The name that the model is served by.
    """
    calls, text = _calls(shown), _text(shown)
    message: dict[str, Any] = {
        "role": "assistant",
        "content": text or (None if calls else ""),
        "refusal": None,
    }
    if calls:
        message["tool_calls"] = calls
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_reason(shown)}
    return {
        **_frame("chat.completion", identity, model),
        "choices": [choice],
        "usage": _usage(shown),
        "guardrail": shown.verdict,
    }


class CompletionChunks:
    """The chunks of one streamed response.

    Args:
        identity: Its id.
        model: The name that the model is served by.
        include_usage: Whether the last chunk tells what tokens were used.
    """

    def __init__(self, identity: str, model: str, *, include_usage: bool) -> None:
        self._frame = _frame("chat.completion.chunk", identity, model)
        self._include_usage = include_usage
        self._told = ""
        self._began = False

    def piece(self, text: str) -> list[dict[str, Any]]:
        """The chunks for a piece of a draft."""
        self._told += text
        return [*self._first(), self._chunk({"content": text})]

    def last(self, shown: Shown) -> list[dict[str, Any]]:
        """The chunks that end the response.

        A text that does not go on from what was told stands below it.

        Args:
            shown: What may be seen of the answer.
        """
        text = _text(shown)
        rest = text[len(self._told) :] if text.startswith(self._told) else f"\n\n{text}"
        chunks = self._first()
        if rest:
            chunks.append(self._chunk({"content": rest}))
        if calls := _calls(shown):
            numbered = [{"index": index, **call} for index, call in enumerate(calls)]
            chunks.append(self._chunk({"tool_calls": numbered}))
        chunks.append({**self._chunk({}, finish_reason(shown)), "guardrail": shown.verdict})
        if self._include_usage:
            chunks.append({**self._frame, "choices": [], "usage": _usage(shown)})
        return chunks

    def _first(self) -> list[dict[str, Any]]:
        if self._began:
            return []
        self._began = True
        return [self._chunk({"role": "assistant", "content": ""})]

    def _chunk(self, delta: Mapping[str, Any], reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        usage = {"usage": None} if self._include_usage else {}
        return {**self._frame, "choices": [choice], **usage}


def finish_reason(shown: Shown) -> str:
    """Why an answer ended, in OpenAI's words."""
    verdict = shown.verdict
    if withholds(verdict):
        return "content_filter"
    if shown.calls:
        return "tool_calls"
    is_of_target = bool(verdict["escalation"] and verdict["escalation"]["source"])
    return "length" if verdict["finish_reason"] in _LENGTHS and not is_of_target else "stop"


def _frame(kind: str, identity: str, model: str) -> dict[str, Any]:
    return {"id": identity, "object": kind, "created": int(time.time()), "model": model}


def _text(shown: Shown) -> str:
    """The text, and calls that cannot be read as they were written: nobody can make them."""
    written = [str(call["args"]) for call in shown.invalid]
    return "\n".join(part for part in (shown.text, *written) if part)


def _calls(shown: Shown) -> list[dict[str, Any]]:
    return [
        {
            "id": call["id"],
            "type": "function",
            "function": {"name": call["name"], "arguments": json.dumps(plain_json(call["args"]))},
        }
        for call in shown.calls
    ]


def _usage(shown: Shown) -> dict[str, Any] | None:
    usage = shown.verdict["usage"]
    if usage is None:
        return None
    told: dict[str, Any] = {
        "prompt_tokens": usage["prompt_tokens"],
        "completion_tokens": usage["completion_tokens"],
        "total_tokens": usage["total_tokens"],
    }
    if "reasoning_tokens" in usage:
        told["completion_tokens_details"] = {"reasoning_tokens": usage["reasoning_tokens"]}
    return told
