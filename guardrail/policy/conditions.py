"""Conditions of a rule, and the range of each number."""

from collections.abc import Mapping
from math import inf
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, Strict, model_validator

from guardrail.scoring.uncertainty import DOCUMENT_GAIN, SCORES
from guardrail.utils.record_store import FrozenModel

__all__ = [
    "NO_ESCALATION",
    "NO_PROFILE_OF_SENTENCES",
    "NUMBERS",
    "OF_WHOLE_ANSWERS",
    "QUANTILES",
    "SHARE",
    "Bounds",
    "Certified",
    "Familiar",
    "FinishReason",
    "Range",
    "ShareBounds",
    "When",
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
    DOCUMENT_GAIN: Range(-inf, inf),
}


def range_of(score: str) -> Range:
    """The range of a score; most are not negative."""
    return _RANGES.get(score, Range(0.0, inf))


FinishReason = Literal["stop", "length", "reasoning_length"]
Familiar = Literal["untried", "familiar", "unlike"]

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


# Conditions on what is known of a whole answer alone, and why a sentence has none of it. With dots: one
# score of those that the condition may name.
OF_WHOLE_ANSWERS: Mapping[str, str] = {
    "certified": "guarantees are of whole answers",
    "familiar": "traffic is compared by whole answers",
    "finish_reason": "it is not known before the answer ends",
    "tool_call": "calls are no prose, and a call is decided on as a whole",
    "uncertainty.tokens": "the length of an answer is not known before it ends",
    "quantile.tokens": "the length of an answer is not known before it ends",
}


NO_ESCALATION = "has no escalate: a target would answer what was answered in part already; use abstain"
NO_PROFILE_OF_SENTENCES = (
    "needs a profile of sentences, and those that ship are of whole answers; name one as profile, which "
    "guardrail calibrate --sentences makes"
)


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
        "been made with it, of your own questions (guardrail calibrate --target-error 0.05 --confidence "
        "0.95): one that ships certifies nothing. The traffic must be familiar.",
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
    familiar: (
        Annotated[
            tuple[Familiar, ...],
            BeforeValidator(_listed, json_schema_input_type=Familiar | list[Familiar]),
            Field(min_length=1),
        ]
        | None
    ) = Field(
        default=None,
        description="Whether the questions of this deployment so far are like those of the profile, one of: "
        "untried (too few to tell), familiar, unlike. Unknown without a profile. Only familiar traffic has "
        "certified answers.",
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

    @property
    def of_whole_answers(self) -> list[str]:
        """Those of its conditions, here and within, that are in ``OF_WHOLE_ANSWERS``."""
        found = []
        for name in OF_WHOLE_ANSWERS:
            key, _, score = name.partition(".")
            value = getattr(self, key)
            if value is not None and (not score or score in value):
                found.append(name)
        within = [*(self.all_ or ()), *(self.any_ or ()), *([self.not_] if self.not_ else [])]
        return [*found, *(name for one in within for name in one.of_whole_answers)]

    @model_validator(mode="after")
    def _has_one(self) -> Self:
        if not self.model_dump(exclude_none=True):
            raise ValueError("has no condition; omit when for a rule that always decides")
        return self
