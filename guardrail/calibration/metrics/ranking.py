"""How well a score ranks right answers above wrong ones: 1 is perfect."""

import numpy as np
from numpy.typing import ArrayLike

from guardrail.calibration.metrics.arrays import FloatArray, divide, in_order, mean_ranks

__all__ = ["auprc", "auroc"]


def auroc(confidence: ArrayLike, correct: ArrayLike) -> FloatArray:
    """Probability that a right answer has a higher confidence than a wrong one, ties counted half.

    By the Mann–Whitney U statistic of mean ranks; 0.5 is chance, higher is better.

    Args:
        confidence: Any score that goes up when the model is surer, (…, n).
        correct: Whether each answer is right, (…, n).

    Returns:
        Between 0 and 1, (…); NaN where all answers are right, or all wrong.
    """
    right = np.asarray(correct, dtype=np.float64)
    rights = right.sum(-1)
    ranks = mean_ranks(confidence)
    above = (ranks * right).sum(-1) - rights * (rights + 1) / 2
    return divide(above, rights * (right.shape[-1] - rights))


def auprc(confidence: ArrayLike, correct: ArrayLike) -> FloatArray:
    """Average precision of finding the **wrong** answers, which are the positive class here.

    Answers are looked at from the least sure on, all tied ones at once. The share of wrong answers is what
    chance gives; higher is better.

    Args:
        confidence: Any score that goes up when the model is surer, (…, n).
        correct: Whether each answer is right, (…, n).

    Returns:
        Between 0 and 1, (…); NaN where no answer is wrong.
    """
    wrong = 1 - np.asarray(correct, dtype=np.float64)
    least_sure_first = in_order(-np.asarray(confidence, dtype=np.float64))
    precision = least_sure_first.counted_to_last(wrong) / (least_sure_first.last + 1)
    found = np.take_along_axis(wrong, least_sure_first.order, -1)
    return divide((found * precision).sum(-1), wrong.sum(-1))
