"""The search for a threshold, planned before the certify part's labels are seen.

A search that starts where it is likely to succeed accepts more answers. The fit part says what is likely; if
it is wrong, fewer answers are accepted, but the guarantee still holds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtri
from scipy.stats import rankdata

from guardrail.calibration.binomial_bounds import Counts, band, fewest_needed, highest_passed, pointwise
from guardrail.calibration.profile import Guarantee
from guardrail.errors import CalibrationError

__all__ = ["Band", "FixedSequence", "Plan", "Search", "default_search", "plan"]


Floats = NDArray[np.float64]

# Shares of the answers at which a fixed sequence may start, and at which a band may begin.
_STARTS = (
    *(0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.125, 0.15, 0.175),
    *(0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.7, 0.85, 1.0),
)
_BEGINNINGS = (0.08, 0.12, 0.16, 0.2, 0.3, 0.45)
_WIDTHS = (1.0, 1.5, 2.0, 3.0)
# A larger band takes long to calibrate, and there a fixed sequence accepts more anyway.
_LARGEST_BAND = 1500
# Starts promising about as much; the middle one tolerates most error in the fit part.
_ABOUT_EQUAL = 0.98
# Simulated certify parts for comparing searches, and the most answers simulated in all.
_DRAWS, _MOST_DRAWN = 300, 6_000_000
# Where the curve may bend, in normal scores of the rank; prior variances of intercept and slopes.
_BENDS = (-1.0, -0.5, 0.0, 0.5, 1.0, 1.5)
_PRIOR = (10.0, *(2.25,) * (1 + len(_BENDS)))


@dataclass(frozen=True, slots=True)
class FixedSequence:
    """Test every threshold from ``start`` downwards, each at level δ, and stop at the first that fails.

    Fixed-sequence testing (Maurer, Hothorn & Lehmacher 1995; the one-chain case of Bretz et al. 2009): a
    false certification requires the first threshold in the sequence that is too lax to pass its own test.

    Attributes:
        start: The strictest threshold tested: a confidence score, taken from the fit part.
    """

    start: float


@dataclass(frozen=True, slots=True)
class Band:
    """Test every threshold at once, with most power where ``first`` to ``last`` answers are accepted.

    See :mod:`guardrail.calibration.binomial_bounds`. It depends only on the number of answers.

    Attributes:
        first: Number of accepted answers where the band begins, at least 1.
        last: Number of accepted answers where it ends.
    """

    first: int
    last: int


Search = FixedSequence | Band


@dataclass(frozen=True, slots=True)
class Plan:
    """What the fit part says about how to search.

    Attributes:
        scores: Confidence scores of the fit part.
        likely: For each answer, whether it was correct, or how likely it was.
        seed: Seed of the simulation.
    """

    scores: tuple[float, ...]
    likely: tuple[float, ...]
    seed: int = 0

    def search(self, guarantee: Guarantee, n: int) -> Search:
        """Choose the search that is expected to accept most answers.

        A logistic curve with bends on the normal scores of the ranks is fitted with a normal prior (Laplace
        approximation). Curves drawn from its posterior give simulated certify parts of n answers, on which
        every search is tried. This affects only the power: the guarantee does not depend on the curve. A
        curve without bends starts far too strictly where correctness rises in a step.

        Args:
            guarantee: The guarantee to certify.
            n: Number of answers in the certify part.
        """
        if not self.scores or n < fewest_needed(guarantee):
            return default_search(guarantee, n)
        scores, likely = np.array(self.scores), np.array(self.likely)
        ranks, errors = _draws(scores, likely, n, np.random.default_rng(self.seed))
        bands = _bands(guarantee, n)
        of_bands = [_expected_of_band(errors, one, guarantee) for one in bands]
        of_sequences = _expected_of_sequences(ranks, errors, guarantee)
        if max(of_bands) <= 0 and max(of_sequences) <= 0:
            # Hopeless by the curve. If the curve is wrong, the strictest search may still find something.
            return bands[0]
        if max(of_bands) >= max(of_sequences):
            return bands[of_bands.index(max(of_bands))]
        near = [i for i, value in enumerate(of_sequences) if value >= _ABOUT_EQUAL * max(of_sequences)]
        at = max(0, round(_STARTS[near[len(near) // 2]] * len(scores)) - 1)
        return FixedSequence(float(np.sort(scores)[::-1][at]))


def default_search(guarantee: Guarantee, n: int) -> Band:
    """The band to use without a fit part.

    Args:
        guarantee: The guarantee to certify.
        n: Number of answers in the certify part.
    """
    first = max(_fewest_with_errors(guarantee, 1), round(0.16 * n))
    first = min(first, _LARGEST_BAND // 3)
    return Band(first, 3 * first)


def plan(fit_scores: Sequence[float], fit_likely: Sequence[float], *, seed: int = 0) -> Plan:
    """Take from the fit part what helps the search on the certify part.

    Args:
        fit_scores: Confidence scores of the fit part, from models not fitted on these answers.
        fit_likely: For each answer, whether it was correct (0 or 1), or the probability of that.
        seed: Seed of the simulation.

    Raises:
        CalibrationError: A score is not finite, a probability is invalid, or the lengths differ.
    """
    scores, likely = np.asarray(fit_scores, float), np.asarray(fit_likely, float)
    if scores.shape != likely.shape or scores.ndim != 1:
        raise CalibrationError(
            f"{len(fit_scores)} scores and {len(fit_likely)} probabilities: every answer needs one of each."
        )
    if not np.isfinite(scores).all():
        raise CalibrationError("A confidence score of the fit part is not a finite number.")
    if not ((likely >= 0) & (likely <= 1)).all():
        raise CalibrationError("A probability of the fit part is not between 0 and 1.")
    return Plan(tuple(scores.tolist()), tuple(likely.tolist()), seed)


def _draws(scores: Floats, correct: Floats, n: int, rng: np.random.Generator) -> tuple[Floats, Counts]:
    """Ranks (0 highest score, 1 lowest) and cumulative errors of simulated parts, both (draws, n)."""
    draws = max(50, min(_DRAWS, _MOST_DRAWN // n))
    curves = _posterior(scores, correct, draws, rng)
    quantiles = np.sort(rng.random((draws, n)), axis=1)
    logits = np.zeros((draws, n))
    # Column by column, to save several times the memory.
    for weight, column in zip(curves.T, _columns(-ndtri(quantiles)), strict=True):
        logits += weight[:, None] * column
    likely = expit(logits)
    return quantiles, np.cumsum(rng.random((draws, n)) >= likely, axis=1)


def _posterior(scores: Floats, correct: Floats, draws: int, rng: np.random.Generator) -> Floats:
    """Weights of the columns in the logit of P(correct), (draws, columns)."""
    ranks = (rankdata(scores) - 0.5) / len(scores)
    inputs = np.stack(list(_columns(ndtri(ranks))), axis=1)
    precision = np.diag(1 / np.array(_PRIOR))
    mean, hessian = np.zeros(len(_PRIOR)), precision
    for _ in range(25):
        fitted = expit(inputs @ mean)
        hessian = (inputs * (fitted * (1 - fitted))[:, None]).T @ inputs + precision
        step = np.linalg.solve(hessian, inputs.T @ (correct - fitted) - precision @ mean)
        mean = mean + step / max(1.0, float(np.abs(step).max()))
    spread = np.linalg.cholesky(np.linalg.inv(hessian))
    values: Floats = mean + rng.standard_normal((draws, len(_PRIOR))) @ spread.T
    return values


def _columns(normal_scores: Floats) -> Iterator[Floats]:
    yield np.ones_like(normal_scores)
    yield normal_scores
    for bend in _BENDS:
        yield np.maximum(normal_scores - bend, 0)


def _expected_of_band(errors: Counts, one: Band, guarantee: Guarantee) -> float:
    boundary = band(errors.shape[1], one.first, one.last, guarantee)
    return float(highest_passed(errors, boundary).mean())


def _expected_of_sequences(quantiles: Floats, errors: Counts, guarantee: Guarantee) -> list[float]:
    draws, n = errors.shape
    failed = errors > pointwise(n, guarantee.max_error, 1 - guarantee.confidence)[1:]
    # Position of the first failure at or after each position; n where there is none.
    stops = np.where(failed, np.arange(n), n)
    stops = np.minimum.accumulate(stops[:, ::-1], axis=1)[:, ::-1]
    rows = np.arange(draws)
    expected = []
    for share in _STARTS:
        accepted = (quantiles <= share).sum(axis=1)
        reached = stops[rows, np.maximum(accepted - 1, 0)]
        expected.append(float(np.where((accepted > 0) & (reached >= accepted), reached, 0).mean()))
    return expected


@lru_cache(maxsize=64)
def _bands(guarantee: Guarantee, n: int) -> tuple[Band, ...]:
    exact = (_fewest_with_errors(guarantee, errors) for errors in range(5))
    shares = (max(fewest_needed(guarantee), int(share * n)) for share in _BEGINNINGS)
    firsts = {first for first in exact if first < n / 3} | {first for first in shares if first <= n}
    spans = {(first, min(n, int(first * width))) for first in firsts for width in _WIDTHS}
    return tuple(Band(*span) for span in sorted(spans) if span[1] <= _LARGEST_BAND) or (
        default_search(guarantee, n),
    )


@lru_cache(maxsize=64)
def _fewest_with_errors(guarantee: Guarantee, errors: int) -> int:
    """Minimum number of answers that certify with this many errors, where a test wastes least level."""
    size = fewest_needed(guarantee)
    while True:
        values = pointwise(2 * size, guarantee.max_error, 1 - guarantee.confidence)
        if values[-1] >= errors:
            return int(np.argmax(values >= errors))
        size *= 2
