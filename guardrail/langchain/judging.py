"""Every call of a chain decided on: by the verdict it carries, or by a local model that reads it."""

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

from langchain_core.messages import BaseMessage, convert_to_messages
from langchain_core.prompt_values import PromptValue

from guardrail.errors import GuardrailError, InvalidInputError
from guardrail.guard.history import VERDICT_FIELD
from guardrail.guard.tool_calls import CalledTool
from guardrail.langchain.answer_parts import AnswerCall
from guardrail.langchain.authors import UNSEEN, AnsweredBy, author_of_call
from guardrail.langchain.messages import prompt_of
from guardrail.langchain.outcome import Verdict
from guardrail.langchain.verdicts import verdict_of
from guardrail.utils.plain_json import plain_json

if TYPE_CHECKING:
    from guardrail.guard.guard import Guard
    from guardrail.langchain.model_calls import ModelCall

__all__ = ["ajudge_call", "arefuse_chain", "judge_call", "refuse_chain"]

_ROLES = {"human": "user", "ai": "assistant"}
_UNSEEN = "no call of a model was seen in the chain, so nothing was checked"
_UNREAD = "the model's answer was not read to its end"
_UNASKED = "it was not seen what the model was asked"
_UNREADABLE = "the answer holds nothing that a text model can read"
_WITHHELD = "the message says that a guard withheld its answer, and no guard here did"


def judge_call(
    guard: "Guard", call: "ModelCall", tags: Iterable[str], declared: AnsweredBy | None = None
) -> Verdict:
    """Decide on a call whose model has no guard of its own; what cannot be read, ``on_error`` decides on.

    Args:
        guard: The guard.
        call: The call.
        tags: What the caller says of the request.
        declared: Who the user says that the model is.
    """
    facts: dict[str, Any] = {"tags": tags, "answered_by": author_of_call(call, guard, declared)}
    try:
        asked, said, tools = _read(call)
        answer = guard.judge(asked, said, finish_reason=call.finish_reason, tool_calls=tools, **facts)
    except (InvalidInputError, _UncheckedError) as error:
        answer = guard.refuse(_words(call.messages or ()), call.text, _reason(error), **facts)
    return Verdict(answer.as_plain(), call.run_id, answer)


async def ajudge_call(
    guard: "Guard", call: "ModelCall", tags: Iterable[str], declared: AnsweredBy | None = None
) -> Verdict:
    """As :func:`judge_call`, within an event loop."""
    facts: dict[str, Any] = {"tags": tags, "answered_by": author_of_call(call, guard, declared)}
    try:
        asked, said, tools = _read(call)
        answer = await guard.ajudge(asked, said, finish_reason=call.finish_reason, tool_calls=tools, **facts)
    except (InvalidInputError, _UncheckedError) as error:
        answer = await guard.arefuse(_words(call.messages or ()), call.text, _reason(error), **facts)
    return Verdict(answer.as_plain(), call.run_id, answer)


def refuse_chain(guard: "Guard", asked: Any, run_id: UUID, tags: Iterable[str]) -> Verdict:
    """Decide, by ``on_error``, on a chain in which no model was seen.

    Args:
        guard: The guard.
        asked: The chain's input.
        run_id: Of the chain.
        tags: What the caller says of the request.
    """
    reason = _reason(_UncheckedError(_UNSEEN))
    answer = guard.refuse(_input_words(asked), None, reason, tags=tags, answered_by=UNSEEN)
    return Verdict(answer.as_plain(), run_id, answer)


async def arefuse_chain(guard: "Guard", asked: Any, run_id: UUID, tags: Iterable[str]) -> Verdict:
    """As :func:`refuse_chain`, within an event loop."""
    reason = _reason(_UncheckedError(_UNSEEN))
    answer = await guard.arefuse(_input_words(asked), None, reason, tags=tags, answered_by=UNSEEN)
    return Verdict(answer.as_plain(), run_id, answer)


class _UncheckedError(GuardrailError):
    """An answer that there is nothing to check by."""


def _read(call: "ModelCall") -> tuple[list[dict[str, Any]], str, list[CalledTool]]:
    """What was asked and answered as the local model reads it, and the tools that are called."""
    if call.messages is None:
        raise _UncheckedError(_UNASKED)
    if call.text is None:
        raise _UncheckedError(_UNREAD)
    if call.is_withheld:
        raise _UncheckedError(_WITHHELD)
    if not call.parts.is_readable:
        raise _UncheckedError(_UNREADABLE)
    tools = [CalledTool(tool.name, _written(tool) if tool.is_read else None) for tool in call.tool_calls]
    said = "\n".join(filter(None, [call.text, *(tool.written for tool in tools)]))
    return prompt_of(call.messages), said, tools


def _written(call: AnswerCall) -> str:
    """A call of a tool as most chat templates write it."""
    values = plain_json({"name": call.name, "arguments": call.given})
    return f"<tool_call>\n{json.dumps(values, ensure_ascii=False)}\n</tool_call>"


def _reason(error: Exception) -> str:
    # Ours alone are raised here, and nothing that was said is in them.
    name = "ScoringError" if isinstance(error, _UncheckedError) else type(error).__name__
    return f"{name}: {' '.join(str(error).split())}"


def _words(messages: Sequence[BaseMessage]) -> list[dict[str, Any]]:
    """Messages for a person's eyes."""
    return [
        {
            "role": _ROLES.get(message.type, message.type),
            "content": str(message.text),
            **({VERDICT_FIELD: verdict} if (verdict := verdict_of(message)) else {}),
        }
        for message in messages
    ]


def _input_words(asked: Any) -> list[dict[str, Any]]:
    """A chain's input for a person's eyes."""
    if isinstance(asked, PromptValue):
        return _words(asked.to_messages())
    if isinstance(asked, BaseMessage):
        return _words([asked])
    if isinstance(asked, list):
        try:
            return _words(convert_to_messages(asked))
        except Exception:  # noqa: BLE001, S110  (it is no list of messages, then)
            pass
    content = asked if isinstance(asked, str) else json.dumps(plain_json(asked), ensure_ascii=False)
    return [{"role": "user", "content": content}]
