"""Fit calibrators: P(correct) from the scores of judged answers.

:mod:`guardrail.calibration.calibrators` evaluates them. None of the three reaches 0 or 1, which no number of
answers can prove.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from guardrail.calibration.calibrators import Calibrator, Isotonic, Platt, VennAbers
from guardrail.calibration.options import CalibratorChoice
from guardrail.errors import CalibrationError

__all__ = ["MOST_SCORES", "fit_calibrator", "fit_isotonic", "fit_platt", "fit_venn_abers"]


FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

# More distinct scores are merged before a Venn–Abers calibrator is made: each takes four numbers of the
# profile.
MOST_SCORES = 5000
# Practically no penalty; scikit-learn needs some.
_NO_PENALTY = 1e6


def fit_calibrator(kind: CalibratorChoice, scores: FloatArray, correct: BoolArray) -> Calibrator:
    """Fit the calibrator of this name, which is not ``auto``.

    Args:
        kind: The calibrator's name.
        scores: Confidence scores of answers that the confidence model was not fitted on.
        correct: Whether each answer is correct.

    Raises:
        CalibrationError: There are no scores, or one is not finite.
    """
    if not len(scores) or not np.isfinite(scores).all():
        raise CalibrationError("A calibrator needs scores, all of them finite.")
    if kind == "platt":
        return fit_platt(scores, correct)
    return fit_isotonic(scores, correct) if kind == "isotonic" else fit_venn_abers(scores, correct)


def fit_platt(scores: FloatArray, correct: BoolArray) -> Platt:
    """Fit a logistic curve to Platt's targets, (n₊ + 1)/(n₊ + 2) for 1 and 1/(n₋ + 2) for 0 (Platt, 1999).

    If the score is useless, or higher scores are more often wrong, the curve is level.
    """
    right, wrong = int(correct.sum()), int((~correct).sum())
    targets = np.where(correct, (right + 1) / (right + 2), 1 / (wrong + 2))
    base = float(np.log(targets.mean() / (1 - targets.mean())))
    centre, spread = float(scores.mean()), float(scores.std())
    if spread <= 1e-12 * max(1.0, abs(centre)):
        return Platt(slope=0.0, intercept=base)
    # A target between 0 and 1 counts partly as a right and partly as a wrong answer.
    standardised = ((scores - centre) / spread)[:, None]
    model = LogisticRegression(C=_NO_PENALTY, max_iter=1000).fit(
        np.vstack([standardised, standardised]),
        np.repeat([1, 0], len(scores)),
        sample_weight=np.concatenate([targets, 1 - targets]),
    )
    slope = float(model.coef_[0, 0]) / spread
    if slope <= 0:
        return Platt(slope=0.0, intercept=base)
    return Platt(slope=slope, intercept=float(model.intercept_[0]) - slope * centre)


def fit_isotonic(scores: FloatArray, correct: BoolArray) -> Isotonic:
    """Fit a rising curve (scikit-learn), with an extra right answer at the bottom and a wrong one on top.

    Without these two, the curve would start at 0 and end at 1 whenever the outermost answers happen to.
    """
    model = IsotonicRegression(out_of_bounds="clip").fit(
        np.concatenate([[scores.min()], scores, [scores.max()]]),
        np.concatenate([[1.0], correct.astype(float), [0.0]]),
    )
    return Isotonic(
        scores=tuple(model.X_thresholds_.tolist()),
        # Means of the same numbers may differ in their last digit.
        probabilities=tuple(np.maximum.accumulate(model.y_thresholds_).clip(0, 1).tolist()),
    )


def fit_venn_abers(scores: FloatArray, correct: BoolArray) -> VennAbers:
    """Make the step functions of an inductive Venn–Abers calibrator (Vovk & Petej, 2014).

    With more than ``MOST_SCORES`` distinct scores, neighbours are merged at their mean.
    """
    distinct, place = np.unique(scores, return_inverse=True)
    if len(distinct) > MOST_SCORES:
        bins = np.arange(len(distinct)) * MOST_SCORES // len(distinct)
        distinct = np.bincount(bins, distinct) / np.bincount(bins)
        place = bins[place]
    counts, right = np.bincount(place).tolist(), np.bincount(place[correct], minlength=len(distinct)).tolist()
    upper = _with_one_right(counts, right)
    wrong = [count - one for count, one in zip(counts, right, strict=True)]
    lower = [1 - value for value in reversed(_with_one_right(counts[::-1], wrong[::-1]))]
    # Between two scores, a right answer is pooled with the one above, and a wrong one with the one below.
    return VennAbers(
        scores=tuple(distinct.tolist()),
        lower=(0.0, *(value for value in lower for _ in range(2))),
        upper=(*(value for value in upper for _ in range(2)), 1.0),
    )


@dataclass(frozen=True, slots=True)
class _Block:
    """Adjacent scores with one probability, linked to the next block."""

    count: int
    right: int
    next: "_Block | None"

    def is_above(self, count: int, right: int) -> bool:
        return self.right * count > right * self.count


def _with_one_right(counts: Sequence[int], right: Sequence[int]) -> list[float]:
    """Isotonic probability at each score if there were one more right answer at it.

    The order of pooling is free, so the scores below and those above are pooled once, and only what the new
    answer disturbs is pooled again. O(n) apart from that, and exact, because integers are compared.
    """
    below = _pooled(zip(counts, right, strict=True), falling=False)
    above = _pooled(zip(reversed(counts), reversed(right), strict=True), falling=True)[::-1]
    probabilities = []
    for at, (count, ones) in enumerate(zip(counts, right, strict=True)):
        n, k, left, onward = count + 1, ones + 1, below[at], above[at + 1]
        while True:
            if onward is not None and not onward.is_above(n, k):
                n, k, onward = n + onward.count, k + onward.right, onward.next
            elif left is not None and left.is_above(n, k):
                n, k, left = n + left.count, k + left.right, left.next
            else:
                break
        probabilities.append(k / n)
    return probabilities


def _pooled(scores: Iterable[tuple[int, int]], *, falling: bool) -> list[_Block | None]:
    """The blocks of the first 0, 1, 2, … scores, nearest first."""
    block: _Block | None = None
    blocks = [block]
    for count, right in scores:
        while block is not None and (block.right * count - right * block.count) * (-1 if falling else 1) > 0:
            count, right, block = count + block.count, right + block.right, block.next
        block = _Block(count, right, block)
        blocks.append(block)
    return blocks
