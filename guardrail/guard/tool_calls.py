"""Calls of tools in an answer, each with scores and a confidence of its own.

A profile is learned from whole answers. Where an answer is nothing but one call, the answer's confidence is
the call's; that of a part of an answer is an extrapolation, and no certified threshold is ever used for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from guardrail.escalation.verdict import VerdictCall
from guardrail.guard.answer import failure
from guardrail.scoring.options import Span
from guardrail.scoring.uncertainty import Observation

if TYPE_CHECKING:
    from guardrail.calibration.profile import Assessment, Profile
    from guardrail.models.local import LocalModel
    from guardrail.models.trace import Trace
    from guardrail.scoring.options import ScoringOptions
    from guardrail.scoring.uncertainty import Uncertainty

__all__ = ["AssessedCall", "CalledTool", "ScoredCall", "assess_calls", "name_of", "scored_calls"]

_NOWHERE = "it is not known where the answer writes it"


class CalledTool(NamedTuple):
    """A call of a tool in an answer.

    Attributes:
        name: The tool's.
        written: The call as the answer writes it; None where that is not known.
    """

    name: str
    written: str | None = None


@dataclass(frozen=True, slots=True)
class ScoredCall:
    """A call with the scores of its tokens.

    Attributes:
        name: The tool's.
        uncertainty: Scores of the call; None where they could not be had.
        is_answer: Whether its scores are the answer's, which says nothing else.
        reason: Why there are none, or empty.
    """

    name: str
    uncertainty: "Uncertainty | None" = field(default=None, repr=False)
    is_answer: bool = False
    reason: str = ""


class AssessedCall(NamedTuple):
    """What the profile says of a call.

    Attributes:
        name: The tool's.
        confidence: Probability of being correct that the profile gives the call, 0 to 1; None where it
            gives none.
        hybridgrad: HybridGrad of the call's tokens; None where it could not be had.
        reason: Why there is no confidence, or empty.
    """

    name: str
    confidence: float | None
    hybridgrad: float | None
    reason: str = ""

    def as_plain(self) -> VerdictCall:
        """Plain values for JSON."""
        return VerdictCall(
            name=self.name, confidence=self.confidence, hybridgrad=self.hybridgrad, reason=self.reason
        )


def name_of(call: str | CalledTool) -> str:
    """The name of a called tool."""
    return call if isinstance(call, str) else call.name


def scored_calls(
    model: "LocalModel",
    trace: "Trace",
    calls: Sequence[str | CalledTool],
    answer: "Uncertainty",
    options: "ScoringOptions",
) -> tuple[ScoredCall, ...]:
    """Score the calls of an answer, whose trace is not released. For those given by name the answer's stand.

    Args:
        model: The model.
        trace: The answer.
        calls: Its calls, in the order in which they are written.
        answer: The answer's scores.
        options: How it was scored.
    """
    from guardrail.scoring.segments import score_segments

    whole = Span(trace.answer_start, len(trace.response_ids))
    spans = _spans(trace, calls, whole)
    parts = [span for span in spans if span is not None and not _is_all(model, trace, span)]
    problem, scores = "", {}
    try:
        scores = dict(zip(parts, score_segments(model, trace, parts, options), strict=True)) if parts else {}
    except Exception as error:  # noqa: BLE001  (recorded; the calls' confidence is unknown)
        problem = failure("score", error)
    scored = []
    for call, span in zip(calls, spans, strict=True):
        if span is None:
            scored.append(ScoredCall(name_of(call), reason=_NOWHERE))
        elif span not in parts:
            scored.append(ScoredCall(name_of(call), answer, is_answer=True))
        else:
            scored.append(ScoredCall(name_of(call), scores.get(span), reason=problem))
    return tuple(scored)


def assess_calls(
    calls: Sequence[ScoredCall],
    profile: "Profile | None",
    assessment: "Assessment | None",
    outside_domain: str = "",
) -> tuple[AssessedCall, ...]:
    """Ask the profile about each call.

    Args:
        calls: The calls.
        profile: The profile; None where there is none.
        assessment: What it says of the whole answer.
        outside_domain: Why it says nothing of an answer like this, or empty.
    """
    unknown = outside_domain or "no profile gives a confidence"
    return tuple(_assess_call(call, profile, assessment, unknown) for call in calls)


def _assess_call(
    call: ScoredCall, profile: "Profile | None", assessment: "Assessment | None", unknown: str
) -> AssessedCall:
    if call.uncertainty is None:
        return AssessedCall(call.name, None, None, call.reason)
    hybridgrad = call.uncertainty.hybridgrad
    if profile is None or assessment is None or assessment.confidence is None:
        return AssessedCall(call.name, None, hybridgrad, unknown)
    if call.is_answer:
        return AssessedCall(call.name, assessment.confidence, hybridgrad)
    if profile.confidence_model is not None and profile.confidence_model.probe is not None:
        why = "the profile reads a hidden state of whole answers, and the call is a part of one"
        return AssessedCall(call.name, None, hybridgrad, why)
    if profile.reads_documents:
        why = "the profile reads how much a document moved the whole answer, and the call is a part of one"
        return AssessedCall(call.name, None, hybridgrad, why)
    if profile.scorer.reduction == "sum":
        why = "the profile's scores are sums over whole answers, and a part of one would look surer"
        return AssessedCall(call.name, None, hybridgrad, why)
    try:
        scores = {**call.uncertainty.scores(), "tokens": float(len(call.uncertainty.tokens))}
        confidence = profile.assess(Observation(scores)).confidence
    except Exception as error:  # noqa: BLE001  (recorded; the call's confidence is unknown)
        return AssessedCall(call.name, None, hybridgrad, failure("assess", error))
    return AssessedCall(call.name, confidence, hybridgrad)


def _spans(trace: "Trace", calls: Sequence[str | CalledTool], whole: Span) -> list[Span | None]:
    """The tokens of each call, the outermost of which may hold a little more; None where it is not found."""
    # What is thought of before the answer is no call, whatever it looks like.
    text, ends, at = "".join(trace.answer_texts), [], 0
    for token in trace.answer_texts:
        at += len(token)
        ends.append(at)
    spans: list[Span | None] = []
    until = len(text)
    # From the end: what an answer says before it calls may look like a call, and is none.
    for call in reversed(calls):
        written = None if isinstance(call, str) else call.written
        found = text.rfind(written, 0, until) if written else -1
        if found < 0 or written is None:
            spans.append(whole if isinstance(call, str) else None)
            continue
        first = next(index for index, end in enumerate(ends) if end > found)
        last = next(index for index, end in enumerate(ends) if end >= found + len(written))
        spans.append(Span(whole.start + first, whole.start + last + 1))
        until = found
    return spans[::-1]


def _is_all(model: "LocalModel", trace: "Trace", span: Span) -> bool:
    """Whether nothing but white space and special tokens stands beside a span."""
    special = set(model.tokenizer.all_special_ids)
    beside = [*range(trace.answer_start, span.start), *range(span.end, len(trace.response_ids))]
    return all(trace.response_ids[at] in special or not trace.token_texts[at].strip() for at in beside)
