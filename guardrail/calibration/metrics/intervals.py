"""How far a figure might be from the truth, because it was measured on so many answers and no more."""

from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest

from guardrail.calibration.figure import Figure
from guardrail.calibration.metrics.arrays import FloatArray, checked

__all__ = ["LEVEL", "RESAMPLES", "Metric", "ends", "interval", "measure", "resampled", "share"]

LEVEL = 0.95
RESAMPLES = 1000
# Numbers that are resampled at once: enough to be fast, and few megabytes.
_AT_ONCE = 500_000


class Metric(Protocol):
    """A figure of answers along the last axis; NaN where it is not defined."""

    def __call__(self, confidence: ArrayLike, correct: ArrayLike, /) -> FloatArray:
        """Judge (…, n) confidences by (…, n) labels, giving (…) figures."""


def resampled(
    metric: Metric,
    confidence: ArrayLike,
    correct: ArrayLike,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> FloatArray:
    """The metric on answers drawn with replacement (Efron, 1979), (resamples,).

    One seed draws the same answers for every metric and every confidence of as many answers: the difference
    of two methods' results is a paired bootstrap of their difference.

    Raises:
        CalibrationError: There are no answers, or something of them is not a number.
    """
    confidence, correct = checked(confidence, correct)
    answers = len(correct)
    generator = np.random.default_rng(seed)
    values = np.empty(resamples)
    rows = max(1, _AT_ONCE // answers)
    for start in range(0, resamples, rows):
        drawn = generator.integers(answers, size=(min(rows, resamples - start), answers))
        values[start : start + rows] = metric(confidence[drawn], correct[drawn])
    return values


def interval(
    metric: Metric,
    confidence: ArrayLike,
    correct: ArrayLike,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> tuple[float, float] | None:
    """Percentile bootstrap interval of a metric over answers.

    Resamples in which the metric is not defined are left out; where those are more than a tenth (two answers
    of one kind among many others, or fewer), there is no interval.

    Raises:
        CalibrationError: There are no answers, or something of them is not a number.
    """
    values = resampled(metric, confidence, correct, seed=seed, resamples=resamples)
    values = values[~np.isnan(values)]
    return ends(values, level) if len(values) >= 0.9 * resamples else None


def measure(
    metric: Metric,
    confidence: ArrayLike,
    correct: ArrayLike,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Figure:
    """A metric with its 95 % bootstrap interval, or why there is none.

    Raises:
        CalibrationError: There are no answers, or something of them is not a number.
    """
    confidence, labels = checked(confidence, correct)
    answers = len(labels)
    value = float(metric(confidence, labels))
    if np.isnan(value):
        kind = "right" if labels[0] else "wrong"
        reason = f"all {answers} answers are {kind}, so there is nothing to tell apart"
        return Figure(value=None, low=None, high=None, n=answers, reason=reason)
    found = interval(metric, confidence, labels, seed=seed, resamples=resamples)
    if found is None:
        few = min(int(labels.sum()), answers - int(labels.sum()))
        reason = f"too few answers of one kind ({few} of {answers}) for an interval"
        return Figure(value=value, low=None, high=None, n=answers, reason=reason)
    return Figure(value=value, low=found[0], high=found[1], n=answers)


def share(flags: ArrayLike, *, none: str = "there are no answers") -> Figure:
    """Share of flags that are set, with its exact 95 % binomial interval (Clopper & Pearson, 1934).

    Not by bootstrap: of 40 answers without an error, that would say that there are none at all.

    Args:
        flags: True or false, (n,).
        none: The reason to give where there are none.
    """
    flags = np.asarray(flags, dtype=bool)
    if not flags.size:
        return Figure(value=None, low=None, high=None, n=0, reason=none)
    low, high = binomtest(int(flags.sum()), flags.size).proportion_ci(LEVEL, method="exact")
    return Figure(value=float(flags.mean()), low=float(low), high=float(high), n=flags.size)


def ends(values: FloatArray, level: float) -> tuple[float, float]:
    """Both ends of the middle share of values."""
    outside = (1 - level) / 2
    low, high = np.quantile(values, (outside, 1 - outside))
    return float(low), float(high)
