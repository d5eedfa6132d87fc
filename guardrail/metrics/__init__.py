"""Metrics of how good a confidence is: figures of (confidence, correct) with n and interval.

Each metric is a function of two arrays whose last axis is the answers; axes before it are resamples,
evaluated separately. Confidence goes **up** when the model is surer: for an uncertainty, pass the negative. A
metric that is undefined for the given labels is NaN; ``measure`` makes a figure that says why.

``confidence_quality``: AUROC, AUPRC, risk-coverage, AURC, PRR; Brier score, ECE. ``intervals`` adds an
interval to any of them, and ``Figure`` is the result.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from guardrail.utils.record_store import FrozenModel

__all__ = ["Figure", "figure_of"]


class Figure(FrozenModel):
    """A figure with its 95 % interval.

    Attributes:
        value: The figure; None if undefined.
        low: Lower end of the interval; None if there is none.
        high: Upper end of the interval.
        n: Number of answers it was measured on.
        reason: Why the value or interval is missing; else empty.
    """

    value: float | None
    low: float | None
    high: float | None
    n: Annotated[int, Field(ge=0)]
    reason: str = ""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        missing = self.value is None or self.low is None
        if (self.low is None) != (self.high is None) or (self.value is None and self.low is not None):
            raise ValueError("an interval needs two ends and a value")
        if missing and not self.reason:
            raise ValueError("a missing value or interval needs a reason")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError("the ends of the interval are in the wrong order")
        return self

    def as_plain(self) -> dict[str, Any]:
        """The fields by name for JSON; the reason only if there is one."""
        return self.model_dump(exclude=None if self.reason else {"reason"})


def figure_of(report: Mapping[str, Any], name: str) -> Figure | None:
    """A figure of a profile's report, if it has it in valid form."""
    try:
        return Figure.model_validate(report[name])
    except (KeyError, ValueError):
        return None
