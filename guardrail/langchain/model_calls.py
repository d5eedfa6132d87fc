"""Collect the model calls in a chain, and judge those without a verdict by the local scorer."""

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


# Keys and values that providers use for the finish reason.
_REASON_KEYS = ("finish_reason", "stop_reason", "done_reason")
_STOPPED = frozenset({"stop", "end_turn", "stop_sequence", "tool_calls", "tool_use", "function_call", "eos"})
_CUT_OFF = frozenset({"length", "max_tokens"})


@dataclass(frozen=True, slots=True)
class ModelCall:
    """One model call.

    Attributes:
        run_id: LangChain's id of the run.
        messages: Messages of the request; None if they were not seen.
        text: Text of the answer; None if the answer was not read to its end.
        tool_calls: Tool calls in the answer, and any other content beyond text.
        finish_reason: Why the answer ended, if the provider reports it.
        model: Model that answered, as the call reports it.
        verdict: Verdict that a guard of this process gave on this answer to this question; None if there is
            none, even if the message claims one.
        is_withheld: Whether the message claims that an unknown guard withheld its answer.
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
        """Text and other content of the answer."""
        return AnswerParts(self.text or "", tuple(self.tool_calls))


class CallCollector(BaseCallbackHandler):
    """Callback handler that collects every model call in its runs and in their child runs."""

    run_inline = True
    # A call that it misses would go unchecked, so a failure of this handler must fail the chain.
    raise_error = True

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: dict[UUID, Sequence[BaseMessage]] = {}
        self._models: dict[UUID, ReportedModel] = {}
        self._ended: list[ModelCall] = []

    @property
    def calls(self) -> list[ModelCall]:
        """Model calls in the order in which they ended, followed by those that have not ended."""
        with self._lock:
            return [*self._ended, *(ModelCall(run, asked) for run, asked in self._asked.items())]

    def on_chat_model_start(
        self, serialized: Any, messages: list[list[BaseMessage]], *, run_id: UUID, **facts: Any
    ) -> None:
        """Record the request to a chat model."""
        self._note_model(run_id, serialized, facts)
        with self._lock:
            self._asked[run_id] = list(messages[0])

    def on_llm_start(self, serialized: Any, prompts: list[str], *, run_id: UUID, **facts: Any) -> None:
        """Record the request to a completion model; its prompt counts as a user message."""
        self._note_model(run_id, serialized, facts)
        with self._lock:
            self._asked[run_id] = [HumanMessage(prompts[0])]

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **_: Any) -> None:
        """Record the answer of a model."""
        self._end(run_id, response)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **facts: Any) -> None:
        """Record the partial answer, if any, of a model that failed or was cut off; it may have been used."""
        response = facts.get("response")
        said = response if isinstance(response, LLMResult) and any(response.generations) else None
        self._end(run_id, said, cut_off=True)

    def on_custom_event(self, name: str, data: Any, *, run_id: UUID, **_: Any) -> None:
        """Record the verdict of a guard within the chain, whose model call may have been hidden from here."""
        if name != VERDICT_EVENT or not is_verdict(data) or not is_given(data):
            return
        of = _run_id(data.get("run_id")) or run_id
        with self._lock:
            known = [call for call in self._ended if call.run_id == of]
            fitting = [call for call in known if is_given(data, said=call.parts)]
            if not fitting and withholds(data):
                # A withheld answer is never released, so its recorded call has an empty text.
                empty = [call for call in known if not call.text and call.verdict is None]
                fitting = empty or [ModelCall(of)]
                self._asked.pop(of, None)
            for call in fitting[-1:]:
                self._ended = [one for one in self._ended if one is not call]
                self._ended.append(replace(call, verdict=data))

    def forget(self) -> None:
        """Drop all calls."""
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
            # A chain uses the first of several candidates, so that one is added last, as the last call.
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
    """Decide on a call whose model has no guard of its own; ``on_error`` decides if it cannot be read.

    Args:
        guard: Guard that decides.
        call: Model call to decide on.
        tags: Tags of the request.
        declared: Model that the user declares to answer (``answered_by``).
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
    """Async version of :func:`decide_on_call`."""
    answer = await ajudge_call(guard, call, tags, author_of_call(call, guard, declared))
    return CallDecision(answer.as_plain(), call.run_id, answer)


async def ajudge_call(
    guard: "Guard",
    call: "ModelCall",
    tags: Iterable[str],
    author: "Author | None",
    request_id: str | None = None,
) -> "GuardedAnswer":
    """Have the guard judge a call; ``on_error`` decides if the call cannot be read.

    Args:
        guard: Guard that decides.
        call: Model call to decide on.
        tags: Tags of the request.
        author: Model that gave the answer; None for the guard's own model.
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
    """Decide by ``on_error`` on a chain in which no model call was seen.

    Args:
        guard: Guard that decides.
        asked: Input of the chain.
        run_id: Id of the chain's run.
        tags: Tags of the request.
    """
    reason = _reason(_UncheckedError(_UNSEEN))
    answer = guard.refuse(_input_words(asked), None, reason, tags=tags, answered_by=UNSEEN)
    return CallDecision(answer.as_plain(), run_id, answer)


async def arefuse_chain(guard: "Guard", asked: Any, run_id: UUID, tags: Iterable[str]) -> CallDecision:
    """Async version of :func:`refuse_chain`."""
    reason = _reason(_UncheckedError(_UNSEEN))
    answer = await guard.arefuse(_input_words(asked), None, reason, tags=tags, answered_by=UNSEEN)
    return CallDecision(answer.as_plain(), run_id, answer)


class _UncheckedError(GuardrailError):
    """An answer that cannot be checked."""


def _read(call: "ModelCall") -> tuple[list[dict[str, Any]], str, list[CalledTool]]:
    """Return the prompt, the answer as the local model reads it, and the tools it calls."""
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
    """Render a tool call as most chat templates do."""
    values = plain_json({"name": call.name, "arguments": call.given})
    return f"<tool_call>\n{json.dumps(values, ensure_ascii=False)}\n</tool_call>"


def _reason(error: Exception) -> str:
    # Only errors of this package get here, and their messages quote nothing from the conversation.
    name = "ScoringError" if isinstance(error, _UncheckedError) else type(error).__name__
    return f"{name}: {' '.join(str(error).split())}"


def _words(messages: Sequence[BaseMessage]) -> list[dict[str, Any]]:
    """Convert messages to plain values that a person can read."""
    return [
        {
            "role": _ROLES.get(message.type, message.type),
            "content": str(message.text),
            **({VERDICT_FIELD: verdict} if (verdict := verdict_of(message)) else {}),
        }
        for message in messages
    ]


def _input_words(asked: Any) -> list[dict[str, Any]]:
    """Convert a chain's input to messages that a person can read."""
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
