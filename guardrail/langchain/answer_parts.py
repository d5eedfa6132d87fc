"""The parts of any provider's answer: its text, and everything that is more than text.

LangChain reads some calls of tools into ``tool_calls``. Providers also write calls elsewhere (a legacy
``function_call``, blocks of calls that their servers run), and other things beside the text: pictures, sound,
results of servers, blocks of their own. Nothing of that is scored, so it counts as calls of tools, of unknown
ones where no name is found. What a model thought is no part of its answer.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from langchain_core.messages import BaseMessage

__all__ = ["AnswerCall", "AnswerParts", "parts_of"]

# What a model thought, as providers write it.
_THOUGHTS = frozenset({"reasoning", "reasoning_content", "redacted_thinking", "thinking"})
# Blocks that repeat a call which LangChain reads into ``tool_calls`` as well.
_CALL_BLOCKS = frozenset(
    {"function_call", "invalid_tool_call", "tool_call", "tool_call_chunk", "tool_use", "input_json_delta"}
)
# What a block of text may say of itself.
_OF_TEXT = frozenset(
    {"annotations", "cache_control", "citations", "extras", "id", "index", "phase", "text", "type"}
)
# Beside the answer and no part of it: who speaks, thoughts, signatures of thoughts and calls.
_FACTS = _THOUGHTS | {
    "__gemini_function_call_thought_signatures__",
    "__openai_function_call_ids__",
    "__openai_role__",
    "name",
    "prefix",
    "reasoning_details",
    "reasoning_signature",
    "role",
    "thought_signature",
}
# What an answer took, why it ended and which model gave it, where a provider writes it beside the answer.
_ACCOUNTS = frozenset({"finish_reason", "model_id", "model_name", "stop_reason", "token_usage", "usage"})


@dataclass(frozen=True, slots=True)
class AnswerCall:
    """A call of a tool, or something else that is more than text.

    Attributes:
        name: The tool's; empty where it is not known.
        given: Its arguments; what stands there, where no call can be read from it.
        identity: The call's id, if it has one.
        is_read: Whether it is a call with a name, which can be written as one.
    """

    name: str
    given: Any = field(default=None, repr=False)
    identity: str | None = None
    is_read: bool = True


@dataclass(frozen=True)
class AnswerParts:
    """An answer, taken apart.

    Attributes:
        text: Its text, refusals included.
        calls: All that is more.
    """

    text: str = field(default="", repr=False)
    calls: tuple[AnswerCall, ...] = field(default=(), repr=False)

    @property
    def is_readable(self) -> bool:
        """Whether there is something that a text model can read."""
        return bool(self.text) or any(call.is_read for call in self.calls) or not self.calls

    @cached_property
    def words(self) -> str:
        """All of it as one text: equal for answers that are equal."""
        calls = [[call.name, call.given, call.identity] for call in self.calls]
        return json.dumps([self.text, calls], default=repr, skipkeys=True)


def parts_of(message: BaseMessage) -> AnswerParts:
    """Take an answer apart, whatever it is made of.

    Args:
        message: A message of a model, whole or the chunks of a stream in one.
    """
    known = [*_read_by_langchain(message)]
    texts: list[str] = []
    others: list[AnswerCall] = []
    blocks = [message.content] if isinstance(message.content, str) else message.content
    for block in blocks:
        text = _text_of(block)
        if text is not None:
            texts.append(text)
        elif isinstance(block, dict) and (call := _call_of(block, known)) is not None:
            others.append(call)
    refusal = message.additional_kwargs.get("refusal")
    if isinstance(refusal, str):
        texts.append(refusal)
    # A provider's own reading of the text; of the same values it says nothing new.
    beside = {**message.additional_kwargs, **(message.model_extra or {})}
    for key, value in beside.items():
        is_fact = key in _FACTS or (key == "refusal" and isinstance(value, str))
        is_fact = is_fact or (key in _ACCOUNTS and _is_account(value))
        if value and not is_fact and not (key == "parsed" and _is_json_of("".join(texts), value)):
            others += _beside(key, value, known)
    return AnswerParts("".join(texts), (*known, *others))


def _read_by_langchain(message: BaseMessage) -> Iterator[AnswerCall]:
    for call in (*getattr(message, "tool_calls", ()), *getattr(message, "invalid_tool_calls", ())):
        yield AnswerCall(str(call.get("name") or ""), call.get("args"), call.get("id"))


def _text_of(block: Any) -> str | None:
    if isinstance(block, str):
        return block
    kind = block.get("type")
    if kind == "text" and isinstance(block.get("text"), str) and not set(block) - _OF_TEXT:
        return str(block["text"])
    if kind == "refusal" and isinstance(block.get("refusal"), str):
        return str(block["refusal"])
    return None


def _call_of(block: Mapping[str, Any], known: list[AnswerCall]) -> AnswerCall | None:
    """What a block that is no text counts as; None for a thought, and for a call that is known."""
    kind = block.get("type")
    if isinstance(kind, str) and kind in _THOUGHTS:
        return None
    if isinstance(kind, str) and kind in _CALL_BLOCKS and _is_known(block, known):
        return None
    value = block.get("value")
    name = next((one for one in (_name(block), _name(value)) if one), "")
    arguments = next((block[key] for key in ("args", "arguments", "input") if key in block), None)
    if name and arguments is not None:
        return AnswerCall(name, arguments, _identity(block))
    return AnswerCall(name, block, is_read=False)


def _beside(key: str, value: Any, known: list[AnswerCall]) -> Iterator[AnswerCall]:
    """What a field of a message that is no content counts as."""
    if key == "function_call" and _repeats(value, known):
        return
    values = value if isinstance(value, list) and key == "tool_calls" else [value]
    for one in values:
        function = one.get("function", one) if isinstance(one, Mapping) else None
        if key == "tool_calls" and isinstance(one, Mapping) and _is_known(one, known):
            continue
        name = _name(function)
        if name and isinstance(function, Mapping) and "arguments" in function:
            yield AnswerCall(name, function["arguments"], _identity(one))
        else:
            yield AnswerCall(name, {key: one}, is_read=False)


def _is_known(block: Mapping[str, Any], known: list[AnswerCall]) -> bool:
    """Whether a block repeats a call: a known one of its id and, if it says so, its name."""
    identities = {block[key] for key in ("id", "call_id") if isinstance(block.get(key), str)}
    function = block.get("function")
    name = _name(function) or _name(block)
    if not identities:
        return bool(name) and any(name == call.name for call in known)
    return any(call.identity in identities and name in ("", call.name) for call in known)


def _repeats(function: Any, known: list[AnswerCall]) -> bool:
    """Whether a call without an id is a known one: of the same tool, with the same arguments."""
    arguments = function.get("arguments") if isinstance(function, Mapping) else None
    name = _name(function)
    return isinstance(arguments, str) and any(
        name == call.name and call.is_read and _is_json_of(arguments, call.given) for call in known
    )


def _is_account(value: Any) -> bool:
    """Whether a value is a name or a number, or numbers by their names."""
    numbers = value.values() if isinstance(value, Mapping) else ()
    return isinstance(value, str | int | float) or (
        isinstance(value, Mapping) and all(one is None or isinstance(one, int | float) for one in numbers)
    )


def _name(value: Any) -> str:
    name = value.get("name") if isinstance(value, Mapping) else None
    return name if isinstance(name, str) else ""


def _identity(value: Mapping[str, Any]) -> str | None:
    identity = value.get("id")
    return identity if isinstance(identity, str) else None


def _is_json_of(text: str, value: Any) -> bool:
    plain = value.model_dump(mode="json") if hasattr(value, "model_dump") else value
    try:
        return bool(json.loads(text) == plain)
    except (ValueError, RecursionError):
        return False
