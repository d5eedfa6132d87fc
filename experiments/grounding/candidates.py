"""What the two readings of an answer could be summed up as."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from experiments.grounding.reading import Answers

__all__ = ["CANDIDATES", "NAMED_BEFOREHAND"]

FloatArray = NDArray[np.float64]
NAMED_BEFOREHAND = "mean gain"


def _gain(answers: Answers) -> FloatArray:
    return answers.tokens["given"] - answers.tokens["without"]


def _sums_ratio(answers: Answers) -> FloatArray:
    return np.nansum(_gain(answers), 1) / -np.nansum(answers.tokens["without"], 1)


def _least_sure(answers: Answers) -> FloatArray:
    """Gain of the token of most entropy given the document."""
    at = np.nanargmax(answers.tokens["entropy_given"], 1)
    return _gain(answers)[np.arange(len(at)), at]


# Each goes up where the document moved the answer more.
CANDIDATES: dict[str, Callable[[Answers], FloatArray]] = {
    NAMED_BEFOREHAND: lambda answers: np.nanmean(_gain(answers), 1),
    "sum of gains": lambda answers: np.nansum(_gain(answers), 1),
    "largest gain of a token": lambda answers: np.nanmax(_gain(answers), 1),
    "gain of the least sure token": _least_sure,
    "share of tokens that gained": lambda answers: np.nanmean(
        np.where(np.isnan(_gain(answers)), np.nan, _gain(answers) > 0), 1
    ),
    "sum of gains / -log-likelihood without": _sums_ratio,
    "mean divergence": lambda answers: np.nanmean(answers.tokens["divergence"], 1),
    "largest divergence": lambda answers: np.nanmax(answers.tokens["divergence"], 1),
    "mean loss of entropy": lambda answers: np.nanmean(
        answers.tokens["entropy_without"] - answers.tokens["entropy_given"], 1
    ),
    "mean log-likelihood without": lambda answers: np.nanmean(answers.tokens["without"], 1),
}
