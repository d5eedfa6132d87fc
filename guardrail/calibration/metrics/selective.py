"""What is gained by answering only where the model is surest."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from guardrail.calibration.metrics.arrays import FloatArray, divide, in_order

__all__ = ["RiskCoverage", "aurc", "prr", "risk_coverage"]


class RiskCoverage(NamedTuple):
    """The risk–coverage curve.

    Attributes:
        coverage: Share of answers let through, 1/n to 1, (n,).
        risk: Share of them that are wrong, (…, n).
    """

    coverage: FloatArray
    risk: FloatArray


def risk_coverage(confidence: ArrayLike, correct: ArrayLike) -> RiskCoverage:
    """Error among the k surest answers, for each k (El-Yaniv & Wiener, 2010).

    Among tied answers it is the mean over all their orders, so that none of them decides.

    Args:
        confidence: Any score that goes up when the model is surer, (…, n).
        correct: Whether each answer is right, (…, n).
    """
    wrong = 1 - np.asarray(correct, dtype=np.float64)
    let_through = np.arange(1, wrong.shape[-1] + 1)
    return RiskCoverage(let_through / wrong.shape[-1], in_order(confidence).counted_to(wrong) / let_through)


def aurc(confidence: ArrayLike, correct: ArrayLike) -> FloatArray:
    """Area under the risk–coverage curve: the mean of its n points (Geifman, Uziel & El-Yaniv, 2019).

    The share of wrong answers is what chance gives; **lower** is better, and 0 needs all answers right.

    Args:
        confidence: Any score that goes up when the model is surer, (…, n).
        correct: Whether each answer is right, (…, n).

    Returns:
        Between 0 and 1, (…).
    """
    return np.asarray(risk_coverage(confidence, correct).risk.mean(-1))


def prr(confidence: ArrayLike, correct: ArrayLike) -> FloatArray:
    """Prediction rejection ratio: how far from chance (0) to an oracle (1) the rejecting is.

    (A_chance − A) / (A_chance − A_oracle), with A the area under the risk–coverage curve (Malinin & Gales,
    2021, and lm-polygraph, which finds the area of chance by shuffling; it is the share of wrong answers).
    Below 0 is worse than chance; higher is better.

    Args:
        confidence: Any score that goes up when the model is surer, (…, n).
        correct: Whether each answer is right, (…, n).

    Returns:
        At most 1, (…); NaN where all answers are right, or all wrong.
    """
    right = np.asarray(correct, dtype=np.float64)
    chance = 1 - right.mean(-1)
    one_class = (right == right[..., :1]).all(-1)
    gained = chance - aurc(confidence, right)
    return divide(gained, np.where(one_class, 0, chance - aurc(right, right)))
