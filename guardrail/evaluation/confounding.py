"""What a score tells beyond the answer's length: right and wrong answers of like length, side by side."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from guardrail.calibration.figure import Figure
from guardrail.calibration.metrics.arrays import FloatArray, checked, divide
from guardrail.calibration.metrics.intervals import RESAMPLES, draws, middle

__all__ = ["MATCHED", "Matched", "matched_auroc"]

# Lengths that differ by at most this factor are alike.
MATCHED = 1.25


class Matched(NamedTuple):
    """AUROC among pairs of like length.

    Attributes:
        auroc: The figure; its n is the number of answers that are in a pair.
        pairs: How many pairs of a right and a wrong answer there are.
    """

    auroc: Figure
    pairs: int


def matched_auroc(
    confidence: ArrayLike,
    correct: ArrayLike,
    lengths: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Matched:
    """Share of pairs of a right and a wrong answer of like length in which the right one is surer.

    It is the AUROC adjusted for a covariate by matching (Janes & Pepe, 2009, whose strata are here the
    neighbourhoods of each length): a score that tells length alone has 0.5. Ties count half.

    Args:
        confidence: Any score that goes up when the model is surer, (n,).
        correct: Whether each answer is right, (n,).
        lengths: Tokens of each answer, at least 1, (n,).
        groups: What each answer belongs to; whole groups are resampled.
        seed: Of the bootstrap.
        resamples: How many.

    Raises:
        CalibrationError: There are no answers, or something of them is not a number.
    """
    values, right = checked(confidence, correct)
    logarithms = np.log(np.asarray(lengths, dtype=np.float64))
    above, below = values[right][:, None], values[~right][None]
    apart = np.abs(logarithms[right][:, None] - logarithms[~right][None])
    # A hair more, so that 4 and 5 tokens are alike whatever the rounding.
    alike = (apart <= np.log(MATCHED) + 1e-9).astype(np.float64)
    surer = alike * ((above > below) + 0.5 * (above == below))
    pairs = int(alike.sum())
    paired = int(alike.any(1).sum() + alike.any(0).sum())
    if not pairs:
        return Matched(
            Figure(
                value=None,
                low=None,
                high=None,
                n=0,
                reason="no right and wrong answer are of like length",
            ),
            0,
        )
    counts = _counts(len(right), groups, seed, resamples)
    of_right, of_wrong = counts[:, right], counts[:, ~right]
    found = divide(((of_right @ surer) * of_wrong).sum(1), ((of_right @ alike) * of_wrong).sum(1))
    ends = middle(found)
    low, high = ends or (None, None)
    reason = "" if ends else "too few pairs of like length for an interval"
    value = float(surer.sum() / pairs)
    return Matched(Figure(value=value, low=low, high=high, n=paired, reason=reason), pairs)


def _counts(answers: int, groups: ArrayLike | None, seed: int, resamples: int) -> FloatArray:
    """How often each answer is in each resample, (resamples, answers)."""
    rows = []
    for drawn in draws(answers, groups, seed=seed, resamples=resamples):
        places = drawn + answers * np.arange(len(drawn))[:, None]
        rows.append(np.bincount(places.ravel(), minlength=answers * len(drawn)).reshape(len(drawn), answers))
    return np.concatenate(rows).astype(np.float64)
