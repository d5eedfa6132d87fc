"""Confidence intervals of metrics, and array helpers shared by all metrics."""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv

from guardrail.errors import CalibrationError
from guardrail.metrics import Figure

__all__ = [
    "LEVEL",
    "RESAMPLES",
    "FloatArray",
    "Metric",
    "Ordered",
    "checked",
    "divide",
    "draws",
    "ends",
    "figure",
    "in_order",
    "interval",
    "mean_ranks",
    "measure",
    "middle",
    "resampled",
    "share",
]


FloatArray = NDArray[np.float64]


class Ordered(NamedTuple):
    """Answers from the highest score to the lowest.

    Attributes:
        order: Index of the answer at each position, (…, n).
        first: Position of the first answer tied with the one at each position.
        last: Position of the last answer tied with it.
    """

    order: NDArray[np.intp]
    first: NDArray[np.intp]
    last: NDArray[np.intp]

    def counted_to(self, flags: ArrayLike) -> FloatArray:
        """Number of set flags up to and including each position, averaged over the orders of tied answers.

        Args:
            flags: A flag for each answer, in the original order, (…, n).
        """
        set_to = self.counted_to_last(flags)
        before = np.where(self.first > 0, np.take_along_axis(set_to, np.maximum(self.first - 1, 0), -1), 0)
        places = np.arange(self.order.shape[-1])
        share = (places - self.first + 1) / (self.last - self.first + 1)
        return np.asarray(before + share * (set_to - before))

    def counted_to_last(self, flags: ArrayLike) -> FloatArray:
        """Number of set flags up to the end of the ties at each position."""
        in_place = np.take_along_axis(np.asarray(flags, dtype=np.float64), self.order, -1)
        return np.take_along_axis(np.cumsum(in_place, -1), self.last, -1)


def in_order(scores: ArrayLike) -> Ordered:
    """Order answers from the highest score to the lowest, along the last axis."""
    scores = np.asarray(scores, dtype=np.float64)
    order = np.argsort(-scores, axis=-1)
    ranked = np.take_along_axis(scores, order, -1)
    places = np.broadcast_to(np.arange(scores.shape[-1]), scores.shape)
    changes = ranked[..., 1:] != ranked[..., :-1]
    edge = np.ones((*scores.shape[:-1], 1), dtype=bool)
    starts = np.concatenate([edge, changes], axis=-1)
    ends = np.concatenate([changes, edge], axis=-1)
    first = np.maximum.accumulate(np.where(starts, places, 0), axis=-1)
    furthest = np.where(ends, places, scores.shape[-1])
    last = np.minimum.accumulate(furthest[..., ::-1], axis=-1)[..., ::-1]
    return Ordered(order, first, last)


def mean_ranks(scores: ArrayLike) -> FloatArray:
    """Ranks along the last axis, 1 for the lowest score, ties at their mean; all NaN if a score is NaN."""
    scores = np.asarray(scores, dtype=np.float64)
    order, first, last = in_order(scores)
    ranks = np.empty(scores.shape)
    np.put_along_axis(ranks, order, scores.shape[-1] - (first + last) / 2, -1)
    return np.where(np.isnan(scores).any(-1, keepdims=True), np.nan, ranks)


def divide(above: ArrayLike, below: ArrayLike) -> FloatArray:
    """Quotient without warnings; NaN for division by zero."""
    above, below = np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64)
    quotient = np.full(np.broadcast(above, below).shape, np.nan)
    np.divide(above, below, out=quotient, where=below != 0)
    return quotient


def checked(confidence: ArrayLike, correct: ArrayLike) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Both as arrays with one entry per answer.

    Raises:
        CalibrationError: There are no answers, the lengths differ, a label is not boolean, or a confidence is
            not a number.
    """
    confidence, labels = np.asarray(confidence, dtype=np.float64), np.asarray(correct)
    if confidence.ndim != 1 or confidence.shape != labels.shape:
        raise CalibrationError(
            f"There are {confidence.shape} confidences and {labels.shape} labels; every answer needs one of "
            "each."
        )
    if not len(labels):
        raise CalibrationError("There are no judged answers to measure on.")
    if not np.isin(labels, (0, 1)).all():
        raise CalibrationError("Every label must be true or false (1 or 0).")
    if np.isnan(confidence).any():
        at = int(np.flatnonzero(np.isnan(confidence))[0])
        raise CalibrationError(
            f"The confidence of answer {at} is not a number; score it again or leave it out."
        )
    return confidence, labels.astype(bool)


IntArray = NDArray[np.int64]

LEVEL = 0.95
RESAMPLES = 1000
# Numbers resampled at once: fast, in a few megabytes.
_AT_ONCE = 500_000


class Metric(Protocol):
    """A metric of answers along the last axis; NaN where undefined."""

    def __call__(self, confidence: ArrayLike, correct: ArrayLike, /) -> FloatArray:
        """Evaluate (…, n) confidences against (…, n) labels, giving (…) figures."""


def draws(
    answers: int, groups: ArrayLike | None = None, *, seed: int = 0, resamples: int = RESAMPLES
) -> Iterator[IntArray]:
    """Bootstrap resamples (Efron, 1979) as indices of answers, several at a time.

    A seed always draws the same answers, so the difference between two methods' results is a paired bootstrap
    of their difference.

    Args:
        answers: Number of answers.
        groups: Group of each answer, (answers,). Whole groups are drawn, because answers to one question are
            not independent (Field & Welsh, 2007). By default each answer is its own group.
        seed: Seed of the draws.
        resamples: Number of resamples.

    Yields:
        Indices, (rows, n), with Σ rows = resamples; n varies only if the groups differ in size.
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
    """The metric on resampled answers (see :func:`draws`), (resamples,).

    Raises:
        CalibrationError: There are no answers, or a value is not a number.
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
    """Percentile bootstrap interval of a metric over answers or groups of answers (see :func:`draws`).

    Resamples where the metric is undefined are left out; if they are more than a tenth (as with two or fewer
    answers of one kind among many), there is no interval.

    Raises:
        CalibrationError: There are no answers, or a value is not a number.
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
        CalibrationError: There are no answers, or a value is not a number.
    """
    confidence, labels = checked(confidence, correct)
    value = float(metric(confidence, labels))
    values = resampled(metric, confidence, labels, groups=groups, seed=seed, resamples=resamples)
    return figure(value, values, labels)


def figure(value: float, values: FloatArray, correct: ArrayLike) -> Figure:
    """A figure from its value and its values on resamples, or the reason why one is missing.

    Args:
        value: Value on all answers; NaN if undefined.
        values: Value on each resample, (resamples,).
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
    """Both ends of the middle share of resamples; None if more than a tenth are undefined."""
    defined = values[~np.isnan(values)]
    return ends(defined, level) if len(defined) >= 0.9 * len(values) else None


def share(flags: ArrayLike, *, none: str = "there are no answers") -> Figure:
    """Share of set flags with its exact 95 % binomial interval (Clopper & Pearson, 1934).

    Not bootstrapped: for 40 answers without an error, a bootstrap would claim that there are none at all.

    Args:
        flags: True or false, (n,).
        none: The reason to give if there are no flags.
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
    """Indices of each group's answers, groups in order of first appearance."""
    _, first, group = np.unique(groups, return_index=True, return_inverse=True)
    rank = np.argsort(np.argsort(first))[group]
    order = np.argsort(rank, kind="stable")
    return np.split(order, np.cumsum(np.bincount(rank))[:-1])
