"""Answers that are shown sentence by sentence, each decided on before it is shown (``streaming: sentences``).

A sentence is scored as the profile's sentences were: given the prompt and all of the answer before it. It is
decided on once nothing that follows can move its end, and shown if the policy lets it through; the first that
is withheld ends the answer. So does whatever goes wrong on the way: what was not decided on is not shown.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import TYPE_CHECKING

from guardrail.errors import InvalidInputError, OptionError, ScoringError
from guardrail.escalation.case import is_blank
from guardrail.guard.answer import failure
from guardrail.guard.assess import AssessedJob, ResolvedProfile, assess
from guardrail.guard.produce import Job, Produced, read_jobs
from guardrail.models.decoding import CancelledError, response_text
from guardrail.models.trace import Usage
from guardrail.scoring.options import Span
from guardrail.scoring.segments import complete_spans, final_starts, score_segments, sentence_spans
from guardrail.scoring.uncertainty import Observation

if TYPE_CHECKING:
    from guardrail.models.local import LocalModel
    from guardrail.models.partial_response import PartialResponse
    from guardrail.models.sampling import Sampling
    from guardrail.models.trace import FinishReason, Trace
    from guardrail.policy.messages import Notices
    from guardrail.policy.model import Policy
    from guardrail.scoring.options import ScoringOptions
    from guardrail.scoring.uncertainty import Uncertainty

__all__ = ["Released", "SentenceDecision", "SentenceRelease", "check_prose", "released_sentences"]

_REASONED = "the model reasons before it answers, which streaming: sentences does not decide on"
_OTHERWISE = "the sentences came out otherwise than they began"


@dataclass(frozen=True, slots=True)
class SentenceDecision:
    """A sentence that was decided on.

    Attributes:
        span: Its tokens, counted within the answer.
        uncertainty: Its scores; None where it could not be scored.
        assessed: What was decided, and why.
    """

    span: Span
    uncertainty: "Uncertainty | None"
    assessed: AssessedJob = field(repr=False)

    @property
    def is_shown(self) -> bool:
        """Whether the policy lets it through, or only observes."""
        decision = self.assessed.decision
        return not decision.enforced or decision.action in ("pass", "flag")


@dataclass(frozen=True, slots=True)
class Released:
    """What was shown of an answer.

    Attributes:
        text: The text that was shown: that of the first sentences.
        decisions: The sentences that were decided on, in order; the last may be one that is withheld.
    """

    text: str = field(repr=False)
    decisions: tuple[SentenceDecision, ...]

    @property
    def sentences(self) -> int:
        """How many sentences were shown."""
        return sum(one.is_shown for one in self.decisions)


def check_prose(jobs: Sequence[Job]) -> None:
    """Refuse requests whose answers are no prose, or called tools.

    Raises:
        OptionError: One is.
    """
    for job in jobs:
        controls = job.controls
        if controls.tools or job.calls_in is not None or job.tool_calls:
            raise OptionError(
                "streaming: sentences decides on prose, and a call of a tool is none: ask without tools, or "
                "by a policy with streaming: buffer."
            )
        if controls.processor is not None:
            raise OptionError(
                "streaming: sentences decides on prose: ask without a schema, or by a policy with streaming: "
                "buffer."
            )


class SentenceRelease:
    """The sentences of one answer, decided on and shown one after the other.

    Args:
        model: The model.
        policy: What decides.
        resolved: The profile of sentences.
        options: How its sentences were scored.
        job: The request; its ``on_text`` is told of each sentence that is shown.
        sampling: How the answer is drawn.
        notices: What the policy says.
        may_show: Asked before a sentence is shown; raises where decisions cannot be recorded.
    """

    def __init__(
        self,
        model: "LocalModel",
        policy: "Policy",
        resolved: ResolvedProfile,
        options: "ScoringOptions",
        job: Job,
        sampling: "Sampling | None",
        notices: "Notices",
        may_show: Callable[[], None],
    ) -> None:
        self._model, self._policy, self._resolved, self._options = model, policy, resolved, options
        self._job, self._sampling, self._notices, self._may_show = job, sampling, notices, may_show
        self.goes_on: Callable[[], bool] | None = None
        self.decisions: list[SentenceDecision] = []
        self.text = ""
        self.seconds = 0.0
        self.error = ""

    @property
    def has_ended(self) -> bool:
        """Whether no further sentence is shown."""
        return bool(self.error) or bool(self.decisions and not self.decisions[-1].is_shown)

    @property
    def was_heard(self) -> bool:
        """Whether somebody was told of a sentence already."""
        return bool(self.text) and self._job.controls.on_text is not None

    def on_growth(self, partial: "PartialResponse") -> bool:
        """Decide on the sentences that are complete; say whether the response goes on."""
        if not self.has_ended:
            try:
                self._grow(partial)
            except Exception as error:  # noqa: BLE001  (recorded; nothing further is shown)
                self.fail(failure("score", error))
        # A policy that only observes changes nothing, whatever happens.
        return not self.has_ended or self._policy.mode == "observe"

    def fail(self, error: str) -> None:
        """Show nothing further."""
        self.error = self.error or error

    def finish(self, trace: "Trace") -> None:
        """Decide on the sentences that are left of an answer that is at its end, and not released."""
        try:
            self._finish(trace)
        except Exception as error:  # noqa: BLE001  (recorded; nothing further is shown)
            self.fail(failure("score", error))

    def _grow(self, partial: "PartialResponse") -> None:
        if partial.reasons:
            raise ScoringError(_REASONED)
        text = partial.text
        if len(final_starts(text)) <= len(self.decisions) + 1:
            return
        spans = complete_spans(partial.token_texts)
        for span in self._new(spans):
            until = partial.text_until(span.end)
            if not text.startswith(until):
                # It may yet be cut by a stop string.
                return
            with partial.trace(self._model.name) as trace:
                self._decide(trace, span, until, None)
            if self.has_ended:
                return

    def _finish(self, trace: "Trace") -> None:
        if trace.answer_start or trace.opens_reasoning or trace.reasoning:
            raise ScoringError(_REASONED)
        spans = sentence_spans(trace)
        if not trace.has_answer or is_blank(trace.text) or not spans:
            self.fail("EmptyAnswer: the answer is empty")
            return
        for span in self._new(spans):
            until = response_text(self._model.tokenizer, trace.response_ids[: span.end])
            # The last that is seen; behind it may be a stop string.
            is_last = span.end == len(trace.response_ids) or until.startswith(trace.text)
            if not is_last and not trace.text.startswith(until):
                raise ScoringError(_OTHERWISE)
            self._decide(
                trace, span, trace.text if is_last else until, trace.finish_reason if is_last else None
            )
            if is_last or self.has_ended:
                return

    def _new(self, spans: Sequence[Span]) -> Sequence[Span]:
        """The spans behind those that were decided on, which have to be as they were."""
        known = [one.span for one in self.decisions]
        if list(spans[: len(known)]) != known:
            raise ScoringError(_OTHERWISE)
        return spans[len(known) :]

    def _decide(self, trace: "Trace", span: Span, until: str, finish_reason: "FinishReason | None") -> None:
        """Decide on one sentence; ``until`` is the text of the answer up to its end."""
        if not until.startswith(self.text):
            raise ScoringError(_OTHERWISE)
        said = until[len(self.text) :]
        (uncertainty,) = score_segments(self._model, trace, [span], self._options)
        self.seconds += uncertainty.score_s
        scores = {**uncertainty.scores(), "tokens": float(span.end - span.start)}
        if not all(isinstance(value, float) and isfinite(value) for value in scores.values()):
            raise ScoringError("a score of a sentence is not a number")
        produced = Produced(
            draft=said,
            finish_reason=finish_reason,
            usage=Usage(len(trace.prompt_ids), span.end - span.start),
            uncertainty=uncertainty,
            observation=Observation(scores),
        )
        assessed = assess(self._policy, self._resolved, self._job, produced, self._sampling, self._notices)
        decision = SentenceDecision(span, uncertainty, assessed)
        if decision.is_shown:
            self._show(said)
        self.decisions.append(decision)
        self.text = until if decision.is_shown else self.text

    def _show(self, said: str) -> None:
        self._may_show()
        if self.goes_on is not None and not self.goes_on():
            raise CancelledError
        if self._job.controls.on_text is not None:
            self._job.controls.on_text(said)

    def assessed(self, produced: Produced) -> AssessedJob:
        """The decision on the answer as a whole: that of the sentence that ended it, or the strictest.

        Args:
            produced: What the model's part came to.
        """
        released = Released(self.text, tuple(self.decisions))
        if self.error or not self.decisions:
            failed = replace(produced, error=self.error or "ScoringError: no sentence was decided on")
            known = (self._policy, self._resolved, self._job, failed, self._sampling, self._notices)
            return replace(assess(*known), released=released)
        number, decisive = max(enumerate(self.decisions, start=1), key=lambda one: _strictness(one[1]))
        of_one = decisive.assessed
        reason = of_one.decision.reason
        alone = len(self.decisions) == 1
        return replace(
            of_one,
            produced=replace(produced, uncertainty=decisive.uncertainty if alone else None),
            # What a profile says of a sentence holds for an answer of one sentence alone.
            assessment=of_one.assessment if alone else None,
            guarantees=None,
            decision=replace(of_one.decision, reason=reason if alone else f"sentence {number}: {reason}"),
            seconds=sum(one.assessed.seconds for one in self.decisions),
            released=released,
        )


_BY_ACTION = {"pass": 0, "flag": 1, "escalate": 2, "abstain": 3}


def _strictness(one: SentenceDecision) -> tuple[int, float]:
    assessment = one.assessed.assessment
    confidence = assessment.confidence if assessment else None
    return _BY_ACTION[one.assessed.decision.action], 2.0 if confidence is None else 1 - confidence


def released_sentences(
    model: "LocalModel",
    job: Job,
    sampling: "Sampling | None",
    release: SentenceRelease,
    goes_on: Callable[[], bool] | None = None,
) -> AssessedJob:
    """Generate or read one answer, and show it sentence by sentence.

    Args:
        model: The model.
        job: The request.
        sampling: How to decode.
        release: Decides on the sentences and shows them.
        goes_on: Asked after every token whether anybody still waits.

    Raises:
        InvalidInputError: The request cannot be used as it is: that is for the caller to mend.
        CancelledError: Nobody waits any more.
    """
    release.goes_on = goes_on
    produced = Produced(draft=job.response if isinstance(job.response, str) else None)
    with model.alone():
        try:
            trace = _trace(model, job, sampling, release, goes_on)
        except InvalidInputError:
            raise
        except Exception as error:  # noqa: BLE001  (recorded; nothing further is shown)
            release.fail(failure("answer", error))
            return release.assessed(replace(produced, draft=produced.draft or release.text or None))
        if trace is None:
            release.fail("EmptyAnswer: the answer is empty")
            return release.assessed(replace(produced, finish_reason=job.finish_reason))
        try:
            if not release.has_ended:
                release.finish(trace)
        finally:
            trace.release()
    return release.assessed(
        Produced(
            draft=trace.text,
            # An answer that was ended for a sentence did not end by itself.
            finish_reason=None if release.has_ended and job.response is None else trace.finish_reason,
            usage=trace.usage,
            timings={
                "answer_s": max(0.0, trace.generate_s - (release.seconds if job.response is None else 0.0)),
                "score_s": release.seconds,
            },
            reasoning=trace.reasoning,
            reasoning_tokens=trace.answer_start,
        )
    )


def _trace(
    model: "LocalModel",
    job: Job,
    sampling: "Sampling | None",
    release: SentenceRelease,
    goes_on: Callable[[], bool] | None,
) -> "Trace | None":
    """The trace of a request; None for an answer from elsewhere that is empty."""
    if job.response is not None:
        return read_jobs(model, [job])[0]
    controls = replace(job.controls, on_text=None, on_growth=release.on_growth, goes_on=goes_on)
    return model.generate_batch([job.messages], sampling, controls=controls)[0]
