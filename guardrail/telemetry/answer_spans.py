"""What is recorded of an answer: a span with its stages, an event with the verdict, and numbers."""

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from guardrail.telemetry.answer_record import NANOSECONDS, AnswerFacts, Asked, StageTime, Texts
from guardrail.telemetry.instruments import Instruments, instruments
from guardrail.telemetry.providers import below, safely, signals, within
from guardrail.telemetry.semantic_conventions import (
    CHAT,
    EVALUATION_EVENT,
    EVALUATION_NAME,
    JUDGE,
    PROVIDER_NAME,
    Attribute,
)

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from guardrail.telemetry.providers import Signals

__all__ = ["AnswerRecording", "AnswerTelemetry"]

_Value = str | bool | int | float | Sequence[str]
_SAMPLING = {
    "max_tokens": Attribute.REQUEST_MAX_TOKENS,
    "temperature": Attribute.REQUEST_TEMPERATURE,
    "top_p": Attribute.REQUEST_TOP_P,
    "seed": Attribute.REQUEST_SEED,
}


class AnswerTelemetry:
    """Records the answers of a guard.

    Args:
        model: Name of its model.
        policy: Name of its policy.
        texts: What may be recorded of what was said: nothing, the question and what is shown, or also drafts
            that are withheld.
    """

    def __init__(self, model: str, policy: str, texts: Texts) -> None:
        self.texts = texts
        self._model, self._policy = model, policy

    @contextmanager
    def recorded(self, asked: Iterable[Asked], sampling: object | None = None) -> "Iterator[AnswerRecording]":
        """Record the answers to some requests. What the block raises ends those that are not decided on.

        Args:
            asked: The requests.
            sampling: How answers are drawn, with attributes such as ``temperature``.
        """
        known = signals()
        if known is None:
            yield _NOTHING
            return
        recording = AnswerRecording(known, safely(instruments), self._model, self._policy, self.texts)
        safely(recording.begin, asked, sampling)
        try:
            yield recording
        except BaseException as error:
            safely(recording.fail, type(error).__name__)
            raise
        else:
            safely(recording.end)

    def ran(self, size: int) -> None:
        """Record that requests were run together.

        Args:
            size: How many.
        """
        safely(self._count_batch, size)

    def _count_batch(self, size: int) -> None:
        if (made := instruments()) is not None:
            made.batch_size.record(size, {Attribute.REQUEST_MODEL: self._model})


class _OpenSpan(NamedTuple):
    """An answer that is not decided on yet, and its span."""

    span: "Span | None"
    operation: str
    began: int


class AnswerRecording:
    """The answers to the requests of one call.

    Args:
        known: What to record by; None for nothing.
        made: The instruments.
        model: Name of the model.
        policy: Name of the policy.
        texts: What may be recorded of what was said.
    """

    def __init__(
        self, known: "Signals | None", made: Instruments | None, model: str, policy: str, texts: Texts
    ) -> None:
        self._known, self._made = known, made
        self._model, self._policy, self._texts = model, policy, texts
        self._open: dict[str, _OpenSpan] = {}

    def begin(self, asked: Iterable[Asked], sampling: object | None) -> None:
        """Begin the spans of requests."""
        if self._known is None:
            return
        drawn = {name: getattr(sampling, key, None) for key, name in _SAMPLING.items()}
        for one in asked:
            operation = JUDGE if one.is_read else CHAT
            began = time.time_ns()
            # First without a span, so that a tracer that fails costs no numbers.
            self._open[one.request] = _OpenSpan(None, operation, began)
            attributes = {**self._common(operation), Attribute.POLICY: self._policy}
            if not one.is_read:
                attributes |= {name: value for name, value in drawn.items() if value is not None}
            if self._texts != "none":
                attributes[Attribute.INPUT_MESSAGES] = _messages(one.messages)
            span = safely(self._started, f"{operation} {self._model}", attributes, began)
            self._open[one.request] = _OpenSpan(span, operation, began)

    @contextmanager
    def stage(self, request: str, stage: str) -> Iterator[None]:
        """Record the block as a stage of an answer; what others record in it is below its span.

        Args:
            request: Id of the request.
            stage: Name of the stage.
        """
        if self._known is None:
            yield
            return
        began, clock = time.time_ns(), time.perf_counter()
        parent = self._open[request].span if request in self._open else None
        span = None
        if parent is not None:
            span = safely(self._child, parent, stage, began)
        try:
            with within(span):
                yield
        except BaseException as error:
            if span is not None:
                safely(_fail, span, type(error).__name__)
            raise
        finally:
            seconds = time.perf_counter() - clock
            if span is not None:
                safely(_end, span, began + int(seconds * NANOSECONDS))
            safely(self._took, stage, seconds)

    def answered(self, facts: AnswerFacts) -> None:
        """Record an answer that was decided on.

        Args:
            facts: What is known of it.
        """
        if self._known is None:
            return
        known = self._open.pop(facts.request, None)
        if known is None:
            return
        if known.span is not None:
            safely(self._tell_span, known, known.span, facts)
            safely(self._tell_event, known.span, facts)
            safely(_end, known.span)
        safely(self._count, known, facts)

    def fail(self, kind: str) -> None:
        """End what is not decided on: an error was raised.

        Args:
            kind: Its type.
        """
        for known in self._open.values():
            if known.span is not None:
                safely(_fail, known.span, kind)
                safely(_end, known.span)
            safely(self._count_error, known, kind)
        self._open.clear()

    def end(self) -> None:
        """End what is not decided on, and did not fail either."""
        for known in self._open.values():
            if known.span is not None:
                safely(_end, known.span)
        self._open.clear()

    def _common(self, operation: str) -> dict[str, Any]:
        return {
            Attribute.OPERATION: operation,
            Attribute.PROVIDER: PROVIDER_NAME,
            Attribute.REQUEST_MODEL: self._model,
        }

    def _started(
        self, name: str, attributes: Mapping[str, Any], began: int, parent: "Span | None" = None
    ) -> "Span | None":
        if self._known is None:
            return None
        around = None if parent is None else below(parent)
        return self._known.tracer.start_span(name, around, attributes=attributes, start_time=began)

    def _child(self, parent: "Span", stage: str, began: int) -> "Span | None":
        return self._started(stage, {Attribute.STAGE: stage}, began, parent)

    def _tell_span(self, known: _OpenSpan, span: "Span", facts: AnswerFacts) -> None:
        if not span.is_recording():
            return
        first = min((stage.began for stage in facts.stages), default=known.began)
        waited = StageTime("wait", known.began, max(0.0, (first - known.began) / NANOSECONDS))
        for stage in (waited, *facts.stages):
            if (child := self._child(span, stage.stage, stage.began)) is not None:
                child.end(stage.began + int(stage.seconds * NANOSECONDS))
        span.set_attributes(self._told(facts))
        if facts.error_types:
            _fail(span, facts.error_types[0])

    def _told(self, facts: AnswerFacts) -> dict[str, _Value]:
        told: dict[str, _Value | None] = {
            Attribute.RESPONSE_ID: facts.request,
            Attribute.RESPONSE_MODEL: self._model,
            Attribute.FINISH_REASONS: [facts.finish_reason] if facts.finish_reason else None,
            Attribute.INPUT_TOKENS: facts.input_tokens,
            Attribute.OUTPUT_TOKENS: facts.output_tokens,
            Attribute.REASONING_TOKENS: facts.reasoning_tokens or None,
            Attribute.ACTION: facts.action,
            Attribute.RULE: facts.rule,
            Attribute.ENFORCED: facts.enforced,
            Attribute.REASON: self._why(facts),
            Attribute.CONFIDENCE: facts.confidence,
            Attribute.FAMILIAR: facts.familiar,
            Attribute.BATCH_SIZE: facts.batch_size,
        }
        if self._texts != "none":
            said = [{"role": "assistant", "content": facts.shown}]
            told[Attribute.OUTPUT_MESSAGES] = _messages(said, facts.finish_reason)
        if self._texts == "full":
            told[Attribute.DRAFT] = facts.draft and _sendable(facts.draft)
        return {name: value for name, value in told.items() if value is not None}

    def _why(self, facts: AnswerFacts) -> str | None:
        """Why it was decided, unless the words hold what may not be recorded."""
        return None if facts.has_names and self._texts != "full" else _sendable(facts.reason)

    def _tell_event(self, span: "Span", facts: AnswerFacts) -> None:
        if self._known is None:
            return
        attributes: dict[str, Any] = {
            Attribute.EVALUATION: EVALUATION_NAME,
            Attribute.SCORE_LABEL: facts.action,
            Attribute.EXPLANATION: ": ".join(filter(None, (facts.rule, self._why(facts)))),
            Attribute.RESPONSE_ID: facts.request,
        }
        if facts.confidence is not None:
            attributes[Attribute.SCORE_VALUE] = facts.confidence
        if facts.error_types:
            attributes[Attribute.ERROR_TYPE] = facts.error_types[0]
        self._known.logger.emit(
            timestamp=time.time_ns(),
            context=below(span),
            event_name=EVALUATION_EVENT,
            attributes=attributes,
        )

    def _count(self, known: _OpenSpan, facts: AnswerFacts) -> None:
        made = self._made
        if made is None:
            return
        common = self._common(known.operation)
        labels = {Attribute.REQUEST_MODEL: self._model, Attribute.POLICY: self._policy}
        verdict = {**labels, Attribute.ACTION: facts.action}
        made.answers.add(
            1,
            {
                **verdict,
                Attribute.RULE: facts.rule,
                Attribute.ENFORCED: str(facts.enforced).lower(),
                Attribute.FAMILIAR: facts.familiar or "unknown",
            },
        )
        if facts.confidence is not None:
            made.confidence.record(facts.confidence, verdict)
        for tokens, kind in ((facts.input_tokens, "input"), (facts.output_tokens, "output")):
            if tokens is not None:
                made.tokens.record(tokens, {**common, Attribute.TOKEN_TYPE: kind})
        failed = {Attribute.ERROR_TYPE: facts.error_types[0]} if facts.error_types else {}
        made.duration.record(max(0.0, (time.time_ns() - known.began) / NANOSECONDS), {**common, **failed})
        for kind in facts.error_types:
            made.errors.add(1, {**labels, Attribute.ERROR_TYPE: kind})
        first = min((stage.began for stage in facts.stages), default=known.began)
        self._took("wait", (first - known.began) / NANOSECONDS)
        for stage in facts.stages:
            self._took(stage.stage, stage.seconds)

    def _took(self, stage: str, seconds: float) -> None:
        if self._made is not None:
            labels = {Attribute.STAGE: stage, Attribute.REQUEST_MODEL: self._model}
            self._made.stages.record(max(0.0, seconds), labels)

    def _count_error(self, known: _OpenSpan, kind: str) -> None:
        if self._made is None:
            return
        labels = {Attribute.REQUEST_MODEL: self._model, Attribute.POLICY: self._policy}
        self._made.errors.add(1, {**labels, Attribute.ERROR_TYPE: kind})
        common = {**self._common(known.operation), Attribute.ERROR_TYPE: kind}
        self._made.duration.record(max(0.0, (time.time_ns() - known.began) / NANOSECONDS), common)


_NOTHING = AnswerRecording(None, None, "", "", "none")


# Functions, so that not even a method of what others made is looked up unless safely.


def _end(span: "Span", at: int | None = None) -> None:
    span.end(at)


def _fail(span: "Span", kind: str) -> None:
    from opentelemetry.trace import Status, StatusCode

    # Never its message, nor a traceback: either may hold a draft.
    span.set_attribute(Attribute.ERROR_TYPE, kind)
    span.set_status(Status(StatusCode.ERROR))


def _sendable(text: str) -> str:
    """A text without halves of surrogate pairs, which exporters cannot encode."""
    return text.encode("utf-8", "backslashreplace").decode()


def _messages(messages: Sequence[Mapping[str, Any]], finish_reason: str | None = None) -> str:
    """Messages as the conventions have them: a list of roles with parts, as JSON."""
    told = []
    for message in messages:
        content = message.get("content")
        text = content if isinstance(content, str) else json.dumps(content, default=str)
        parts = [{"type": "text", "content": text}]
        one: dict[str, Any] = {"role": str(message.get("role", "")), "parts": parts}
        told.append(one if finish_reason is None else {**one, "finish_reason": finish_reason})
    return json.dumps(told)
