"""Ranking of right answers above wrong ones: AUROC, AUPRC, risk-coverage, AURC, PRR."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from guardrail.metrics.intervals import FloatArray, divide, in_order, mean_ranks

__all__ = ["RiskCoverage", "auprc", "aurc", "auroc", "prr", "risk_coverage"]


def auroc(confidence: ArrayLike, correct: ArrayLike) -> FloatArray:
    """Probability that a right answer has higher confidence than a wrong one, ties counted half.

    Computed by the Mann–Whitney U statistic of mean ranks; 0.5 is chance, higher is better.

    Args:
        confidence: Any score that goes up when the model is surer, (…, n).
        correct: Whether each answer is right, (…, n).

    Returns:
        Between 0 and 1, (…); NaN if all answers are right, or all wrong.
    """
    right = np.asarray(correct, dtype=np.float64)
    rights = right.sum(-1)
    ranks = mean_ranks(confidence)
    above = (ranks * right).sum(-1) - rights * (rights + 1) / 2
    return divide(above, rights * (right.shape[-1] - rights))


def auprc(confidence: ArrayLike, correct: ArrayLike) -> FloatArray:
    """Average precision of finding the **wrong** answers, the positive class here.

    Answers are taken from the least confident, ties together. Chance gives the share of wrong answers; higher
    is better.

    Args:
        confidence: Any score that goes up when the model is surer, (…, n).
        correct: Whether each answer is right, (…, n).

    Returns:
        Between 0 and 1, (…); NaN if no answer is wrong.
    """
    wrong = 1 - np.asarray(correct, dtype=np.float64)
    least_sure_first = in_order(-np.asarray(confidence, dtype=np.float64))
    precision = least_sure_first.counted_to_last(wrong) / (least_sure_first.last + 1)
    found = np.take_along_axis(wrong, least_sure_first.order, -1)
    return divide((found * precision).sum(-1), wrong.sum(-1))


class RiskCoverage(NamedTuple):
    """The risk–coverage curve.

    Attributes:
        coverage: Share of answers accepted, 1/n to 1, (n,).
        risk: Share of the accepted answers that are wrong, (…, n).
    """

    coverage: FloatArray
    risk: FloatArray


def risk_coverage(confidence: ArrayLike, correct: ArrayLike) -> RiskCoverage:
    """Error rate among the k most confident answers, for each k (El-Yaniv & Wiener, 2010).

    For tied answers it is the mean over all their orders, so that no order matters.

    Args:
        confidence: Any score that goes up when the model is surer, (…, n).
        correct: Whether each answer is right, (…, n).
    """
    wrong = 1 - np.asarray(correct, dtype=np.float64)
    accepted = np.arange(1, wrong.shape[-1] + 1)
    return RiskCoverage(accepted / wrong.shape[-1], in_order(confidence).counted_to(wrong) / accepted)


def aurc(confidence: ArrayLike, correct: ArrayLike) -> FloatArray:
    """Area under the risk–coverage curve: the mean of its n points (Geifman, Uziel & El-Yaniv, 2019).

    Chance gives the share of wrong answers; **lower** is better, and 0 means that all answers are right.

    Args:
        confidence: Any score that goes up when the model is surer, (…, n).
        correct: Whether each answer is right, (…, n).

    Returns:
        Between 0 and 1, (…).
    """
    return np.asarray(risk_coverage(confidence, correct).risk.mean(-1))


def prr(confidence: ArrayLike, correct: ArrayLike) -> FloatArray:
    """Prediction rejection ratio: gain from rejecting, from chance (0) to an oracle (1).

    (A_chance − A) / (A_chance − A_oracle), with A the area under the risk–coverage curve (Malinin & Gales,
    2021, and lm-polygraph, which estimates chance by shuffling; it equals the share of wrong answers). Below
    0 is worse than chance; higher is better.

    Args:
        confidence: Any score that goes up when the model is surer, (…, n).
        correct: Whether each answer is right, (…, n).

    Returns:
        At most 1, (…); NaN if all answers are right, or all wrong.
    """
    right = np.asarray(correct, dtype=np.float64)
    chance = 1 - right.mean(-1)
    one_class = (right == right[..., :1]).all(-1)
    gained = chance - aurc(confidence, right)
    return divide(gained, np.where(one_class, 0, chance - aurc(right, right)))
