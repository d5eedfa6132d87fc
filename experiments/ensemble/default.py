"""The confidence that ``guardrail calibrate`` makes, by its own code: what it would choose by itself."""

import numpy as np
from numpy.typing import NDArray

from experiments.ensemble.candidates import Candidate, Predictor
from experiments.ensemble.reading import WAYS, Features
from guardrail.calibration.cross_fitting import FOLDS, CrossFit, select
from guardrail.calibration.features import available, read_inputs
from guardrail.calibration.options import InputsChoice
from guardrail.calibration.splits import draw
from guardrail.scoring.uncertainty import HiddenState, Observation

__all__ = ["calibrated"]

_DEPTH = 2


def calibrated(inputs: InputsChoice = "auto", way: str = "") -> Candidate:
    """What ``--inputs`` of the command gives."""
    chosen = way or next(iter(WAYS))
    return Candidate(f"calibrate --inputs {inputs} ({chosen})", lambda answers: _fit(answers, inputs, chosen))


def _fit(answers: Features, asked: InputsChoice, way: str) -> Predictor:
    read = read_inputs(_observations(answers, way))
    groups = np.arange(len(answers.correct))
    fold = draw(groups, answers.correct, [1] * FOLDS, np.random.default_rng([0, 1]))
    fits = {kind: CrossFit(kind, read, answers.correct, fold) for kind in available(read, asked)}
    final = fits[select(fits, "auto", answers.correct, groups).inputs].final()

    def predict(others: Features) -> NDArray[np.float64]:
        return final.scores(read_inputs(_observations(others, way)), np.arange(len(others.correct)))

    return predict


def _observations(answers: Features, way: str) -> list[Observation]:
    scores = answers.scores[way]
    return [
        Observation(
            {name: float(values[row]) for name, values in scores.items()},
            HiddenState(2 / 3, answers.mean[row, _DEPTH].tolist(), answers.last[row, _DEPTH].tolist()),
        )
        for row in range(len(answers.correct))
    ]
