"""How close probabilities of being correct come to what was the case: 0 is perfect."""

import numpy as np
from numpy.typing import ArrayLike

from guardrail.calibration.metrics.arrays import FloatArray, divide

__all__ = ["brier", "brier_base_rate", "brier_skill"]


def brier(confidence: ArrayLike, correct: ArrayLike) -> FloatArray:
    """Mean squared distance between the probability and what was the case (Brier, 1950); lower is better.

    Args:
        confidence: Probability of being correct, 0 to 1, (…, n).
        correct: Whether each answer is right, (…, n).

    Returns:
        Between 0 and 1, (…).
    """
    distance = np.asarray(confidence, dtype=np.float64) - np.asarray(correct, dtype=np.float64)
    return np.asarray((distance**2).mean(-1))


def brier_base_rate(confidence: ArrayLike, correct: ArrayLike) -> FloatArray:
    """Brier score of always saying these answers' own share of right ones: what is to be beaten.

    The share is that of the very answers judged, which favours it over what was known beforehand.

    Args:
        confidence: Not looked at; metrics have one form.
        correct: Whether each answer is right, (…, n).
    """
    accuracy = np.asarray(correct, dtype=np.float64).mean(-1)
    return np.asarray(accuracy * (1 - accuracy))


def brier_skill(confidence: ArrayLike, correct: ArrayLike) -> FloatArray:
    """Share of the base rate's Brier score that the probabilities take away; higher is better.

    Args:
        confidence: Probability of being correct, 0 to 1, (…, n).
        correct: Whether each answer is right, (…, n).

    Returns:
        At most 1; 0 or below is no better than the base rate, (…). NaN where all answers are right, or all
        wrong.
    """
    base = brier_base_rate(confidence, correct)
    return divide(base - brier(confidence, correct), base)
