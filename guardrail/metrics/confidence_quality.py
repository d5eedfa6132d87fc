"""How good a confidence is: right answers ranked above wrong ones, and probabilities that hold.

Ranking: AUROC, AUPRC, risk-coverage, AURC, PRR. Reliability: Brier score, calibration error, diagram.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from guardrail.metrics import Figure
from guardrail.metrics.intervals import (
    LEVEL,
    RESAMPLES,
    FloatArray,
    divide,
    ends,
    in_order,
    mean_ranks,
    share,
)

__all__ = [
    "Bin",
    "RiskCoverage",
    "auprc",
    "aurc",
    "auroc",
    "bin_count",
    "brier",
    "brier_base_rate",
    "brier_skill",
    "ece",
    "ece_if_calibrated",
    "prr",
    "reliability",
    "risk_coverage",
]


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


def brier(confidence: ArrayLike, correct: ArrayLike) -> FloatArray:
    """Mean squared distance between probability and outcome (Brier, 1950); lower is better.

    Args:
        confidence: Probability of being correct, 0 to 1, (…, n).
        correct: Whether each answer is right, (…, n).

    Returns:
        Between 0 and 1, (…).
    """
    distance = np.asarray(confidence, dtype=np.float64) - np.asarray(correct, dtype=np.float64)
    return np.asarray((distance**2).mean(-1))


def brier_base_rate(confidence: ArrayLike, correct: ArrayLike) -> FloatArray:
    """Brier score of always predicting the share of right answers: the baseline.

    It uses the share among these same answers, which favours it over a prediction made beforehand.

    Args:
        confidence: Ignored; all metrics have the same signature.
        correct: Whether each answer is right, (…, n).
    """
    accuracy = np.asarray(correct, dtype=np.float64).mean(-1)
    return np.asarray(accuracy * (1 - accuracy))


def brier_skill(confidence: ArrayLike, correct: ArrayLike) -> FloatArray:
    """Share of the base rate's Brier score that the probabilities remove; higher is better.

    Args:
        confidence: Probability of being correct, 0 to 1, (…, n).
        correct: Whether each answer is right, (…, n).

    Returns:
        At most 1; 0 or below is no better than the base rate, (…). NaN if all answers are right, or all
        wrong.
    """
    base = brier_base_rate(confidence, correct)
    return divide(base - brier(confidence, correct), base)


_FEWEST, _MOST, _ANSWERS_A_BIN = 5, 15, 100


class Bin(NamedTuple):
    """Answers with similar confidence.

    Attributes:
        confidence: Mean of their probabilities.
        right: Share of right answers among them, with its interval and their number.
    """

    confidence: float
    right: Figure


def bin_count(answers: int) -> int:
    """Number of bins for this many answers: 100 answers per bin, within 5 to 15 bins."""
    return min(max(answers // _ANSWERS_A_BIN, _FEWEST), _MOST)


def ece(confidence: ArrayLike, correct: ArrayLike, bins: int | None = None) -> FloatArray:
    """Expected calibration error: mean distance between confidence and share of right answers, by bin.

    Bins have equally many answers; equal confidences stay together, in the bin of their mean rank (Naeini et
    al., 2015, with the equal-mass bins of Nixon et al., 2019). Lower is better, but even perfect
    probabilities have an ECE above 0 on finitely many answers: compare :func:`ece_if_calibrated`.

    Args:
        confidence: Probability of being correct, 0 to 1, (…, n).
        correct: Whether each answer is right, (…, n).
        bins: Number of bins; by default :func:`bin_count`.

    Returns:
        Between 0 and 1, (…).
    """
    confidence = np.asarray(confidence, dtype=np.float64)
    gaps = confidence - np.asarray(correct, dtype=np.float64)
    return np.asarray(np.abs(_sums(gaps, _bins_of(confidence, bins))).sum(-1) / gaps.shape[-1])


def ece_if_calibrated(
    confidence: ArrayLike, *, bins: int | None = None, seed: int = 0, draws: int = RESAMPLES
) -> Figure:
    """The ECE expected by chance if every confidence were exactly right.

    Labels are drawn with the confidences as probabilities (Bröcker & Smith, 2007). The value is the mean over
    draws, the interval their middle 95 %: an ECE within it is no sign of miscalibration.

    Args:
        confidence: Probability of being correct, 0 to 1, (n,).
        bins: Number of bins; by default :func:`bin_count`.
        seed: Seed of the draws.
        draws: Number of draws.
    """
    confidence = np.asarray(confidence, dtype=np.float64)
    generator = np.random.default_rng(seed)
    places = _bins_of(confidence, bins)
    drawn = np.empty(draws)
    for draw in range(draws):
        gaps = confidence - (generator.random(len(confidence)) < confidence)
        drawn[draw] = np.abs(np.bincount(places, gaps)).sum() / len(confidence)
    low, high = ends(drawn, LEVEL)
    return Figure(value=float(drawn.mean()), low=low, high=high, n=len(confidence))


def reliability(confidence: ArrayLike, correct: ArrayLike, bins: int | None = None) -> tuple[Bin, ...]:
    """The non-empty bins of :func:`ece`, from least to most confident."""
    confidence, right = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=bool)
    places = _bins_of(confidence, bins)
    return tuple(
        Bin(float(confidence[places == place].mean()), share(right[places == place]))
        for place in np.unique(places)
    )


def _bins_of(confidence: FloatArray, bins: int | None) -> NDArray[np.int64]:
    answers = confidence.shape[-1]
    # Mean ranks are multiples of 1/2; doubled, they are exact integers.
    ranks: NDArray[np.int64] = (2 * mean_ranks(confidence)).astype(np.int64)
    return np.asarray((ranks - 1) * (bins or bin_count(answers)) // (2 * answers))


def _sums(values: FloatArray, places: NDArray[np.int64]) -> FloatArray:
    """Sums of values by bin, along the last axis."""
    bins = int(places.max()) + 1
    rows = values.reshape(-1, values.shape[-1])
    apart = places.reshape(rows.shape) + bins * np.arange(len(rows))[:, None]
    sums = np.bincount(apart.ravel(), rows.ravel(), minlength=bins * len(rows))
    return np.asarray(sums.reshape(*values.shape[:-1], bins), dtype=np.float64)
