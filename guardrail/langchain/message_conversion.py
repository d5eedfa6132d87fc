"""Convert LangChain messages to the form that chat templates read, and replace a chain's output by a text."""

from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass, replace
from functools import reduce
from operator import add
from typing import Any

from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
    convert_to_messages,
)

from guardrail.errors import PromptError
from guardrail.escalation.verdict import Verdict, withholds
from guardrail.guard.history import VERDICT_FIELD, spoken
from guardrail.langchain.answer_parts import parts_of
from guardrail.langchain.verdicts import VERDICT_KEY, sealed
from guardrail.models.chat_template import content_text
from guardrail.models.documents import DOCUMENT_FIELD
from guardrail.policy.messages import Notices
from guardrail.utils.json_lines import plain_json

__all__ = [
    "NoPlaceError",
    "as_spoken",
    "in_place_of",
    "in_place_of_chunks",
    "prompt_of",
    "with_verdict",
    "without_verdict",
]


_ROLES: Sequence[tuple[type[BaseMessage], str]] = (
    (SystemMessage, "system"),
    (HumanMessage, "user"),
    (AIMessage, "assistant"),
    (ToolMessage, "tool"),
    (FunctionMessage, "tool"),
)
# Blocks of an answer that are left out of the prompt: calls are taken from ``tool_calls``, and templates do
# not read earlier reasoning.
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
    """Convert messages to the form that a local model reads.

    Blocks of text are joined. An answer keeps its verdict, which the guard uses and no template reads.
    Likewise, a user or system message keeps the document that it declares
    (``additional_kwargs["document"]``, see :mod:`guardrail.models.documents`). Tool calls have the form that
    chat templates read, with a dict of arguments.

    Raises:
        PromptError: A message holds what a text model cannot read, such as an image.
    """
    return [_plain(message, number) for number, message in enumerate(messages, start=1)]


def as_spoken(messages: Sequence[Any], notices: Notices | None) -> tuple[list[Any], int]:
    """Leave out the turns that were withheld, and count them.

    The other messages are kept unchanged, whatever their content, except that warnings which the policy added
    to an answer are removed.

    Args:
        messages: LangChain messages.
        notices: Messages and warnings of the policy; None to leave out nothing.
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
    """Extract role, content and calls from a message, even if a text model could not read it."""
    if not isinstance(message, BaseMessage):
        return {}
    said: dict[str, Any] = {"role": _role(message), "content": message.content}
    if isinstance(message, ToolMessage):
        said["tool_call_id"] = message.tool_call_id
    if isinstance(message, AIMessage):
        said |= {"tool_calls": [*message.tool_calls, *message.invalid_tool_calls], **_carried(message)}
    return said


def _carried(message: AIMessage) -> dict[str, Any]:
    """Return the verdict that a message carries, wherever a client stored it."""
    places = (message.response_metadata, message.additional_kwargs)
    verdicts = [place[VERDICT_FIELD] for place in places if isinstance(place.get(VERDICT_FIELD), Mapping)]
    # If there are several, one that withholds takes precedence.
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
    if isinstance(message, HumanMessage | SystemMessage) and DOCUMENT_FIELD in message.additional_kwargs:
        plain[DOCUMENT_FIELD] = message.additional_kwargs[DOCUMENT_FIELD]
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


# Key of the messages in the state of a conversational graph.
_MESSAGES = "messages"
# Keys of a chunk in a graph's stream with ``version="v2"``.
_PART = frozenset({"type", "ns", "data"})


class NoPlaceError(Exception):
    """A text cannot take the place of an output."""


def in_place_of(output: Any, text: str, verdict: Verdict, asked: Any = None) -> Any:
    """Make an output of the same type from a text: a string, a message with the verdict, or a state.

    Args:
        output: Output that the text replaces.
        text: Text of the new output.
        verdict: Verdict to attach.
        asked: Input of the chain. A state is reduced to its messages and the one with the text; everything
            else is dropped, since it may reveal the answer.

    Raises:
        NoPlaceError: The output has another type.
    """
    if isinstance(output, str):
        return text
    if isinstance(output, AIMessage):
        model = output.response_metadata.get("model_name")
        fields: dict[str, Any] = {
            "content": text,
            "name": output.name,
            "usage_metadata": output.usage_metadata,
            "response_metadata": {"model_name": model} if isinstance(model, str) and model else {},
        }
        is_chunk = isinstance(output, AIMessageChunk)
        message = AIMessageChunk(**fields, chunk_position="last") if is_chunk else AIMessage(**fields)
        return with_verdict(message, verdict)
    if isinstance(output, Mapping) and isinstance(output.get(_MESSAGES), list):
        return {_MESSAGES: [*_asked_messages(asked), with_verdict(AIMessage(text), verdict)]}
    if _is_graphs(output):
        return replace(output, value=in_place_of(output.value, text, verdict, asked), interrupts=())
    raise _no_place(f"of type {type(output).__name__}")


def in_place_of_chunks(chunks: Sequence[Any], text: str, verdict: Verdict, asked: Any = None) -> list[Any]:
    """Make one chunk from a text in place of all chunks of a stream.

    For a graph's stream, it has the form of the last chunk with messages: a state, a node's update, a message
    with its metadata, or one of these with its stream mode.

    Raises:
        NoPlaceError: There are no chunks, or no chunk of this form can be made from a text.
    """
    for kind in (str, AIMessageChunk):
        if chunks and all(isinstance(chunk, kind) for chunk in chunks):
            return [in_place_of(reduce(add, chunks), text, verdict)]
    for chunk in reversed(chunks):
        instead = _in_place_of_graphs(chunk, text, verdict, asked)
        if instead is not None:
            return [instead]
    if len(chunks) == 1:
        return [in_place_of(chunks[0], text, verdict, asked)]
    raise _no_place("nothing" if not chunks else f"chunks of type {type(chunks[-1]).__name__}")


def with_verdict(output: Any, verdict: Verdict, whole: Any = None) -> Any:
    """Attach the verdict to a copy of the output if it is a model's message; return other outputs unchanged.

    Args:
        output: Output, or its last chunk.
        verdict: Verdict to attach.
        whole: All chunks merged into one, if ``output`` is a chunk.
    """
    if not isinstance(output, AIMessage):
        return output
    answer = whole if isinstance(whole, BaseMessage) else output
    carried = sealed(verdict, said=parts_of(answer))
    return output.model_copy(update={"response_metadata": {**output.response_metadata, VERDICT_KEY: carried}})


def without_verdict(output: Any) -> Any:
    """Remove the verdict from a message: merging chunks joins strings, so only one chunk may carry it."""
    if not isinstance(output, AIMessage) or VERDICT_KEY not in output.response_metadata:
        return output
    metadata = {key: value for key, value in output.response_metadata.items() if key != VERDICT_KEY}
    return output.model_copy(update={"response_metadata": metadata})


def _is_graphs(output: Any) -> bool:
    """Whether it is a graph's output with ``version="v2"``, which holds the state and its interrupts."""
    return (
        is_dataclass(output)
        and not isinstance(output, type)
        and isinstance(getattr(output, "value", None), Mapping)
        and hasattr(output, "interrupts")
    )


def _in_place_of_graphs(chunk: Any, text: str, verdict: Verdict, asked: Any) -> Any:
    """Put a text in place of a chunk of a graph's stream; None if the chunk has no place for it."""
    if isinstance(chunk, Mapping) and chunk.keys() >= _PART:
        instead = _in_place_of_graphs(chunk["data"], text, verdict, asked)
        rest: dict[str, Any] = {"interrupts": ()} if "interrupts" in chunk else {}
        part = {"type": chunk["type"], "ns": chunk["ns"], "data": instead, **rest}
        return None if instead is None else part
    if isinstance(chunk, Mapping):
        if isinstance(chunk.get(_MESSAGES), list):
            return in_place_of(chunk, text, verdict, asked)
        for node, update in chunk.items():
            if isinstance(update, Mapping) and isinstance(update.get(_MESSAGES), list):
                # An update is added to the state, so it does not repeat the input messages.
                return {node: in_place_of(update, text, verdict)}
    if isinstance(chunk, tuple) and len(chunk) == 2 and isinstance(chunk[0], AIMessage):
        return in_place_of(chunk[0], text, verdict), {}
    if isinstance(chunk, tuple) and len(chunk) > 1:
        instead = _in_place_of_graphs(chunk[-1], text, verdict, asked)
        return None if instead is None else (*chunk[:-1], instead)
    return None


def _asked_messages(asked: Any) -> list[BaseMessage]:
    """Extract the messages from a graph's input state, or from any other input."""
    messages = asked.get(_MESSAGES) if isinstance(asked, Mapping) else asked
    if isinstance(messages, str | BaseMessage | tuple):
        messages = [messages]
    try:
        return [*convert_to_messages(messages)] if isinstance(messages, list) else []
    except (TypeError, ValueError, NotImplementedError, KeyError):
        return []


def _no_place(what: str) -> NoPlaceError:
    return NoPlaceError(
        f"The chain's output, {what}, has no place for a message; catch this error, or guard the part of the "
        "chain that gives a text or a message."
    )
