"""Out-of-fold confidence models and calibrators, and the choice among them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from guardrail.calibration.calibrators import Calibrator
from guardrail.calibration.features import Inputs, LinearSum, fit_sum
from guardrail.calibration.fit_calibrators import fit_calibrator
from guardrail.calibration.options import CalibratorChoice, InputsChoice
from guardrail.errors import CalibrationError
from guardrail.metrics.confidence_quality import auroc

__all__ = ["CALIBRATORS", "FOLDS", "CrossFit", "Selection", "select"]


FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]
Folds = frozenset[int]

# At most two are ever left out.
FOLDS = 6
_NONE: Folds = frozenset()


class OutOfFoldPredictions(NamedTuple):
    """A score and a probability for each answer, from models fitted without its fold."""

    scores: FloatArray
    probabilities: FloatArray


class CrossFit:
    """One kind of inputs, cross-fitted on the folds of the fitting part.

    Args:
        kind: The inputs of the sum.
        inputs: The inputs of the fitting part.
        correct: Whether each answer is correct.
        fold: Fold of each answer, 0 to FOLDS − 1.
    """

    def __init__(self, kind: InputsChoice, inputs: Inputs, correct: BoolArray, fold: IntArray) -> None:
        self.kind = kind
        self._inputs = inputs
        self._correct = correct
        self._fold = fold
        self._sums: dict[Folds, LinearSum] = {}

    def final(self) -> LinearSum:
        """The sum fitted on all folds."""
        return self._sum(_NONE)

    def calibrator(self, kind: CalibratorChoice, without: Folds = _NONE) -> Calibrator:
        """The calibrator fitted on out-of-fold scores."""
        rows = self._rows(without)
        return fit_calibrator(kind, self._out_of_fold(without)[rows], self._correct[rows])

    def predictions(self, kind: CalibratorChoice) -> OutOfFoldPredictions:
        """The prediction for each answer as if its fold were new data."""
        scores = self._out_of_fold(_NONE)
        probabilities = np.empty(len(scores))
        for fold in np.unique(self._fold):
            calibrator = self.calibrator(kind, frozenset({int(fold)}))
            here = self._fold == fold
            probabilities[here] = [calibrator.probability(score) for score in scores[here].tolist()]
        return OutOfFoldPredictions(scores, probabilities)

    def _out_of_fold(self, without: Folds) -> FloatArray:
        """Score of each answer from a sum fitted without its fold; NaN in the folds left out."""
        scores = np.full(len(self._fold), np.nan)
        for fold in self._others(without):
            rows = np.flatnonzero(self._fold == fold)
            scores[rows] = self._sum(without | {fold}).scores(self._inputs, rows)
        return scores

    def _sum(self, without: Folds) -> LinearSum:
        if without not in self._sums:
            self._sums[without] = self._fit(without)
        return self._sums[without]

    def _fit(self, without: Folds) -> LinearSum:
        names = [term.score for term in self._inputs.terms]
        if self.kind == "hybridgrad":
            # Nothing to learn: lower HybridGrad is surer.
            return LinearSum(0.0, np.array([-float(name == "hybridgrad") for name in names]))
        rows = self._rows(without)
        hidden = None
        if self.kind == "probe":
            if self._inputs.hidden is None:
                raise CalibrationError("A probe needs hidden states, but these answers have none.")
            hidden = self._inputs.hidden[rows]
        return fit_sum(self._inputs.signals[rows], hidden, self._correct[rows], self._inputs.kinds[rows])

    def _rows(self, without: Folds) -> IntArray:
        return np.flatnonzero(~np.isin(self._fold, list(without)))

    def _others(self, without: Folds) -> list[int]:
        return [fold for fold in range(FOLDS) if fold not in without]


# From simple to rich.
CALIBRATORS: tuple[CalibratorChoice, ...] = ("platt", "isotonic", "venn_abers")


class Selection(NamedTuple):
    """The choice, and the figures of all candidates.

    Attributes:
        inputs: The inputs of the sum.
        calibrator: The calibrator.
        figures: For each candidate its out-of-fold ``log_loss`` (nats) and ``auroc`` on the fitting part, how
            much its loss exceeds that of the choice, and the standard error of that difference.
    """

    inputs: InputsChoice
    calibrator: CalibratorChoice
    figures: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class _Candidate:
    inputs: InputsChoice
    calibrator: CalibratorChoice
    losses: FloatArray
    auroc: float

    @property
    def loss(self) -> float:
        return float(self.losses.mean())


def select(
    fits: Mapping[InputsChoice, CrossFit], calibrator: CalibratorChoice, correct: BoolArray, groups: IntArray
) -> Selection:
    """Choose the inputs, then the calibrator: each time the simplest within one standard error of the best.

    Inputs are compared under one calibrator, so that only the inputs make the difference.

    Args:
        fits: The kinds of inputs, from simple to rich.
        calibrator: The requested calibrator, or ``auto``.
        correct: Whether each answer is correct.
        groups: Question of each answer; answers to one question are not independent.
    """
    kinds = CALIBRATORS if calibrator == "auto" else (calibrator,)
    of_inputs = [_judged(fit, kinds[0], correct) for fit in fits.values()]
    inputs = _first_of_the_good(of_inputs, groups).inputs
    of_calibrators = [_judged(fits[inputs], kind, correct) for kind in kinds[1:]]
    of_calibrators = [*(one for one in of_inputs if one.inputs == inputs), *of_calibrators]
    chosen = _first_of_the_good(of_calibrators, groups)
    tried = [*of_inputs, *of_calibrators[1:]]
    figures = tuple(_figures(one, chosen, groups) for one in tried)
    return Selection(chosen.inputs, chosen.calibrator, figures)


def _judged(fit: CrossFit, calibrator: CalibratorChoice, correct: BoolArray) -> _Candidate:
    """Measure a candidate out of fold on every answer of the fitting part."""
    probabilities = fit.predictions(calibrator).probabilities
    # A curve avoids 0 and 1 where it was fitted, but may round to them far beyond.
    losses = -np.log(np.where(correct, probabilities, 1 - probabilities).clip(1e-6))
    return _Candidate(fit.kind, calibrator, losses, float(auroc(probabilities, correct)))


def _first_of_the_good(candidates: Sequence[_Candidate], groups: IntArray) -> _Candidate:
    best = min(candidates, key=lambda one: one.loss)
    return next(one for one in candidates if one.loss - best.loss <= _error(one, best, groups))


def _figures(one: _Candidate, chosen: _Candidate, groups: IntArray) -> dict[str, Any]:
    return {
        "inputs": one.inputs,
        "calibrator": one.calibrator,
        "chosen": one is chosen,
        "log_loss": one.loss,
        "log_loss_above_chosen": one.loss - chosen.loss,
        "standard_error": _error(one, chosen, groups),
        "auroc": one.auroc,
        "n": len(one.losses),
    }


def _error(one: _Candidate, other: _Candidate, groups: IntArray) -> float:
    """Standard error of the difference of two mean losses on the same answers."""
    differences = one.losses - other.losses
    _, place = np.unique(groups, return_inverse=True)
    of_question = np.bincount(place, differences - differences.mean())
    return float(np.sqrt(np.square(of_question).sum()) / len(differences))
