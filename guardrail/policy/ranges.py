"""Between which values each number of an answer lies: what a bound may say, and what is no evidence."""

from collections.abc import Mapping
from math import inf
from typing import NamedTuple

from guardrail.scoring.uncertainty import SCORES

__all__ = ["NUMBERS", "QUANTILES", "SHARE", "Range", "range_of"]

# What a rule may set a bound for, beside the confidence. ``tokens`` is the length of the answer.
NUMBERS = (*SCORES, "tokens")
# What a profile has a reference distribution of (with ``OF_THE_PROFILE`` of calibration).
QUANTILES = (*NUMBERS, "confidence", "confidence_score")


class Range(NamedTuple):
    """Least and largest value, both included."""

    low: float
    high: float


SHARE = Range(0.0, 1.0)
_RANGES: Mapping[str, Range] = {
    "log_likelihood": Range(-inf, 0.0),
    "min_token_probability": SHARE,
    "perplexity": Range(1.0, inf),
    "confidence_score": Range(-inf, inf),
}


def range_of(score: str) -> Range:
    """Between which values a score lies; most are not negative."""
    return _RANGES.get(score, Range(0.0, inf))
