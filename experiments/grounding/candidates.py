"""What the two readings of an answer could be summed up as."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from experiments.grounding.reading import Answers

__all__ = ["CANDIDATES", "NAMED_BEFOREHAND", "OF_TOKENS", "candidates_of"]

FloatArray = NDArray[np.float64]
Candidate = Callable[[Answers], FloatArray]
NAMED_BEFOREHAND = "mean gain"


def _length(answers: Answers) -> FloatArray:
    return np.isfinite(answers.without.log_probabilities).sum(1).astype(np.float64)


def _without(answers: Answers) -> FloatArray:
    return np.nansum(answers.without.log_probabilities, 1)


def _gain(answers: Answers) -> FloatArray:
    return answers.scores["log_likelihood"] - _without(answers)


def _token_gains(answers: Answers) -> FloatArray:
    if answers.given is None:
        raise ValueError("The answers were not read with the document again.")
    return answers.given.log_probabilities - answers.without.log_probabilities


def _least_sure(answers: Answers) -> FloatArray:
    """Gain of the token of most entropy given the document."""
    gains = _token_gains(answers)
    entropies = answers.given.entropies if answers.given else gains
    at = np.nanargmax(entropies, 1)
    return gains[np.arange(len(at)), at]


def _share_that_gained(answers: Answers) -> FloatArray:
    return (_token_gains(answers) > 0).sum(1) / _length(answers)


# Each goes up where the document moved the answer more. Gain: log p(given the document) − log p(without).
CANDIDATES: dict[str, Candidate] = {
    NAMED_BEFOREHAND: lambda answers: _gain(answers) / _length(answers),
    "sum of gains": _gain,
    "gain / −log-likelihood without": lambda answers: _gain(answers) / -_without(answers),
    "loss of mean entropy": lambda answers: (
        np.nanmean(answers.without.entropies, 1) - answers.scores["mean_entropy"]
    ),
    "loss of largest entropy": lambda answers: (
        np.nanmax(answers.without.entropies, 1) - answers.scores["max_entropy"]
    ),
    "gain of the least probable token": lambda answers: (
        np.log(answers.scores["min_token_probability"]) - np.nanmin(answers.without.log_probabilities, 1)
    ),
}
# Those that need each token's own gain.
OF_TOKENS: dict[str, Candidate] = {
    "largest gain of a token": lambda answers: np.nanmax(_token_gains(answers), 1),
    "gain of the token of most entropy": _least_sure,
    "share of tokens that gained": _share_that_gained,
}


def candidates_of(answers: Answers) -> dict[str, Candidate]:
    """The candidates that can be had of what was read."""
    return CANDIDATES if answers.given is None else {**CANDIDATES, **OF_TOKENS}
