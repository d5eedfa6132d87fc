"""Every call of a model within a chain: what was asked and answered, and the verdict, if one of ours."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, Generation, LLMResult

from guardrail.escalation.case import withholds
from guardrail.langchain.answer_parts import AnswerCall, AnswerParts, parts_of
from guardrail.langchain.authors import ReportedModel, reported_model
from guardrail.langchain.seals import is_given
from guardrail.langchain.verdicts import VERDICT_EVENT, is_verdict, verdict_of

__all__ = ["CallCollector", "ModelCall"]

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
    verdict: Mapping[str, Any] | None = None
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
