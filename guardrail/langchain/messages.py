"""LangChain's messages as chat templates read them: dicts with ``role`` and ``content``."""

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from guardrail.errors import PromptError
from guardrail.escalation.case import withholds
from guardrail.guard.history import VERDICT_FIELD, spoken
from guardrail.models.content import content_text
from guardrail.policy.notices import Notices
from guardrail.utils.plain_json import plain_json

__all__ = ["as_spoken", "prompt_of"]

_ROLES: Sequence[tuple[type[BaseMessage], str]] = (
    (SystemMessage, "system"),
    (HumanMessage, "user"),
    (AIMessage, "assistant"),
    (ToolMessage, "tool"),
    (FunctionMessage, "tool"),
)
# What an answer of a model may hold beside its text. Calls are read from ``tool_calls``; what a model
# thought is for no template to read again.
_BESIDE_TEXT = frozenset(
    {
        "function_call",
        "invalid_tool_call",
        "reasoning",
        "redacted_thinking",
        "thinking",
        "tool_call",
        "tool_call_chunk",
        "tool_use",
    }
)


def prompt_of(messages: Sequence[BaseMessage]) -> list[dict[str, Any]]:
    """Messages as a local model reads them.

    Blocks of text are joined. An answer brings its verdict along, which a guard goes by and no template
    reads. Calls of tools have the form that chat templates read, their arguments a dict.

    Raises:
        PromptError: A message holds what a text model cannot read, such as an image.
    """
    return [_plain(message, number) for number, message in enumerate(messages, start=1)]


def as_spoken(messages: Sequence[Any], notices: Notices | None) -> tuple[list[Any], int]:
    """Messages without the turns that were withheld, and how many these are.

    They are kept as they are, whatever they hold, but for a policy's warnings beside an answer.

    Args:
        messages: Messages of LangChain.
        notices: What the policy says; None to leave out nothing.
    """
    shown = [_outline(message) for message in messages]
    history = spoken(shown, notices)
    kept = []
    for at, said in zip(history.kept, history.messages, strict=True):
        message = messages[at]
        if said.get("content") != shown[at].get("content"):
            message = message.model_copy(update={"content": said["content"]})
        kept.append(message)
    return kept, history.turns_left_out


def _outline(message: Any) -> dict[str, Any]:
    """What a message says, and whose it is; for what no text model reads, too."""
    if not isinstance(message, BaseMessage):
        return {}
    said: dict[str, Any] = {"role": _role(message), "content": message.content}
    if isinstance(message, ToolMessage):
        said["tool_call_id"] = message.tool_call_id
    if isinstance(message, AIMessage):
        said |= {"tool_calls": [*message.tool_calls, *message.invalid_tool_calls], **_carried(message)}
    return said


def _carried(message: AIMessage) -> dict[str, Any]:
    """The verdict that a message carries, wherever a client kept it."""
    places = (message.response_metadata, message.additional_kwargs)
    verdicts = [place[VERDICT_FIELD] for place in places if isinstance(place.get(VERDICT_FIELD), Mapping)]
    # One that withholds counts, if any does.
    return {VERDICT_FIELD: next(filter(withholds, verdicts), verdicts[0])} if verdicts else {}


def _role(message: BaseMessage) -> str | None:
    if isinstance(message, ChatMessage):
        return message.role
    return next((role for kind, role in _ROLES if isinstance(message, kind)), None)


def _plain(message: BaseMessage, number: int) -> dict[str, Any]:
    role = _role(message)
    if role is None:
        raise PromptError(f"Message {number} is a {type(message).__name__}, which no model can read.")
    plain: dict[str, Any] = {"role": role, "content": _text(message, number)}
    if message.name:
        plain["name"] = message.name
    if isinstance(message, ToolMessage):
        plain["tool_call_id"] = message.tool_call_id
    if isinstance(message, AIMessage):
        plain |= _carried(message)
    if isinstance(message, AIMessage) and message.tool_calls:
        plain["tool_calls"] = [
            {
                "id": call["id"],
                "type": "function",
                "function": {"name": call["name"], "arguments": plain_json(call["args"])},
            }
            for call in message.tool_calls
        ]
    return plain


def _text(message: BaseMessage, number: int) -> str:
    content = message.content
    if isinstance(message, AIMessage) and not isinstance(content, str):
        content = [part for part in content if not _is_beside_text(part)]
    return content_text(content, f"Message {number}")


def _is_beside_text(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") in _BESIDE_TEXT
