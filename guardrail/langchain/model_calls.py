"""Every call of a model within a chain: what was asked and answered, and the verdict if there is one."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, Generation, LLMResult

from guardrail.langchain.authors import ReportedModel, reported_model
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
        tool_calls: The tools that the answer calls, as LangChain writes them; also calls that it cannot read.
        finish_reason: Why the answer ended, if the provider says so.
        model: What the call says of the model that answered.
        verdict: The verdict that the answer carries; None where the model is not guarded itself.
    """

    run_id: UUID
    messages: Sequence[BaseMessage] | None = field(default=None, repr=False)
    text: str | None = field(default=None, repr=False)
    tool_calls: Sequence[Mapping[str, Any]] = field(default=(), repr=False)
    finish_reason: Literal["stop", "length"] | None = None
    model: ReportedModel = field(default_factory=ReportedModel)
    verdict: Mapping[str, Any] | None = None


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
        if name != VERDICT_EVENT or not is_verdict(data):
            return
        of = _run_id(data.get("run_id")) or run_id
        with self._lock:
            known = next((call for call in self._ended if call.run_id == of), ModelCall(of))
            self._asked.pop(of, None)
            self._ended = [call for call in self._ended if call.run_id != of]
            self._ended.append(replace(known, verdict=data))

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
    return ModelCall(
        run_id,
        asked,
        str(message.text) if message else generation.text,
        (*getattr(message, "tool_calls", ()), *getattr(message, "invalid_tool_calls", ())),
        "length" if cut_off else _finish_reason(metadata),
        model.with_answer(metadata),
        verdict_of(message),
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
