"""Decide on every model call in a chain: by its own verdict, or by the local scorer."""

import json
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage, HumanMessage, convert_to_messages
from langchain_core.outputs import ChatGeneration, Generation, LLMResult
from langchain_core.prompt_values import PromptValue

from guardrail.errors import GuardrailError, InvalidInputError
from guardrail.escalation.verdict import withholds
from guardrail.guard.history import VERDICT_FIELD
from guardrail.guard.tool_calls import CalledTool
from guardrail.langchain.answer_parts import (
    UNSEEN,
    AnswerCall,
    AnsweredBy,
    AnswerParts,
    ReportedModel,
    author_of_call,
    parts_of,
    reported_model,
)
from guardrail.langchain.message_conversion import prompt_of
from guardrail.langchain.outcome import CallDecision
from guardrail.langchain.verdicts import VERDICT_EVENT, CarriedVerdict, is_given, is_verdict, verdict_of
from guardrail.utils.json_lines import plain_json

if TYPE_CHECKING:
    from guardrail.guard.answer import GuardedAnswer
    from guardrail.guard.guard import Guard
    from guardrail.labelling.provenance import Author

__all__ = [
    "CallCollector",
    "ModelCall",
    "adecide_on_call",
    "ajudge_call",
    "arefuse_chain",
    "decide_on_call",
    "refuse_chain",
]


# What providers call the same thing.
_REASON_KEYS = ("finish_reason", "stop_reason", "done_reason")
_STOPPED = frozenset({"stop", "end_turn", "stop_sequence", "tool_calls", "tool_use", "function_call", "eos"})
_CUT_OFF = frozenset({"length", "max_tokens"})


@dataclass(frozen=True, slots=True)
class ModelCall:
    """One call of a model.

    Attributes:
        run_id: LangChain's id of the run.
        messages: What was asked; None where that was not seen.
        text: What was answered; None where the answer was not read to its end.
        tool_calls: The tools that the answer calls, and whatever else it holds beside its text.
        finish_reason: Why the answer ended, if the provider says so.
        model: What the call says of the model that answered.
        verdict: The verdict that a guard of this process gave on this answer to this question; None where
            there is none, whatever a message says of itself.
        is_withheld: Whether the answer says of itself that a guard withheld it, and which guard is not known.
    """

    run_id: UUID
    messages: Sequence[BaseMessage] | None = field(default=None, repr=False)
    text: str | None = field(default=None, repr=False)
    tool_calls: Sequence[AnswerCall] = field(default=(), repr=False)
    finish_reason: Literal["stop", "length"] | None = None
    model: ReportedModel = field(default_factory=ReportedModel)
    verdict: CarriedVerdict | None = None
    is_withheld: bool = False

    @property
    def parts(self) -> AnswerParts:
        """What was answered."""
        return AnswerParts(self.text or "", tuple(self.tool_calls))


class CallCollector(BaseCallbackHandler):
    """Sees every call of a model in the runs that it is handed to, and in all runs within them."""

    run_inline = True
    # What it does not see is not checked: its own failure must fail the chain.
    raise_error = True

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: dict[UUID, Sequence[BaseMessage]] = {}
        self._models: dict[UUID, ReportedModel] = {}
        self._ended: list[ModelCall] = []

    @property
    def calls(self) -> list[ModelCall]:
        """The calls in the order in which they ended, and those that never did."""
        with self._lock:
            return [*self._ended, *(ModelCall(run, asked) for run, asked in self._asked.items())]

    def on_chat_model_start(
        self, serialized: Any, messages: list[list[BaseMessage]], *, run_id: UUID, **facts: Any
    ) -> None:
        """A chat model is asked."""
        self._note_model(run_id, serialized, facts)
        with self._lock:
            self._asked[run_id] = list(messages[0])

    def on_llm_start(self, serialized: Any, prompts: list[str], *, run_id: UUID, **facts: Any) -> None:
        """A completion model is asked: its prompt counts as a user's message."""
        self._note_model(run_id, serialized, facts)
        with self._lock:
            self._asked[run_id] = [HumanMessage(prompts[0])]

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **_: Any) -> None:
        """A model answered."""
        self._end(run_id, response)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **facts: Any) -> None:
        """A model failed, or was not read to its end: what it said until then may have been used."""
        response = facts.get("response")
        said = response if isinstance(response, LLMResult) and any(response.generations) else None
        self._end(run_id, said, cut_off=True)

    def on_custom_event(self, name: str, data: Any, *, run_id: UUID, **_: Any) -> None:
        """A guard within the chain decided on a call, which may have been hidden from here."""
        if name != VERDICT_EVENT or not is_verdict(data) or not is_given(data):
            return
        of = _run_id(data.get("run_id")) or run_id
        with self._lock:
            known = [call for call in self._ended if call.run_id == of]
            fitting = [call for call in known if is_given(data, said=call.parts)]
            if not fitting and withholds(data):
                # Nobody is told of an answer that is withheld: what stands there is empty.
                empty = [call for call in known if not call.text and call.verdict is None]
                fitting = empty or [ModelCall(of)]
                self._asked.pop(of, None)
            for call in fitting[-1:]:
                self._ended = [one for one in self._ended if one is not call]
                self._ended.append(replace(call, verdict=data))

    def forget(self) -> None:
        """Forget all calls."""
        with self._lock:
            self._asked.clear()
            self._models.clear()
            self._ended.clear()

    def _note_model(self, run_id: UUID, serialized: Any, facts: Mapping[str, Any]) -> None:
        model = reported_model(serialized, facts.get("metadata"), facts.get("invocation_params"))
        with self._lock:
            self._models[run_id] = model

    def _end(self, run_id: UUID, response: LLMResult | None, *, cut_off: bool = False) -> None:
        with self._lock:
            model = self._models.pop(run_id, ReportedModel())
            asked = self._asked.pop(run_id, None)
            if response is None:
                return
            model = model.with_answer(response.llm_output)
            generations = [one for several in response.generations for one in several]
            # Of several candidates a chain takes the first, which is therefore the last to be added.
            for generation in reversed(generations):
                self._ended.append(_call(run_id, asked, generation, model, cut_off=cut_off))
            if not generations:
                self._ended.append(ModelCall(run_id, asked, "", model=model))


def _call(
    run_id: UUID,
    asked: Sequence[BaseMessage] | None,
    generation: Generation,
    model: ReportedModel,
    *,
    cut_off: bool,
) -> ModelCall:
    message = generation.message if isinstance(generation, ChatGeneration) else None
    metadata = {**(generation.generation_info or {}), **(message.response_metadata if message else {})}
    parts = parts_of(message) if message else AnswerParts(generation.text)
    verdict = verdict_of(message)
    is_ours = verdict is not None and asked is not None and is_given(verdict, asked=asked, said=parts)
    return ModelCall(
        run_id,
        asked,
        parts.text,
        parts.calls,
        "length" if cut_off else _finish_reason(metadata),
        model.with_answer(metadata),
        verdict if is_ours else None,
        is_withheld=verdict is not None and withholds(verdict) and not is_ours,
    )


def _run_id(value: Any) -> UUID | None:
    try:
        return UUID(str(value))
    except ValueError:
        return None


def _finish_reason(metadata: Mapping[str, Any]) -> Literal["stop", "length"] | None:
    reason = next((metadata[key] for key in _REASON_KEYS if isinstance(metadata.get(key), str)), "").lower()
    if reason in _CUT_OFF:
        return "length"
    return "stop" if reason in _STOPPED else None


_ROLES = {"human": "user", "ai": "assistant"}
_UNSEEN = "no call of a model was seen in the chain, so nothing was checked"
_UNREAD = "the model's answer was not read to its end"
_UNASKED = "it was not seen what the model was asked"
_UNREADABLE = "the answer holds nothing that a text model can read"
_WITHHELD = "the message says that a guard withheld its answer, and no guard here did"


def decide_on_call(
    guard: "Guard", call: "ModelCall", tags: Iterable[str], declared: AnsweredBy | None = None
) -> CallDecision:
    """Decide on a call whose model has no guard of its own; what cannot be read, ``on_error`` decides on.

    Args:
        guard: The guard.
        call: The call.
        tags: What the caller says of the request.
        declared: Who the user says that the model is.
    """
    author = author_of_call(call, guard, declared)
    try:
        asked, said, tools = _read(call)
        answer = guard.judge(
            asked,
            said,
            finish_reason=call.finish_reason,
            tags=tags,
            tool_calls=tools,
            answered_by=author,
            temperature=call.model.temperature,
        )
    except (InvalidInputError, _UncheckedError) as error:
        words = _words(call.messages or ())
        answer = guard.refuse(words, call.text, _reason(error), tags=tags, answered_by=author)
    return CallDecision(answer.as_plain(), call.run_id, answer)


async def adecide_on_call(
    guard: "Guard", call: "ModelCall", tags: Iterable[str], declared: AnsweredBy | None = None
) -> CallDecision:
    """As :func:`decide_on_call`, within an event loop."""
    answer = await ajudge_call(guard, call, tags, author_of_call(call, guard, declared))
    return CallDecision(answer.as_plain(), call.run_id, answer)


async def ajudge_call(
    guard: "Guard",
    call: "ModelCall",
    tags: Iterable[str],
    author: "Author | None",
    request_id: str | None = None,
) -> "GuardedAnswer":
    """The guard's answer on a call; where that cannot be read, by ``on_error``.

    Args:
        guard: The guard.
        call: The call.
        tags: What the caller says of the request.
        author: Who gave the answer; None for the guard's own model.
        request_id: As for :meth:`~guardrail.guard.guard.Guard.ask`.
    """
    try:
        asked, said, tools = _read(call)
        return await guard.ajudge(
            asked,
            said,
            finish_reason=call.finish_reason,
            tags=tags,
            tool_calls=tools,
            answered_by=author,
            temperature=call.model.temperature,
            request_id=request_id,
        )
    except (InvalidInputError, _UncheckedError) as error:
        words = _words(call.messages or ())
        return await guard.arefuse(
            words, call.text, _reason(error), tags=tags, answered_by=author, request_id=request_id
        )


def refuse_chain(guard: "Guard", asked: Any, run_id: UUID, tags: Iterable[str]) -> CallDecision:
    """Decide, by ``on_error``, on a chain in which no model was seen.

    Args:
        guard: The guard.
        asked: The chain's input.
        run_id: Of the chain.
        tags: What the caller says of the request.
    """
    reason = _reason(_UncheckedError(_UNSEEN))
    answer = guard.refuse(_input_words(asked), None, reason, tags=tags, answered_by=UNSEEN)
    return CallDecision(answer.as_plain(), run_id, answer)


async def arefuse_chain(guard: "Guard", asked: Any, run_id: UUID, tags: Iterable[str]) -> CallDecision:
    """As :func:`refuse_chain`, within an event loop."""
    reason = _reason(_UncheckedError(_UNSEEN))
    answer = await guard.arefuse(_input_words(asked), None, reason, tags=tags, answered_by=UNSEEN)
    return CallDecision(answer.as_plain(), run_id, answer)


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
