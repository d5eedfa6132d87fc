"""Plain numbers of a profile that place a score: calibrators give its probability, a reference its quantile.

A calibrator is one of three; :mod:`guardrail.calibration.fit_calibrators` fits them, here they are only
evaluated. A reference distribution is also the basis of drift detection.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise
from math import exp, isnan
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from guardrail.errors import CalibrationError
from guardrail.utils.record_store import FrozenModel

__all__ = ["Calibrator", "Isotonic", "Platt", "ReferenceDistribution", "VennAbers"]


Probability = Annotated[float, Field(ge=0, le=1)]


class Platt(FrozenModel):
    """A logistic curve: P(correct) = 1 / (1 + e^−(slope · score + intercept)) (Platt, 1999)."""

    kind: Literal["platt"] = "platt"
    slope: Annotated[float, Field(ge=0)]
    intercept: float

    def probability(self, score: float) -> float:
        """P(correct) at this score."""
        logit = self.slope * score + self.intercept
        return 1 / (1 + exp(-logit)) if logit >= 0 else exp(logit) / (1 + exp(logit))


class Isotonic(FrozenModel):
    """A rising curve through points, linear between them and constant beyond (Zadrozny & Elkan, 2002)."""

    kind: Literal["isotonic"] = "isotonic"
    scores: Annotated[tuple[float, ...], Field(min_length=1)]
    probabilities: Annotated[tuple[Probability, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _rises(self) -> Self:
        _check_curve(self.scores, self.probabilities)
        return self

    def probability(self, score: float) -> float:
        """P(correct) at this score."""
        return interpolate(score, self.scores, self.probabilities)


class VennAbers(FrozenModel):
    """Inductive Venn–Abers: two isotonic curves, one of which is right (Vovk & Petej, 2014).

    ``lower`` is the probability if the new answer were wrong, ``upper`` if it were right. Both are step
    functions that change only at the calibration scores: n distinct scores give 2n + 1 steps, one below the
    first score, one at each score and one above each.
    """

    kind: Literal["venn_abers"] = "venn_abers"
    scores: Annotated[tuple[float, ...], Field(min_length=1)]
    lower: tuple[Probability, ...]
    upper: tuple[Probability, ...]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        steps = 2 * len(self.scores) + 1
        if not len(self.lower) == len(self.upper) == steps:
            raise ValueError(f"lower and upper need {steps} steps for {len(self.scores)} scores")
        if any(low > high for low, high in zip(self.lower, self.upper, strict=True)):
            raise ValueError("lower is above upper")
        _check_rising(self.scores)
        _check_not_falling(self.lower)
        _check_not_falling(self.upper)
        return self

    def interval(self, score: float) -> tuple[float, float]:
        """The two probabilities at this score."""
        step = bisect_left(self.scores, score) + bisect_right(self.scores, score)
        return self.lower[step], self.upper[step]

    def probability(self, score: float) -> float:
        """The single probability with the least regret whichever of the two is right: p₁ / (1 − p₀ + p₁)."""
        low, high = self.interval(score)
        return high / (1 - low + high)


Calibrator = Annotated[Platt | Isotonic | VennAbers, Field(discriminator="kind")]


def interpolate(at: float, xs: Sequence[float], ys: Sequence[float]) -> float:
    """Value at ``at`` of the curve through points of rising x, constant beyond its ends."""
    right = bisect_right(xs, at)
    if right == 0:
        return ys[0]
    if right == len(xs):
        return ys[-1]
    low, high = ys[right - 1], ys[right]
    share = (at - xs[right - 1]) / (xs[right] - xs[right - 1])
    # Rounding must not exceed the point on the right.
    return min(low + share * (high - low), high)


def _check_curve(scores: Sequence[float], probabilities: Sequence[float]) -> None:
    if len(scores) != len(probabilities):
        raise ValueError("scores and probabilities differ in length")
    _check_rising(scores)
    _check_not_falling(probabilities)


def _check_rising(scores: Sequence[float]) -> None:
    if any(a >= b for a, b in pairwise(scores)):
        raise ValueError("scores must rise")


def _check_not_falling(probabilities: Sequence[float]) -> None:
    if any(a > b for a, b in pairwise(probabilities)):
        raise ValueError("probabilities must not fall")


class ReferenceDistribution(FrozenModel):
    """Sorted values of one score.

    Attributes:
        n: Number of answers behind the values.
        values: All values, or evenly spaced quantiles of many, sorted.
    """

    n: Annotated[int, Field(gt=0)]
    values: Annotated[tuple[float, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _is_sorted(self) -> Self:
        if any(a > b for a, b in pairwise(self.values)):
            raise ValueError("the values are not sorted")
        if len(self.values) > self.n:
            raise ValueError(f"{len(self.values)} values of {self.n} answers")
        return self

    def quantile_of(self, value: float) -> float:
        """Share of the reference below this value, ties counted half: 0 below all, 1 above all.

        Raises:
            CalibrationError: The value is NaN.
        """
        if isnan(value):
            raise CalibrationError("A score of this answer is not a number, so it has no quantile.")
        below, up_to = bisect_left(self.values, value), bisect_right(self.values, value)
        return (below + up_to) / 2 / len(self.values)
