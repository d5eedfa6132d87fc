"""Choosing inputs and calibrator by what they would have said of answers they had not seen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from guardrail.calibration.fitting.cross_fitting import CrossFit
from guardrail.calibration.fitting.options import CalibratorChoice, InputsChoice
from guardrail.calibration.metrics import auroc

__all__ = ["CALIBRATORS", "Selection", "select"]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]

# From simple to rich.
CALIBRATORS: tuple[CalibratorChoice, ...] = ("platt", "isotonic", "venn_abers")


class Selection(NamedTuple):
    """What was chosen, and the figures of all that were tried.

    Attributes:
        inputs: What the sum is made of.
        calibrator: What makes a probability of it.
        figures: For each candidate its ``log_loss`` (nats) and ``auroc`` on the fitting part, every answer
            judged by what was fitted without it; how far its loss is above that of the chosen, and the
            standard error of that.
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
    """Choose the inputs, then the calibrator: of each the first within one standard error of the best.

    Inputs are compared under one calibrator, so that only what they know makes the difference.

    Args:
        fits: The kinds of inputs, from simple to rich.
        calibrator: The one asked for, or ``auto``.
        correct: Whether each answer is correct.
        groups: Question of each answer: answers to one question are not independent.
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
    """Measure a candidate on every answer of the fitting part, each by what was fitted without its fold."""
    probabilities = fit.predictions(calibrator).probabilities
    # A curve keeps away from 0 and 1 where it was fitted, and may round to them far beyond.
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
