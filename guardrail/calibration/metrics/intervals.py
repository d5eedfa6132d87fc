"""How far a figure might be from the truth, because it was measured on so many answers and no more."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv

from guardrail.calibration.figure import Figure
from guardrail.calibration.metrics.arrays import FloatArray, checked

__all__ = [
    "LEVEL",
    "RESAMPLES",
    "Metric",
    "draws",
    "ends",
    "figure",
    "interval",
    "measure",
    "middle",
    "resampled",
    "share",
]

IntArray = NDArray[np.int64]

LEVEL = 0.95
RESAMPLES = 1000
# Numbers that are resampled at once: enough to be fast, and few megabytes.
_AT_ONCE = 500_000


class Metric(Protocol):
    """A figure of answers along the last axis; NaN where it is not defined."""

    def __call__(self, confidence: ArrayLike, correct: ArrayLike, /) -> FloatArray:
        """Judge (…, n) confidences by (…, n) labels, giving (…) figures."""


def draws(
    answers: int, groups: ArrayLike | None = None, *, seed: int = 0, resamples: int = RESAMPLES
) -> Iterator[IntArray]:
    """Places of answers drawn with replacement (Efron, 1979), several resamples of one size at a time.

    One seed draws the same answers whatever is measured on them: the difference of two methods' results is
    a paired bootstrap of their difference.

    Args:
        answers: How many there are.
        groups: What each answer belongs to, (answers,): whole groups are drawn, because answers to one
            question are no independent evidence (Field & Welsh, 2007). Without, each is one of its own.
        seed: Of the draws.
        resamples: How many.

    Yields:
        Places, (rows, n), with Σ rows = resamples; n differs only where groups are of different sizes.
    """
    generator = np.random.default_rng(seed)
    rows = max(1, _AT_ONCE // answers)
    members = None if groups is None else _members(np.asarray(groups))
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        if members is None:
            yield generator.integers(answers, size=(size, answers))
            continue
        chosen = generator.integers(len(members), size=(size, len(members)))
        drawn = [np.concatenate([members[group] for group in row]) for row in chosen]
        if len({len(places) for places in drawn}) == 1:
            yield np.stack(drawn)
        else:
            yield from (places[None] for places in drawn)


def resampled(
    metric: Metric,
    confidence: ArrayLike,
    correct: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> FloatArray:
    """The metric on answers drawn with replacement (see :func:`draws`), (resamples,).

    Raises:
        CalibrationError: There are no answers, or something of them is not a number.
    """
    confidence, correct = checked(confidence, correct)
    values = [
        metric(confidence[drawn], correct[drawn])
        for drawn in draws(len(correct), groups, seed=seed, resamples=resamples)
    ]
    return np.concatenate(values)


def interval(
    metric: Metric,
    confidence: ArrayLike,
    correct: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> tuple[float, float] | None:
    """Percentile bootstrap interval of a metric over answers, or over groups of them (see :func:`draws`).

    Resamples in which the metric is not defined are left out; where those are more than a tenth (two answers
    of one kind among many others, or fewer), there is no interval.

    Raises:
        CalibrationError: There are no answers, or something of them is not a number.
    """
    values = resampled(metric, confidence, correct, groups=groups, seed=seed, resamples=resamples)
    return middle(values, level)


def measure(
    metric: Metric,
    confidence: ArrayLike,
    correct: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Figure:
    """A metric with its 95 % bootstrap interval, or why there is none.

    Raises:
        CalibrationError: There are no answers, or something of them is not a number.
    """
    confidence, labels = checked(confidence, correct)
    value = float(metric(confidence, labels))
    values = resampled(metric, confidence, labels, groups=groups, seed=seed, resamples=resamples)
    return figure(value, values, labels)


def figure(value: float, values: FloatArray, correct: ArrayLike) -> Figure:
    """A figure of its value and of what it was on resamples, or why it has no value or no interval.

    Args:
        value: On all answers; NaN where it is not defined.
        values: On each resample, (resamples,).
        correct: Whether each answer is right, (n,).
    """
    labels = np.asarray(correct, dtype=bool)
    answers = len(labels)
    if np.isnan(value):
        kind = "right" if labels[0] else "wrong"
        reason = f"all {answers} answers are {kind}, so there is nothing to tell apart"
        return Figure(value=None, low=None, high=None, n=answers, reason=reason)
    found = middle(values, LEVEL)
    if found is None:
        few = min(int(labels.sum()), answers - int(labels.sum()))
        reason = f"too few answers of one kind ({few} of {answers}) for an interval"
        return Figure(value=value, low=None, high=None, n=answers, reason=reason)
    return Figure(value=value, low=found[0], high=found[1], n=answers)


def middle(values: FloatArray, level: float = LEVEL) -> tuple[float, float] | None:
    """Both ends of the middle share of resamples; None where more than a tenth of them is not defined."""
    defined = values[~np.isnan(values)]
    return ends(defined, level) if len(defined) >= 0.9 * len(values) else None


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
    n, found, outside = flags.size, int(flags.sum()), (1 - LEVEL) / 2
    low = float(betaincinv(found, n - found + 1, outside)) if found else 0.0
    high = float(betaincinv(found + 1, n - found, 1 - outside)) if found < n else 1.0
    return Figure(value=float(flags.mean()), low=low, high=high, n=n)


def ends(values: FloatArray, level: float) -> tuple[float, float]:
    """Both ends of the middle share of values."""
    outside = (1 - level) / 2
    low, high = np.quantile(values, (outside, 1 - outside))
    return float(low), float(high)


def _members(groups: NDArray[np.generic]) -> list[IntArray]:
    """Places of each group's answers, the groups in order of their first."""
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))[group]
    order = np.argsort(rank, kind="stable")
    return np.split(order, np.cumsum(np.bincount(rank))[:-1])
