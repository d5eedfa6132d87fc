"""What is learned is what scikit-learn and MAPIE learn, and never certain."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mapie.calibration import VennAbersCalibrator
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.isotonic import IsotonicRegression, isotonic_regression

from guardrail.calibration import fit_calibrators as calibrators
from guardrail.calibration.calibrators import Isotonic, Platt, VennAbers
from guardrail.calibration.fit_calibrators import (
    fit_calibrator,
    fit_isotonic,
    fit_platt,
    fit_venn_abers,
)
from guardrail.errors import CalibrationError

KINDS = ("platt", "isotonic", "venn_abers")
judged = st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=1, max_size=25).map(
    lambda pairs: (np.array([pair[0] / 4 for pair in pairs]), np.array([pair[1] for pair in pairs]))
)


def _drawn(count, seed=0, slope=2.0, intercept=-0.5):
    random = np.random.default_rng(seed)
    scores = random.normal(3, 0.5, size=count)
    return scores, random.random(count) < _logistic(slope * (scores - 3) + intercept)


def _logistic(value):
    return 1 / (1 + np.exp(-value))


@pytest.mark.parametrize("kind", KINDS)
def test_every_calibrator_finds_the_probability_that_made_the_answers(kind):
    calibrator = fit_calibrator(kind, *_drawn(5000))
    for score in (2.0, 2.5, 3.0, 3.5, 4.0):
        assert calibrator.probability(score) == pytest.approx(_logistic(2 * (score - 3) - 0.5), abs=0.08)


@settings(deadline=None)
@given(st.sampled_from(KINDS), judged)
def test_no_calibrator_is_certain_of_what_it_saw_nor_fails(kind, data):
    calibrator = fit_calibrator(kind, *data)
    values = [calibrator.probability(score) for score in np.linspace(-1, 1, 17)]
    assert all(0 < value < 1 for value in values)
    assert values == sorted(values)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_the_scale_of_the_scores_does_not_matter(kind, scale):
    scores, correct = _drawn(300)
    calibrator, scaled = fit_calibrator(kind, scores, correct), fit_calibrator(kind, scores * scale, correct)
    for score in scores[:50]:
        assert scaled.probability(score * scale) == pytest.approx(calibrator.probability(score), abs=1e-4)


def test_where_the_order_is_upside_down_platt_gives_everyone_the_average():
    scores, correct = _drawn(500)
    level = fit_platt(-scores, correct)
    assert level.slope == 0
    assert level.probability(0.0) == pytest.approx(correct.mean(), abs=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_scores_that_are_all_the_same_give_everyone_the_average(kind):
    calibrator = fit_calibrator(kind, np.full(100, 7.0), np.arange(100) < 30)
    assert calibrator.probability(7.0) == pytest.approx(0.3, abs=0.02)


def test_platt_stays_finite_where_the_scores_tell_everything():
    scores = np.arange(40.0)
    curve = fit_platt(scores, scores >= 20)
    assert 0.9 < curve.probability(39.0) < 1
    assert 0 < curve.probability(0.0) < 0.1


@given(judged)
def test_isotonic_is_scikit_learns_with_one_doubt_at_either_end(data):
    scores, correct = data
    theirs = IsotonicRegression(out_of_bounds="clip").fit(
        [scores.min(), *scores, scores.max()], [1, *correct.astype(float), 0]
    )
    ours = fit_isotonic(scores, correct)
    at = np.linspace(-1.5, 1.5, 31)
    np.testing.assert_allclose([ours.probability(score) for score in at], theirs.predict(at), atol=1e-12)


@settings(deadline=None, max_examples=30)
@given(judged)
def test_venn_abers_is_the_isotonic_curve_with_the_new_answer_in_it(data):
    scores, correct = data
    ours = fit_venn_abers(scores, correct)
    for at in np.linspace(-1.125, 1.125, 19):
        both = [_isotonic_with(scores, correct, at, label) for label in (0, 1)]
        assert ours.interval(at) == pytest.approx(both, abs=1e-12)


def _isotonic_with(scores, correct, at, label):
    distinct = np.unique([*scores, at])
    place = np.searchsorted(distinct, [*scores, at])
    counts, right = np.bincount(place), np.bincount(place, [*correct, label])
    return isotonic_regression(right / counts, sample_weight=counts)[place[-1]]


class _Given(ClassifierMixin, BaseEstimator):
    """Takes the scores for probabilities."""

    classes_ = np.array([0, 1])

    def predict_proba(self, scores):
        return np.column_stack([1 - scores[:, 0], scores[:, 0]])


def test_venn_abers_is_mapies():
    random = np.random.default_rng(0)
    scores = random.random(500).round(2)
    correct = random.random(500) < scores
    theirs = VennAbersCalibrator(_Given(), cv="prefit")
    with np.errstate(invalid="ignore", divide="ignore"):
        theirs.fit(scores[:, None], correct.astype(int))
    at = np.linspace(0, 1, 201)
    probabilities, intervals = theirs.predict_proba(at[:, None], p0_p1_output=True)
    ours = fit_venn_abers(scores, correct)
    np.testing.assert_allclose([ours.interval(score) for score in at], intervals, atol=1e-9)
    np.testing.assert_allclose([ours.probability(score) for score in at], probabilities[:, 1], atol=1e-9)


def test_venn_abers_of_thousands_is_made_in_a_moment():
    begun = time.process_time()
    fit_venn_abers(*_drawn(calibrators.MOST_SCORES))
    assert time.process_time() - begun < 2


def test_venn_abers_of_more_scores_than_it_holds_is_nearly_the_same(monkeypatch):
    whole = fit_venn_abers(*_drawn(2000))
    monkeypatch.setattr(calibrators, "MOST_SCORES", 300)
    thin = fit_venn_abers(*_drawn(2000))
    assert len(thin.scores) == 300
    at = np.linspace(2, 4, 401)
    apart = [abs(thin.probability(score) - whole.probability(score)) for score in at]
    assert np.mean(apart) < 0.01


def test_each_is_of_its_kind():
    kinds = [type(fit_calibrator(kind, *_drawn(100))) for kind in KINDS]
    assert kinds == [Platt, Isotonic, VennAbers]


@pytest.mark.parametrize("scores", [[], [1.0, float("nan")], [1.0, float("inf")]])
def test_scores_that_are_no_numbers_are_refused(scores):
    with pytest.raises(CalibrationError, match="needs scores"):
        fit_calibrator("platt", np.array(scores), np.zeros(len(scores), dtype=bool))
