"""Exact binomial bounds on the number of wrong answers among the k highest scores.

A boundary is an array c of length n + 1. A threshold λ that accepts N(λ) answers, E(λ) of them wrong, is
certified if E(λ) ≤ c[N(λ)]; −1 means never.

**One threshold.** Given N(λ), E(λ) is Binomial(N(λ), P(wrong | score ≥ λ)), so ``pointwise`` is an exact test
of one threshold fixed beforehand (Angelopoulos et al. 2021, Learn then Test, with a binomial p-value
as in Geifman & El-Yaniv 2017).

**All thresholds at once.** Let T be the thresholds for which a share of at least α of the accepted answers is
wrong, and let c rise by 0 or 1 at every step. Then, for independent pairs (score, correct) and any scores,

    P(E(λ) ≤ c[N(λ)] for some λ in T)  ≤  P(B_k ≤ c[k] for some k),  B_k = sum of k Bernoulli(α),

where ``crossing`` computes the right-hand side. Proof, for finitely many thresholds λ₁ > … > λ_m in T;
the rest follows by monotone convergence, since E and N are step functions. Cut the scores into cells
[λ_j, λ_{j−1}). Above λ_j, the mass of wrong answers exceeds α times the mass of all answers by some D_j ≥ 0.
For every j < m, move wrong mass D_j from cell j down to cell j + 1, and right mass D_j from there up to j; in
cell m, turn wrong mass D_m into right. Every cell then holds as much as before, a share α of it wrong. (Done
downwards, cell j has wrong mass D_j + α · mass when it gives D_j away; likewise upwards for the right.) Let
each sampled answer move along, by chance where only part of its cell moves: that gives an independent sample
of the new distribution, with E′(λ_j) ≤ E(λ_j) and no fewer right answers above λ_j. As c never falls, and
never rises by more than one, E ≤ c[N] implies E′ ≤ c[N′]. In the new distribution wrong is independent of the
cell, so in order of score the errors are Bernoulli(α), and E′(λ_j) = B_k at k = N′(λ_j). ∎

No union bound is taken, so thresholds that mostly agree cost little. The family-wise error over *every* real
threshold is at most δ, also for scores that are useless, not monotone or tied.
"""

from functools import lru_cache
from math import ceil, log

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from guardrail.calibration.profile import Guarantee

__all__ = ["Counts", "band", "crossing", "fewest_needed", "highest_passed", "pointwise"]


Counts = NDArray[np.int64]

# Bisection steps for the level of a band; the unused remainder is lost, never overspent.
_HALVINGS = 14
# Margin below δ for rounding in sums of thousands of probabilities.
_ROUNDING = 1e-9


@lru_cache(maxsize=256)
def fewest_needed(guarantee: Guarantee) -> int:
    """Minimum number of accepted answers, all right, that certify a guarantee: (1 − α)ⁿ ≤ δ."""
    alpha, delta = guarantee.max_error, 1 - guarantee.confidence
    guess = max(1, ceil(log(delta) / log(1 - alpha)) - 1)
    return next(n for n in range(guess, guess + 4) if binom.cdf(0, n, alpha) <= delta)


@lru_cache(maxsize=256)
def pointwise(n: int, alpha: float, level: float) -> Counts:
    """Largest number of errors among k answers at which an exact test rejects P(wrong) ≥ α at this level.

    Returns:
        Boundary of shape (n + 1,).
    """
    return _frozen(_critical(np.arange(n + 1), alpha, level))


@lru_cache(maxsize=1024)
def band(n: int, first: int, last: int, guarantee: Guarantee) -> Counts:
    """Boundary over all thresholds at once, strongest where ``first`` to ``last`` answers are accepted.

    The critical values in between are those of one level, the largest at which :func:`crossing` is at most δ.
    Outside that range, c continues as far as this is free: E_{k−i} ≤ c[k] − i implies E_k ≤ c[k], and so does
    E_{k+i} ≤ c[k].

    Returns:
        Boundary of shape (n + 1,).
    """
    last = min(last, n)
    first = min(first, last)
    alpha, delta = guarantee.max_error, 1 - guarantee.confidence
    low, high, level = 0.0, delta, delta
    best = np.full(last - first + 1, -1)
    for _ in range(_HALVINGS):
        values = _critical(np.arange(first, last + 1), alpha, level)
        if crossing(values, alpha, first) <= delta * (1 - _ROUNDING):
            best, low = values, level
        else:
            high = level
        if low == high:
            break
        level = (low + high) / 2
    counts = np.arange(n + 1)
    before = np.maximum(best[0] - (first - counts), -1)
    return _frozen(np.where(counts < first, before, best[np.clip(counts, first, last) - first]))


def crossing(values: Counts, alpha: float, first: int) -> float:
    """P(B_k ≤ c[k] for some k ≥ first), B_k a sum of k independent Bernoulli(α). Exact.

    Args:
        values: c[first], c[first + 1], …; must not fall.
        alpha: Probability of an error.
        first: Index of the first value.
    """
    # B never falls, so it can cross a level stretch only at its beginning.
    rises = np.flatnonzero(np.diff(values, prepend=-1))
    width = int(values[-1]) + 1
    # Probability of each relevant number of errors without having crossed.
    alive, at, crossed = np.eye(1, max(width, 1))[0], 0, 0.0
    for rise in rises:
        k, within = first + int(rise), int(values[rise]) + 1
        alive = np.convolve(alive, _of_steps(k - at, width, alpha))[:width]
        crossed += float(alive[:within].sum())
        alive[:within] = 0
        at = k
    return crossed


def highest_passed(errors: Counts, boundary: Counts) -> Counts:
    """Largest k with E_k ≤ c[k] for each row of errors; 0 if there is none.

    Args:
        errors: Errors among the k highest scores, shape (draws, n), k = 1…n.
        boundary: Shape (n + 1,).
    """
    size = errors.shape[1]
    passed = errors <= boundary[1:]
    return np.where(passed.any(axis=1), size - np.argmax(passed[:, ::-1], axis=1), 0)


def _critical(counts: Counts, alpha: float, level: float) -> Counts:
    least = np.nan_to_num(binom.ppf(level, counts, alpha), nan=-1)
    critical: Counts = np.where(binom.cdf(least, counts, alpha) <= level, least, least - 1).astype(np.int64)
    return critical


@lru_cache(maxsize=4096)
def _of_steps(steps: int, width: int, alpha: float) -> NDArray[np.float64]:
    chances: NDArray[np.float64] = binom.pmf(np.arange(min(steps + 1, width)), steps, alpha)
    return chances


def _frozen(values: Counts) -> Counts:
    # Cached, so all callers share it.
    frozen = values.astype(np.int64)
    frozen.setflags(write=False)
    return frozen
