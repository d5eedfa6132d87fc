"""How well scores tell right answers from wrong ones, overall and within each kind of evidence."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.model_selection import StratifiedGroupKFold

from guardrail.calibration.features import fit_logistic, fit_probe
from guardrail.metrics.confidence_quality import auroc
from guardrail.metrics.intervals import draws, ends

__all__ = ["PENALTY", "Fold", "Measured", "auroc_within", "difference", "folds", "measured", "out_of_fold"]

FloatArray = NDArray[np.float64]
_FOLDS, _REPEATS = 5, 10
# As ``guardrail calibrate`` fits them.
PENALTY, _PROBE_PENALTY = 10.0, 30.0


class Measured(NamedTuple):
    """A figure with its 95 % interval over documents; NaN where too few answers are right, or wrong."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        if np.isnan(self.value):
            return "–"
        if np.isnan(self.low):
            return f"{100 * self.value:.1f}"
        return f"{100 * self.value:.1f} ({100 * self.low:.1f} to {100 * self.high:.1f})"


def auroc_within(confidence: ArrayLike, correct: ArrayLike, strata: ArrayLike) -> float:
    """Share of pairs of a right and a wrong answer *of one stratum* that are ranked rightly, ties half."""
    confidence, correct, strata = (np.asarray(one) for one in (confidence, correct, strata))
    above = pairs = 0.0
    for stratum in np.unique(strata):
        here = strata == stratum
        right = int(correct[here].sum())
        count = right * (int(here.sum()) - right)
        if count:
            above += count * float(auroc(confidence[here], correct[here]))
            pairs += count
    return above / pairs if pairs else float("nan")


def measured(of: Callable[[NDArray[np.int64]], float], groups: NDArray[np.str_]) -> Measured:
    """A figure of some answers, given by their indices, with its interval over draws of whole documents."""
    value = of(np.arange(len(groups)))
    values = np.array([of(rows) for several in draws(len(groups), groups) for rows in several])
    defined = values[~np.isnan(values)]
    if np.isnan(value) or len(defined) < 0.9 * len(values):
        return Measured(value, float("nan"), float("nan"))
    return Measured(value, *ends(defined, 0.95))


def difference(
    ours: FloatArray,
    theirs: FloatArray,
    correct: NDArray[np.bool_],
    groups: NDArray[np.str_],
    strata: NDArray[np.str_] | None = None,
) -> Measured:
    """How far the AUROC of one confidence lies above that of another on the same answers, paired."""

    def of(rows: NDArray[np.int64]) -> float:
        if strata is None:
            found = [float(auroc(one[rows], correct[rows])) for one in (ours, theirs)]
        else:
            found = [auroc_within(one[rows], correct[rows], strata[rows]) for one in (ours, theirs)]
        return found[0] - found[1]

    return measured(of, groups)


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
        probe = fit_probe(hidden[train[seen]], correct[train[seen]], penalty=_PROBE_PENALTY)
        values[train[unseen]] = hidden[train[unseen]] @ probe.weights + probe.intercept
    probe = fit_probe(hidden[train], correct[train], penalty=_PROBE_PENALTY)
    values[test] = hidden[test] @ probe.weights + probe.intercept
    return values
