"""Sums and calibrators fitted on some folds and applied to others, so that nothing judges what taught it.

One partition into folds serves every level. What is fitted without the folds E is memoised by E: the logistic
over signals and probe sees, for each of its answers, the value of a probe that was fitted without E and that
answer's fold; the calibrator sees the score of a sum fitted without E and that fold; and what is judged on a
fold f is the sum and the calibrator fitted without f. With E empty these are the final ones.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from guardrail.calibration.calibrators import Calibrator
from guardrail.calibration.fitting.calibrators import fit_calibrator
from guardrail.calibration.fitting.inputs import Inputs, LinearSum
from guardrail.calibration.fitting.options import CalibratorChoice, InputsChoice
from guardrail.calibration.fitting.probe import Linear, fit_logistic, fit_probe
from guardrail.errors import CalibrationError

__all__ = ["FOLDS", "CrossFit"]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]
Folds = frozenset[int]

# The most that are ever left out is three.
FOLDS = 6
_NONE: Folds = frozenset()
# Of squared weights in units of standardised columns; see fit_logistic.
_SIGNALS_PENALTY = 10.0
_PROBE_PENALTY = 30.0


class Predictions(NamedTuple):
    """A score and a probability for each answer, by what was fitted without its fold."""

    scores: FloatArray
    probabilities: FloatArray


class CrossFit:
    """One kind of inputs, fitted on the folds of the fitting part.

    Args:
        kind: What the sum is made of.
        inputs: The fitting part.
        correct: Whether each answer is correct.
        fold: Fold of each answer, 0 to FOLDS − 1.
    """

    def __init__(self, kind: InputsChoice, inputs: Inputs, correct: BoolArray, fold: IntArray) -> None:
        self.kind = kind
        self._inputs = inputs
        self._correct = correct
        self._fold = fold
        self._sums: dict[Folds, LinearSum] = {}
        self._probes: dict[Folds, Linear] = {}

    def final(self) -> LinearSum:
        """The sum fitted on all folds."""
        return self._sum(_NONE)

    def calibrator(self, kind: CalibratorChoice, without: Folds = _NONE) -> Calibrator:
        """The calibrator of scores that were made out of fold."""
        rows = self._rows(without)
        return fit_calibrator(kind, self._out_of_fold(without)[rows], self._correct[rows])

    def predictions(self, kind: CalibratorChoice) -> Predictions:
        """What each answer would have been given, had its fold been new."""
        scores = self._out_of_fold(_NONE)
        probabilities = np.empty(len(scores))
        for fold in np.unique(self._fold):
            calibrator = self.calibrator(kind, frozenset({int(fold)}))
            here = self._fold == fold
            probabilities[here] = [calibrator.probability(score) for score in scores[here].tolist()]
        return Predictions(scores, probabilities)

    def _out_of_fold(self, without: Folds) -> FloatArray:
        """The score of each answer by a sum fitted without its fold; NaN in the folds left out."""
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
            # Nothing to learn: the surer, the smaller.
            return LinearSum(0.0, np.array([-float(name == "hybridgrad") for name in names]))
        rows = self._rows(without)
        signals, correct = self._inputs.signals[rows], self._correct[rows]
        if self.kind == "signals":
            fitted = fit_logistic(signals, correct, penalty=_SIGNALS_PENALTY)
            return LinearSum(fitted.intercept, fitted.weights)
        columns = np.column_stack([signals, self._probe_values(without)[rows]])
        fitted = fit_logistic(columns, correct, penalty=_SIGNALS_PENALTY)
        probe = self._probe(without)
        return LinearSum(
            fitted.intercept, fitted.weights[:-1], probe.weights, probe.intercept, float(fitted.weights[-1])
        )

    def _probe_values(self, without: Folds) -> FloatArray:
        values = np.full(len(self._fold), np.nan)
        for fold in self._others(without):
            probe, here = self._probe(without | {fold}), self._fold == fold
            values[here] = self._hidden[here] @ probe.weights + probe.intercept
        return values

    def _probe(self, without: Folds) -> Linear:
        if without not in self._probes:
            rows = self._rows(without)
            self._probes[without] = fit_probe(self._hidden[rows], self._correct[rows], penalty=_PROBE_PENALTY)
        return self._probes[without]

    @property
    def _hidden(self) -> NDArray[np.float32]:
        if self._inputs.hidden is None:
            raise CalibrationError("A probe reads hidden states, and these answers have none.")
        return self._inputs.hidden

    def _rows(self, without: Folds) -> IntArray:
        return np.flatnonzero(~np.isin(self._fold, list(without)))

    def _others(self, without: Folds) -> list[int]:
        return [fold for fold in range(FOLDS) if fold not in without]
