"""Plain numbers of a profile that place a score: calibrators give its probability, a reference its quantile.

A calibrator is one of three; :mod:`guardrail.calibration.fit_calibrators` fits them, here they are only
evaluated. A fourth corrects one of these for questions of another kind. A reference distribution is also the
basis of drift detection.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import pairwise
from math import exp, isnan, log, sqrt
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from guardrail.errors import CalibrationError
from guardrail.utils.record_store import FrozenModel

__all__ = ["Adapted", "Calibrator", "Isotonic", "Platt", "ReferenceDistribution", "VennAbers"]


Probability = Annotated[float, Field(ge=0, le=1)]


class Platt(FrozenModel):
    """A logistic curve: P(correct) = 1 / (1 + e^−(slope · score + intercept)) (Platt, 1999)."""

    kind: Literal["platt"] = "platt"
    slope: Annotated[float, Field(ge=0)]
    intercept: float

    def probability(self, score: float) -> float:
        """P(correct) at this score."""
        return _logistic(self.slope * score + self.intercept)


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


_Base = Annotated[Platt | Isotonic | VennAbers, Field(discriminator="kind")]

# Of the normal distribution, for an interval of 95 %.
_QUANTILE = 1.959963984540054
# Logits of a probability nearer to 0 or 1 are not told apart.
_NEAREST = 1e-6


class Adapted(FrozenModel):
    """Another calibrator, corrected by a few answers of other questions.

    The corrected logit is intercept + slope · (logit − centre), where logit is that of the other calibrator's
    probability. Intercept and slope are known from few answers, so there is an interval: that of a normal
    distribution around them (Laplace approximation).

    Attributes:
        base: The calibrator that is corrected.
        centre: Mean of its logits on the few answers.
        intercept: The corrected logit at the centre.
        slope: How much the corrected logit rises; 1 if it only shifts. Never negative, so order stays.
        variances: Posterior variance of the intercept, covariance, and variance of the slope.
        answers: Number of the few answers.
    """

    kind: Literal["adapted"] = "adapted"
    base: _Base
    centre: Annotated[float, Field(allow_inf_nan=False)]
    intercept: Annotated[float, Field(allow_inf_nan=False)]
    slope: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    variances: tuple[
        Annotated[float, Field(ge=0, allow_inf_nan=False)],
        Annotated[float, Field(allow_inf_nan=False)],
        Annotated[float, Field(ge=0, allow_inf_nan=False)],
    ]
    answers: Annotated[int, Field(gt=0)]

    @model_validator(mode="after")
    def _has_a_variance_everywhere(self) -> Self:
        of_intercept, of_both, of_slope = self.variances
        # A little more for rounding.
        if of_both**2 > of_intercept * of_slope * (1 + 1e-9):
            raise ValueError("the covariance is larger than the variances allow")
        return self

    def probability(self, score: float) -> float:
        """P(correct) at this score."""
        return _logistic(self._logit(self._from_centre(score)))

    def interval(self, score: float) -> tuple[float, float]:
        """Where that probability lies with 95 % probability, as far as the few answers tell."""
        away = self._from_centre(score)
        of_intercept, of_both, of_slope = self.variances
        variance = of_intercept + 2 * away * of_both + away * away * of_slope
        half = _QUANTILE * sqrt(max(0.0, variance))
        logit = self._logit(away)
        return _logistic(logit - half), _logistic(logit + half)

    def _logit(self, away: float) -> float:
        return self.intercept + self.slope * away

    def _from_centre(self, score: float) -> float:
        return logit_of(self.base.probability(score)) - self.centre


Calibrator = Annotated[Platt | Isotonic | VennAbers | Adapted, Field(discriminator="kind")]


def logit_of(probability: float) -> float:
    """Logit of a probability; of 0 and 1 that of one very near to them."""
    inside = min(max(probability, _NEAREST), 1 - _NEAREST)
    return log(inside / (1 - inside))


def _logistic(logit: float) -> float:
    return 1 / (1 + exp(-logit)) if logit >= 0 else exp(logit) / (1 + exp(logit))


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
