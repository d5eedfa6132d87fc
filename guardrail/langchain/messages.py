"""LangChain's messages as chat templates read them: dicts with ``role`` and ``content``."""

from collections.abc import Sequence
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
from guardrail.utils.plain_json import plain_json

__all__ = ["prompt_of"]

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

    Blocks of text are joined. Calls of tools have the form that chat templates read, their arguments a dict.

    Raises:
        PromptError: A message holds what a text model cannot read, such as an image.
    """
    return [_plain(message, number) for number, message in enumerate(messages, start=1)]


def _plain(message: BaseMessage, number: int) -> dict[str, Any]:
    role = next((role for kind, role in _ROLES if isinstance(message, kind)), None)
    if isinstance(message, ChatMessage):
        role = message.role
    if role is None:
        raise PromptError(f"Message {number} is a {type(message).__name__}, which no model can read.")
    plain: dict[str, Any] = {"role": role, "content": _text(message, number)}
    if message.name:
        plain["name"] = message.name
    if isinstance(message, ToolMessage):
        plain["tool_call_id"] = message.tool_call_id
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
    if isinstance(message.content, str):
        return message.content
    parts = []
    for block in message.content:
        kind = "text" if isinstance(block, str) else str(block.get("type", "a block without a type"))
        if isinstance(block, str):
            parts.append(block)
        elif kind == "text" and isinstance(block.get("text"), str):
            parts.append(block["text"])
        elif kind == "refusal" and isinstance(block.get("refusal"), str):
            parts.append(block["refusal"])
        elif not (isinstance(message, AIMessage) and kind in _BESIDE_TEXT):
            raise PromptError(
                f"Message {number} holds {kind!r}, and this model reads text alone. Leave it out, or say it "
                "in words."
            )
    return "".join(parts)
