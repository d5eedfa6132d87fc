"""The best is chosen, and the simpler where the difference may be chance."""

import numpy as np
import pytest

from guardrail.calibration.cross_fitting import CALIBRATORS, FOLDS, CrossFit, select
from guardrail.calibration.features import INPUTS, read_inputs
from guardrail.calibration.splits import draw
from tests.support.fitting import some_answers


def _selected(calibrator="auto", **changes):
    answers = some_answers(**changes)
    inputs = read_inputs([answer.observation for answer in answers])
    correct = np.array([answer.correct for answer in answers])
    groups = np.arange(len(answers))
    fold = draw(groups, correct, [1] * FOLDS, np.random.default_rng(0))
    fits = {kind: CrossFit(kind, inputs, correct, fold) for kind in INPUTS}
    return select(fits, calibrator, correct, groups)


@pytest.mark.parametrize(
    ("changes", "inputs"),
    [
        ({"count": 400, "hidden": 1.5}, "probe"),
        ({"count": 600, "known": 3.0, "size": 4}, "signals"),
        ({"count": 200, "known": 0.0, "size": 4}, "hybridgrad"),
    ],
    ids=["the hidden state tells more", "the scores tell more together", "nothing tells anything"],
)
def test_the_inputs_that_tell_most_are_chosen(changes, inputs):
    assert _selected(**changes).inputs == inputs


def test_every_candidate_is_there_with_its_figures():
    selection = _selected(count=200, hidden=1.5)
    tried = [(one["inputs"], one["calibrator"]) for one in selection.figures]
    assert tried == [
        *((kind, "platt") for kind in INPUTS),
        *((selection.inputs, one) for one in CALIBRATORS[1:]),
    ]
    (chosen,) = (one for one in selection.figures if one["chosen"])
    assert (chosen["inputs"], chosen["calibrator"]) == (selection.inputs, selection.calibrator)
    assert (chosen["log_loss_above_chosen"], chosen["standard_error"], chosen["n"]) == (0, 0, 200)
    # What is clearly better than the chosen would have been chosen.
    assert all(one["log_loss_above_chosen"] >= -one["standard_error"] for one in selection.figures)


@pytest.mark.parametrize("calibrator", CALIBRATORS)
def test_a_calibrator_that_was_asked_for_is_the_only_one(calibrator):
    selection = _selected(calibrator, count=100, size=4)
    assert {one["calibrator"] for one in selection.figures} == {calibrator} == {selection.calibrator}
