"""What the metrics share: their arrays, answers in order with ties, and a division that may be undefined."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from guardrail.errors import CalibrationError

__all__ = ["FloatArray", "Ordered", "checked", "divide", "in_order", "mean_ranks"]

FloatArray = NDArray[np.float64]


class Ordered(NamedTuple):
    """Answers from the highest score to the lowest.

    Attributes:
        order: Which answer stands at each place, (…, n).
        first: Place of the first answer that is tied with the one at each place.
        last: Place of the last of them.
    """

    order: NDArray[np.intp]
    first: NDArray[np.intp]
    last: NDArray[np.intp]

    def counted_to(self, flags: ArrayLike) -> FloatArray:
        """How many flags are set up to and with each place, as a mean over the orders of tied answers.

        Args:
            flags: One for each answer, in the answers' own order, (…, n).
        """
        set_to = self.counted_to_last(flags)
        before = np.where(self.first > 0, np.take_along_axis(set_to, np.maximum(self.first - 1, 0), -1), 0)
        places = np.arange(self.order.shape[-1])
        share = (places - self.first + 1) / (self.last - self.first + 1)
        return np.asarray(before + share * (set_to - before))

    def counted_to_last(self, flags: ArrayLike) -> FloatArray:
        """How many flags are set up to the end of the ties at each place."""
        in_place = np.take_along_axis(np.asarray(flags, dtype=np.float64), self.order, -1)
        return np.take_along_axis(np.cumsum(in_place, -1), self.last, -1)


def in_order(scores: ArrayLike) -> Ordered:
    """Order answers from the highest score to the lowest, along the last axis."""
    scores = np.asarray(scores, dtype=np.float64)
    order = np.argsort(-scores, axis=-1)
    ranked = np.take_along_axis(scores, order, -1)
    places = np.broadcast_to(np.arange(scores.shape[-1]), scores.shape)
    changes = ranked[..., 1:] != ranked[..., :-1]
    edge = np.ones((*scores.shape[:-1], 1), dtype=bool)
    starts = np.concatenate([edge, changes], axis=-1)
    ends = np.concatenate([changes, edge], axis=-1)
    first = np.maximum.accumulate(np.where(starts, places, 0), axis=-1)
    furthest = np.where(ends, places, scores.shape[-1])
    last = np.minimum.accumulate(furthest[..., ::-1], axis=-1)[..., ::-1]
    return Ordered(order, first, last)


def mean_ranks(scores: ArrayLike) -> FloatArray:
    """Ranks along the last axis, 1 for the lowest score, tied ones at their mean; all NaN if a score is."""
    scores = np.asarray(scores, dtype=np.float64)
    order, first, last = in_order(scores)
    ranks = np.empty(scores.shape)
    np.put_along_axis(ranks, order, scores.shape[-1] - (first + last) / 2, -1)
    return np.where(np.isnan(scores).any(-1, keepdims=True), np.nan, ranks)


def divide(above: ArrayLike, below: ArrayLike) -> FloatArray:
    """Quotient; NaN where it would be of zero, without a warning."""
    above, below = np.asarray(above, dtype=np.float64), np.asarray(below, dtype=np.float64)
    quotient = np.full(np.broadcast(above, below).shape, np.nan)
    np.divide(above, below, out=quotient, where=below != 0)
    return quotient


def checked(confidence: ArrayLike, correct: ArrayLike) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Both as arrays of one answer an entry.

    Raises:
        CalibrationError: There are no answers, not as many labels, a label that is neither true nor false, or
            a confidence that is not a number.
    """
    confidence, labels = np.asarray(confidence, dtype=np.float64), np.asarray(correct)
    if confidence.ndim != 1 or confidence.shape != labels.shape:
        raise CalibrationError(
            f"There are {confidence.shape} confidences and {labels.shape} labels; one of each is needed for "
            "every answer."
        )
    if not len(labels):
        raise CalibrationError("There are no judged answers to measure anything on.")
    if not np.isin(labels, (0, 1)).all():
        raise CalibrationError("Labels are true or false (1 or 0); there are others.")
    if np.isnan(confidence).any():
        at = int(np.flatnonzero(np.isnan(confidence))[0])
        raise CalibrationError(
            f"The confidence of answer {at} is not a number; score it again or leave it out."
        )
    return confidence, labels.astype(bool)
