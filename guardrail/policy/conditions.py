"""What a rule may ask of an answer, and between which values each number lies."""

from collections.abc import Mapping
from math import inf
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, Strict, model_validator

from guardrail.scoring.uncertainty import SCORES
from guardrail.utils.frozen_model import FrozenModel

__all__ = [
    "NUMBERS",
    "QUANTILES",
    "SHARE",
    "Bounds",
    "Certified",
    "FinishReason",
    "Range",
    "ShareBounds",
    "When",
    "range_of",
]


# What a rule may set a bound for, beside the confidence. ``tokens`` is the length of the answer.
NUMBERS = (*SCORES, "tokens")
# What a profile has a reference distribution of (with ``OF_THE_PROFILE`` of calibration).
QUANTILES = (*NUMBERS, "confidence", "confidence_score")


class Range(NamedTuple):
    """Least and largest value, both included."""

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
    """Between which values a score lies; most are not negative."""
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
    """Bounds of a number; several must all hold."""

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
    """Bounds of a number from 0 to 1; several must all hold."""

    gte: _Share | None = Field(default=None, description="At least.")
    gt: _Share | None = Field(default=None, description="More than.")
    lte: _Share | None = Field(default=None, description="At most.")
    lt: _Share | None = Field(default=None, description="Less than.")


class Certified(FrozenModel):
    """A guarantee that the profile certifies: of the answers let through by it, few are wrong."""

    max_error: _Between0And1 = Field(
        description="Largest share of wrong answers among those let through: 0.05 for one in twenty."
    )
    confidence: _Between0And1 = Field(
        description="Probability that the calibration led to a threshold that keeps this: 0.95."
    )


class When(FrozenModel):
    """Conditions that must all hold.

    What a condition asks for may be unknown (the confidence without a profile, or of an answer that the
    profile does not hold for). A rule that hangs on it neither holds nor fails: ``on_uncalibrated`` or
    ``on_outside_domain`` decides then, so that no later rule lets through what an earlier one might have
    stopped.
    """

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    confidence: ShareBounds | None = Field(
        default=None,
        description="Probability that the answer is correct, 0 to 1, by the profile. Unknown without one, "
        "and for answers of another model. In a rule that names tools, that of the least sure call of these, "
        "if it is less than the answer's.",
    )
    uncertainty: Annotated[Mapping[_Score, Bounds], Field(min_length=1)] | None = Field(
        default=None,
        description="Scores by name, such as {hybridgrad: {gte: 0.01}}, and tokens, the answer's length. All "
        "but log_likelihood and min_token_probability go up when the model is less sure. Their scale "
        "differs from model to model: quantile does not.",
        json_schema_extra={"propertyNames": {"enum": [*NUMBERS]}},
    )
    quantile: Annotated[Mapping[_Quantile, ShareBounds], Field(min_length=1)] | None = Field(
        default=None,
        description="Where a score stands among those of the profile's reference answers, 0 to 1: "
        "{hybridgrad: {gte: 0.9}} holds for the tenth with the highest. Needs a profile, which may be one "
        "made without labels.",
        json_schema_extra={"propertyNames": {"enum": [*QUANTILES]}},
    )
    certified: Certified | None = Field(
        default=None,
        description="Holds for answers that the profile lets through under this guarantee. The profile must "
        "have been made with it (guardrail calibrate --target-error 0.05 --confidence 0.95).",
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
        description="Why the answer ended, one of these: stop (it was complete) or length (it was cut off). "
        "Unknown for answers that came from elsewhere without it.",
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
        description="Holds where the request has at least one tag that fits one of these; * and ? stand for "
        "any text and any character.",
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
        description="Holds where the answer calls a tool whose name fits one of these, such as send_*, or "
        "any at all (true). An answer that calls several may fit several rules: put the risky ones first.",
    )
    all_: tuple["When", ...] | None = Field(
        default=None, alias="all", min_length=1, description="Every one of these holds."
    )
    any_: tuple["When", ...] | None = Field(
        default=None, alias="any", min_length=1, description="At least one of these holds."
    )
    not_: "When | None" = Field(
        default=None,
        alias="not",
        description="These conditions do not all hold. What is unknown stays unknown: not: {confidence: "
        "{lt: 0.5}} does not hold where there is no confidence.",
    )

    @model_validator(mode="after")
    def _has_one(self) -> Self:
        if not self.model_dump(exclude_none=True):
            raise ValueError("has no condition; leave when out for a rule that always decides")
        return self
