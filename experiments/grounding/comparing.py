"""How well scores tell right answers from wrong ones, overall and within each kind of evidence."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from guardrail.calibration.features import fit_logistic
from guardrail.metrics.intervals import divide, draws, middle

__all__ = ["PENALTY", "Fold", "Measured", "Ranking", "folds", "measured", "out_of_fold"]

FloatArray = NDArray[np.float64]
_FOLDS, _REPEATS = 5, 10
# As ``guardrail calibrate`` fitted them when this was measured; its probe is now fitted with the scores.
PENALTY, _PROBE_PENALTY, _DIRECTIONS = 10.0, 30.0, 24


class Measured(NamedTuple):
    """A figure with its 95 % interval; NaN where too few answers are right, or wrong."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if np.isnan(self.value):
            return "–"
        if np.isnan(self.low):
            return f"{100 * self.value:.1f}"
        return f"{100 * self.value:.1f} ({100 * self.low:.1f} to {100 * self.high:.1f})"


class Ranking:
    """AUROC over some pairs of a right and a wrong answer, with draws of whole documents.

    Args:
        correct: Labels, (n,).
        groups: Document of each answer, (n,).
    """

    def __init__(self, correct: NDArray[np.bool_], groups: NDArray[np.str_]) -> None:
        count = len(correct)
        drawn = [rows for several in draws(count, groups) for rows in several]
        # How often each answer was drawn; the first row is the answers as they are.
        times = np.array([np.ones(count), *(np.bincount(rows, minlength=count) for rows in drawn)])
        self._right, self._wrong = np.flatnonzero(correct), np.flatnonzero(~correct)
        self._times_right, self._times_wrong = times[:, self._right], times[:, self._wrong]

    def same(self, strata: NDArray[np.generic]) -> NDArray[np.bool_]:
        """The pairs of one stratum, (right, wrong)."""
        return np.equal.outer(strata[self._right], strata[self._wrong])

    def within(self, here: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The pairs of answers that are both ``here``, (right, wrong)."""
        return np.logical_and.outer(here[self._right], here[self._wrong])

    def auroc(self, confidence: FloatArray, pairs: NDArray[np.bool_] | None = None) -> FloatArray:
        """Share of the pairs that are ranked rightly, ties half: of the answers as they are, then of draws.

        Returns:
            (1 + draws,); NaN where there is no such pair.
        """
        right, wrong = confidence[self._right], confidence[self._wrong]
        above = np.greater.outer(right, wrong) + 0.5 * np.equal.outer(right, wrong)
        counted = np.ones(above.shape) if pairs is None else pairs.astype(np.float64)
        found = ((self._times_right @ (above * counted)) * self._times_wrong).sum(1)
        return divide(found, ((self._times_right @ counted) * self._times_wrong).sum(1))


def measured(values: FloatArray) -> Measured:
    """A figure with its interval, of its value on the answers as they are and on draws of them."""
    found = middle(values[1:])
    return Measured(float(values[0]), *(found or (float("nan"), float("nan"))))


class Fold(NamedTuple):
    """One division: the answers fitted on, the others, and the probe's logit of all of them."""

    train: NDArray[np.int64]
    test: NDArray[np.int64]
    probe: FloatArray | None


def folds(
    hidden: NDArray[np.float32] | None, correct: NDArray[np.bool_], groups: NDArray[np.str_]
) -> list[Fold]:
    """Ten divisions into five folds by document.

    Args:
        hidden: Hidden states for a probe, (n, 2d); None for no probe.
        correct: Labels, (n,).
        groups: Document of each answer, (n,).
    """
    found = []
    for seed in range(_REPEATS):
        splits = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=seed).split(correct, correct, groups)
        for train, test in splits:
            probe = None if hidden is None else _probe(hidden, correct, groups, train, test)
            found.append(Fold(train, test, probe))
    return found


def out_of_fold(signals: FloatArray, correct: NDArray[np.bool_], divisions: Sequence[Fold]) -> FloatArray:
    """Mean logit of each answer by logistic regressions that saw no answer about its document, (n,)."""
    total = np.zeros(len(correct))
    for train, test, probe in divisions:
        columns = signals if probe is None else np.column_stack([signals, probe])
        fitted = fit_logistic(columns[train], correct[train], penalty=PENALTY)
        total[test] += fitted.intercept + columns[test] @ fitted.weights
    return total / _REPEATS


def _probe(
    hidden: NDArray[np.float32],
    correct: NDArray[np.bool_],
    groups: NDArray[np.str_],
    train: NDArray[np.int64],
    test: NDArray[np.int64],
) -> FloatArray:
    """Logits of a probe: of training answers by one fitted without their document, of the others by all."""
    values = np.zeros(len(correct))
    inner = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=0)
    for seen, unseen in inner.split(train, correct[train], groups[train]):
        values[train[unseen]] = _logits(hidden, correct, train[seen], train[unseen])
    values[test] = _logits(hidden, correct, train, test)
    return values


def _logits(
    hidden: NDArray[np.float32],
    correct: NDArray[np.bool_],
    train: NDArray[np.int64],
    test: NDArray[np.int64],
) -> FloatArray:
    """Logits of a logistic regression on the directions of most variance."""
    directions = PCA(min(_DIRECTIONS, len(train), hidden.shape[1]), svd_solver="randomized", random_state=0)
    logistic = LogisticRegression(C=1 / _PROBE_PENALTY, max_iter=1000)
    probe = make_pipeline(StandardScaler(), directions, StandardScaler(), logistic)
    logits: FloatArray = probe.fit(hidden[train], correct[train]).decision_function(hidden[test])
    return logits
