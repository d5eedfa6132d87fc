"""Evidence about an answer, the conditions that a rule puts on it, and the decision."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from math import inf, isfinite
from numbers import Real
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, Strict, model_validator

from guardrail.scoring.uncertainty import SCORES
from guardrail.utils.record_store import FrozenModel

if TYPE_CHECKING:
    from guardrail.calibration.profile import Guarantee

__all__ = [
    "NUMBERS",
    "QUANTILES",
    "SHARE",
    "Action",
    "Bounds",
    "Certified",
    "Decision",
    "Evidence",
    "FinishReason",
    "Range",
    "ShareBounds",
    "When",
    "doubt_of",
    "range_of",
]


# Numbers with bounds under ``uncertainty``; ``tokens`` is the answer's length.
NUMBERS = (*SCORES, "tokens")
# Scores with a reference distribution in a profile (with ``OF_THE_PROFILE`` of calibration).
QUANTILES = (*NUMBERS, "confidence", "confidence_score")


class Range(NamedTuple):
    """Smallest and largest value, both included."""

    low: float
    high: float


SHARE = Range(0.0, 1.0)
_RANGES: Mapping[str, Range] = {
    "log_likelihood": Range(-inf, 0.0),
    "min_token_probability": SHARE,
    "perplexity": Range(1.0, inf),
    "confidence_score": Range(-inf, inf),
}


def range_of(score: str) -> Range:
    """The range of a score; most are not negative."""
    return _RANGES.get(score, Range(0.0, inf))


FinishReason = Literal["stop", "length", "reasoning_length"]

_Number = Annotated[float, Strict()]
_Share = Annotated[float, Strict(), Field(ge=0, le=1)]
_Between0And1 = Annotated[float, Strict(), Field(gt=0, lt=1)]
_Name = Annotated[str, Field(min_length=1)]


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _tools(value: Any) -> Any:
    if value is False:
        raise ValueError("is false; write not: {tool_call: true} for answers that call no tool")
    return ("*",) if value is True else _listed(value)


def _known_number(name: str) -> str:
    if name not in NUMBERS:
        raise ValueError("unknown score")
    return name


def _known_quantile(name: str) -> str:
    if name not in QUANTILES:
        raise ValueError("unknown score")
    return name


_Score = Annotated[str, AfterValidator(_known_number)]
_Quantile = Annotated[str, AfterValidator(_known_quantile)]


class Bounds(FrozenModel):
    """Bounds of a number; all given ones must hold."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    gte: _Number | None = Field(default=None, description="At least.")
    gt: _Number | None = Field(default=None, description="More than.")
    lte: _Number | None = Field(default=None, description="At most.")
    lt: _Number | None = Field(default=None, description="Less than.")

    @model_validator(mode="after")
    def _has_one(self) -> Self:
        if not self.model_dump(exclude_none=True):
            raise ValueError("has no bound; give gte, gt, lte or lt")
        return self


class ShareBounds(Bounds):
    """Bounds of a number from 0 to 1; all given ones must hold."""

    gte: _Share | None = Field(default=None, description="At least.")
    gt: _Share | None = Field(default=None, description="More than.")
    lte: _Share | None = Field(default=None, description="At most.")
    lt: _Share | None = Field(default=None, description="Less than.")


class Certified(FrozenModel):
    """A guarantee certified by the profile: few of the answers accepted under it are wrong."""

    max_error: _Between0And1 = Field(
        description="Maximum share of wrong answers among the accepted ones: 0.05 for one in twenty."
    )
    confidence: _Between0And1 = Field(
        description="Probability that the calibration found a threshold that keeps this promise: 0.95."
    )


class When(FrozenModel):
    """Conditions that must all hold.

    A condition may ask for something unknown: the confidence without a profile, or for an answer that the
    profile does not hold for. A rule that depends on it neither holds nor fails; ``on_uncalibrated`` or
    ``on_outside_domain`` decides, so that no later rule passes what an earlier one might have stopped.
    """

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    confidence: ShareBounds | None = Field(
        default=None,
        description="Probability that the answer is correct, 0 to 1, from the profile. Unknown without a "
        "profile, and for answers of another model. In a rule that names tools, the confidence of the least "
        "sure call of these tools counts if it is lower.",
    )
    uncertainty: Annotated[Mapping[_Score, Bounds], Field(min_length=1)] | None = Field(
        default=None,
        description="Scores by name, such as {hybridgrad: {gte: 0.01}}, and tokens, the answer's length. All "
        "but log_likelihood and min_token_probability are higher when the model is less sure. Scales differ "
        "between models; quantiles do not.",
        json_schema_extra={"propertyNames": {"enum": [*NUMBERS]}},
    )
    quantile: Annotated[Mapping[_Quantile, ShareBounds], Field(min_length=1)] | None = Field(
        default=None,
        description="Rank of a score among the profile's reference answers, 0 to 1: {hybridgrad: {gte: 0.9}} "
        "holds for the highest tenth. Needs a profile, which may be one made without labels.",
        json_schema_extra={"propertyNames": {"enum": [*QUANTILES]}},
    )
    certified: Certified | None = Field(
        default=None,
        description="Holds for answers that the profile accepts under this guarantee. The profile must have "
        "been made with it (guardrail calibrate --target-error 0.05 --confidence 0.95).",
    )
    finish_reason: (
        Annotated[
            tuple[FinishReason, ...],
            BeforeValidator(_listed, json_schema_input_type=FinishReason | list[FinishReason]),
            Field(min_length=1),
        ]
        | None
    ) = Field(
        default=None,
        description="Why the answer ended, one of: stop (complete) or length (cut off). Unknown for answers "
        "from other models that do not say.",
    )
    tags: (
        Annotated[
            tuple[_Name, ...],
            BeforeValidator(_listed, json_schema_input_type=_Name | list[_Name]),
            Field(min_length=1),
        ]
        | None
    ) = Field(
        default=None,
        description="Holds if a tag of the request matches one of these; * and ? match any text and any "
        "character.",
    )
    tool_call: (
        Annotated[
            tuple[_Name, ...],
            BeforeValidator(_tools, json_schema_input_type=Literal[True] | _Name | list[_Name]),
            Field(min_length=1),
        ]
        | None
    ) = Field(
        default=None,
        description="Holds if the answer calls a tool whose name matches one of these, such as send_*, or "
        "any "
        "tool (true). An answer with several calls may match several rules: put the risky ones first.",
    )
    all_: tuple["When", ...] | None = Field(
        default=None, alias="all", min_length=1, description="All of these hold."
    )
    any_: tuple["When", ...] | None = Field(
        default=None, alias="any", min_length=1, description="At least one of these holds."
    )
    not_: "When | None" = Field(
        default=None,
        alias="not",
        description="These conditions do not all hold. Unknown stays unknown: not: {confidence: {lt: 0.5}} "
        "does not hold if there is no confidence.",
    )

    @model_validator(mode="after")
    def _has_one(self) -> Self:
        if not self.model_dump(exclude_none=True):
            raise ValueError("has no condition; omit when for a rule that always decides")
        return self


Action = Literal["pass", "flag", "abstain", "escalate"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything known about an answer.

    Attributes:
        confidence: Probability of being correct, 0 to 1; None without a profile that gives one.
        scores: Uncertainty scores by name, as returned by ``Uncertainty.scores()``.
        quantiles: Share of the profile's reference answers below each score, 0 to 1, by score.
        guarantees: Guarantees that accept the answer; None without a profile that can tell.
        finish_reason: Why the answer ended: ``stop``, ``length``, ``reasoning_length`` (during its reasoning,
            so there is no answer), or None if unknown.
        tags: Tags of the request, given by the caller.
        tool_calls: Names of the tools that the answer calls.
        call_confidences: Name and probability of being correct for each call that was assessed by itself;
            None if unknown. The answer's confidence applies to all other calls.
        repeats: The message of the policy that the answer repeats, as written there; empty if none. Such an
            answer is an abstention, whatever else is known about it.
        error: Why the answer could not be scored or assessed; empty if it could. Nothing else counts then.
        outside_domain: Why the profile does not hold for this answer (another model gave it); empty if it
            does. Confidence, quantiles and guarantees are then treated as unknown, and ``on_outside_domain``
            decides where a rule depends on them.
        is_uncalibrated: Whether there is no profile at all. Outside the domain the stricter of
            ``on_uncalibrated`` and ``on_outside_domain`` then decides.
    """

    confidence: float | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    quantiles: Mapping[str, float] = field(default_factory=dict)
    guarantees: "frozenset[Guarantee] | None" = None
    finish_reason: str | None = None
    tags: frozenset[str] = frozenset()
    tool_calls: tuple[str, ...] = ()
    call_confidences: tuple[tuple[str, float | None], ...] = ()
    repeats: str = ""
    error: str = ""
    outside_domain: str = ""
    is_uncalibrated: bool = False

    def within_domain(self) -> "Evidence":
        """The evidence without what the profile says about answers that it does not hold for."""
        if not self.outside_domain:
            return self
        calls = tuple((name, None) for name, _ in self.call_confidences)
        return replace(self, confidence=None, quantiles={}, guarantees=None, call_confidences=calls)


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do with an answer, and why.

    Attributes:
        action: The action.
        rule: Id of the rule that decided; ``on_error``, ``on_uncalibrated`` or ``on_outside_domain`` if one
            of these did; ``own_message`` if the answer repeats a message of the policy.
        reason: The reason in words.
        message: The rendered message to show with the answer (flag) or instead of it (abstain, or while a
            person decides), before there is a ticket; None if the policy has none.
        awaiting_ticket: The message with only ``{ticket}`` left to fill in; None if it has no such
            placeholder.
        to: Name of the escalation target, if the action is ``escalate``.
        enforced: False if the policy only observes: the answer is then shown whatever the action.
    """

    action: Action
    rule: str
    reason: str
    message: str | None = None
    to: str | None = None
    enforced: bool = True
    awaiting_ticket: str | None = None


# A sum of many small terms may slightly exceed its bounds.
_ROUNDING = 1e-6


def doubt_of(evidence: Evidence) -> str:
    """Why this evidence cannot be used; empty if it can."""
    if evidence.error or not isinstance(evidence.error, str):
        return str(evidence.error) or "the error is not text"
    if evidence.confidence is not None and not _is_within(evidence.confidence, SHARE, 0):
        return f"the confidence is {_shown(evidence.confidence)}, which is not a number from 0 to 1"
    return (
        _doubt_of_scores(evidence.scores)
        or _doubt_of_quantiles(evidence.quantiles)
        or _doubt_of_facts(evidence)
        or _doubt_of_nothing(evidence)
    )


def _doubt_of_scores(scores: Mapping[str, Any]) -> str:
    if not isinstance(scores, Mapping):
        return "the scores are not a map of names to numbers"
    for name, value in scores.items():
        if not isinstance(name, str) or not _is_within(value, range_of(name), _ROUNDING):
            return f"{_shown(name)} is {_shown(value)}, which is impossible"
    return "the answer is empty" if scores.get("tokens") == 0 else ""


def _doubt_of_quantiles(quantiles: Mapping[str, Any]) -> str:
    if not isinstance(quantiles, Mapping):
        return "the quantiles are not a map of names to numbers"
    for name, value in quantiles.items():
        if not isinstance(name, str) or not _is_within(value, SHARE, 0):
            return f"the quantile of {_shown(name)} is {_shown(value)}, which is not a number from 0 to 1"
    return ""


def _doubt_of_facts(evidence: Evidence) -> str:
    guarantees: Any = evidence.guarantees
    if guarantees is not None and not (
        isinstance(guarantees, Set)
        and all(
            isinstance(one, tuple) and len(one) == 2 and all(_is_within(part, SHARE, 0) for part in one)
            for one in guarantees
        )
    ):
        return "the guarantees are not a set of pairs of shares"
    if evidence.finish_reason is not None and not isinstance(evidence.finish_reason, str):
        return f"the finish reason is {_shown(evidence.finish_reason)}"
    if not isinstance(evidence.repeats, str):
        return "what the answer repeats is not text"
    for what, names in (("tags", evidence.tags), ("tool calls", evidence.tool_calls)):
        is_list = isinstance(names, Sequence | Set) and not isinstance(names, str | bytes)
        if not is_list or not all(isinstance(name, str) for name in names):
            return f"the {what} are not a list of names"
    if not isinstance(evidence.outside_domain, str):
        return (
            f"the reason for being outside the domain is {_shown(evidence.outside_domain)}, which is not text"
        )
    calls: Any = evidence.call_confidences
    if not isinstance(calls, Sequence) or not all(map(_is_call, calls)):
        return "the confidences of calls are not pairs of a name and a share"
    return ""


def _is_call(value: Any) -> bool:
    is_pair = isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str)
    return is_pair and (value[1] is None or _is_within(value[1], SHARE, 0))


def _doubt_of_nothing(evidence: Evidence) -> str:
    if evidence.confidence is None and not evidence.scores and not evidence.quantiles:
        return "the answer was not scored"
    return ""


def _is_within(value: Any, within: Range, slack: float) -> bool:
    # In Python a bool is a number, but it is never a score.
    is_number = isinstance(value, float) or (isinstance(value, Real) and not isinstance(value, bool))
    if not is_number:
        return False
    number = float(value)
    return isfinite(number) and within.low - slack <= number <= within.high + slack


def _shown(value: Any) -> str:
    return repr(value)[:60]
