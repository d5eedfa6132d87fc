"""No answer is judged by what it taught, and the last fit is as well calibrated as those before it."""

import numpy as np
import pytest

from guardrail.calibration.cross_fitting import CALIBRATORS, FOLDS, CrossFit
from guardrail.calibration.features import INPUTS, read_inputs
from guardrail.calibration.splits import draw
from guardrail.metrics.confidence_quality import auroc, ece
from tests.support.fitting import some_answers


def _fit_part(answers):
    inputs = read_inputs([answer.observation for answer in answers])
    correct = np.array([answer.correct for answer in answers])
    return inputs, correct, draw(np.arange(len(answers)), correct, [1] * FOLDS, np.random.default_rng(0))


@pytest.mark.parametrize("inputs_kind", INPUTS)
def test_what_is_said_of_a_fold_does_not_change_with_its_labels(inputs_kind):
    inputs, correct, fold = _fit_part(some_answers(120, hidden=1.0, size=6))
    here = fold == 2
    before = CrossFit(inputs_kind, inputs, correct, fold)
    after = CrossFit(inputs_kind, inputs, np.where(here, ~correct, correct), fold)
    for calibrator in CALIBRATORS:
        (scores, probabilities), changed = before.predictions(calibrator), after.predictions(calibrator)
        np.testing.assert_array_equal(changed.scores[here], scores[here])
        np.testing.assert_array_equal(changed.probabilities[here], probabilities[here])
        # The others learned of these labels.
        assert (changed.probabilities[~here] != probabilities[~here]).any()


def test_a_probe_on_noise_tells_nothing():
    answers = some_answers(300, known=0.0, hidden=0.0, size=40)
    found = CrossFit("probe", *_fit_part(answers)).predictions("platt")
    correct = np.array([answer.correct for answer in answers])
    assert auroc(found.probabilities, correct) == pytest.approx(0.5, abs=0.1)
    base = correct.mean()
    assert found.probabilities.mean() == pytest.approx(base, abs=0.03)


def test_a_question_asked_again_does_not_answer_itself():
    once = some_answers(60, known=0.0, hidden=0.0, size=40)
    answers = once * 5
    inputs = read_inputs([answer.observation for answer in answers])
    correct = np.array([answer.correct for answer in answers])
    groups = np.tile(np.arange(60), 5)
    random = np.random.default_rng(0)
    apart = draw(groups, correct, [1] * FOLDS, random)
    mixed = draw(np.arange(300), correct, [1] * FOLDS, random)
    by_groups, by_chance = (
        auroc(CrossFit("probe", inputs, correct, fold).predictions("platt").probabilities, correct)
        for fold in (apart, mixed)
    )
    assert by_chance > 0.75
    assert by_groups < 0.6


@pytest.mark.parametrize("inputs_kind", INPUTS)
def test_the_last_fit_is_calibrated_on_answers_it_never_saw(inputs_kind):
    inputs, correct, fold = _fit_part(some_answers(1500, hidden=1.0, seed=1))
    fit = CrossFit(inputs_kind, inputs, correct, fold)
    new, right, _ = _fit_part(some_answers(3000, hidden=1.0, seed=2))
    scores = fit.final().scores(new, np.arange(3000)).tolist()
    for calibrator in CALIBRATORS:
        judge = fit.calibrator(calibrator)
        assert ece([judge.probability(score) for score in scores], right) < 0.05


def test_scores_of_the_last_fit_are_on_the_scale_that_the_calibrator_learned():
    ratios = []
    for seed in range(2):
        fit = CrossFit("probe", *_fit_part(some_answers(300, hidden=1.0, size=24, seed=seed)))
        new, _, _ = _fit_part(some_answers(1000, hidden=1.0, size=24, seed=seed + 100))
        out_of_fold = fit.predictions("platt").scores
        ratios.append(fit.final().scores(new, np.arange(1000)).std() / out_of_fold.std())
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.1)
