"""Linear models are scikit-learn's, folded into weights on what is read."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from guardrail.calibration.features import fit_logistic, fit_sum
from guardrail.errors import CalibrationError


@pytest.fixture
def data():
    random = np.random.default_rng(0)
    x = random.normal(size=(200, 60)) @ random.normal(size=(60, 60)) + 10 * np.arange(60)
    return x.astype(np.float32), random.random(200) < 1 / (1 + np.exp(-x[:, 0] / 8))


def test_the_logistic_is_of_standardised_columns(data):
    x, correct = data[0][:, :5].astype(np.float64), data[1]
    theirs = make_pipeline(StandardScaler(), LogisticRegression(C=0.1)).fit(x, correct)
    ours = fit_logistic(x, correct, penalty=10.0)
    np.testing.assert_allclose(x @ ours.weights + ours.intercept, theirs.decision_function(x), atol=1e-4)


@pytest.fixture
def of_sum(data):
    """Scores and [mean, last] of hidden states."""
    x, correct = data
    return x[:, :3].astype(np.float64), np.hstack([x, x[::-1]]), correct


def test_scores_and_directions_of_the_mean_state_are_told_apart_together(of_sum):
    signals, hidden, correct = of_sum
    mean = hidden[:, :60].astype(np.float64)
    reduced = make_pipeline(StandardScaler(), PCA(48)).fit_transform(mean)
    columns = np.hstack([signals, reduced])
    theirs = make_pipeline(StandardScaler(), LogisticRegression(C=1 / 30)).fit(columns, correct)
    ours = fit_sum(signals, hidden, correct)
    assert ours.probe.shape == (120,)
    found = ours.intercept + signals @ ours.weights + hidden @ ours.probe
    # The directions of least variance are found at random, and nearly.
    assert np.corrcoef(found, theirs.decision_function(columns))[0, 1] > 0.99
    assert found.mean() == pytest.approx(theirs.decision_function(columns).mean(), abs=0.05)


def test_the_state_at_the_last_token_is_not_read(of_sum):
    signals, hidden, correct = of_sum
    assert not fit_sum(signals, hidden, correct).probe[60:].any()


def test_without_states_it_is_a_sum_of_scores(of_sum):
    signals, _, correct = of_sum
    ours, plain = fit_sum(signals, None, correct), fit_logistic(signals, correct)
    assert ours.probe is None
    np.testing.assert_array_equal(ours.weights, plain.weights)


def test_a_column_that_never_changes_has_no_weight(data):
    x, correct = data
    x[:, 7] = 1e4
    assert fit_sum(x[:, :2].astype(np.float64), np.hstack([x, x]), correct).probe[7] == 0
    assert fit_logistic(x[:, 5:9].astype(np.float64), correct, penalty=10.0).weights[2] == 0


def test_nothing_that_changes_is_the_average(data):
    correct = data[1]
    level = fit_logistic(np.ones((200, 3)), correct, penalty=10.0)
    assert not level.weights.any()
    assert 1 / (1 + np.exp(-level.intercept)) == pytest.approx(correct.mean(), abs=1e-4)


@pytest.mark.parametrize(("count", "width"), [(12, 60), (200, 8)])
def test_fewer_answers_or_values_than_directions_are_enough(data, count, width):
    x, correct = data[0][:count, :width], data[1][:count]
    assert np.isfinite(fit_sum(x[:, :2].astype(np.float64), np.hstack([x, x]), correct).probe).all()


def test_answers_of_one_kind_teach_nothing(data):
    with pytest.raises(CalibrationError, match="too few different questions"):
        fit_sum(data[0][:, :2].astype(np.float64), data[0], np.ones(200, dtype=bool))


def _kinds_of_different_level(count=900):
    """Three kinds: which is which decides of the level, and one value of the state tells within a kind."""
    random = np.random.default_rng(3)
    kinds = np.arange(count) % 3
    tells = random.normal(size=count)
    correct = random.random(count) < 1 / (1 + np.exp(-(1.5 * tells + 3.0 * (kinds - 1))))
    hidden = random.normal(size=(count, 40)).astype(np.float32)
    hidden[:, 0], hidden[:, 1] = tells, 2 * kinds + 0.1 * hidden[:, 1]
    return random.normal(size=(count, 2)), hidden, correct, kinds


def test_what_only_tells_one_kind_from_another_is_not_learned():
    signals, hidden, correct, kinds = _kinds_of_different_level()
    within = fit_sum(signals, hidden, correct, kinds).probe
    pooled = fit_sum(signals, hidden, correct).probe
    assert abs(within[1]) < 0.2 * abs(pooled[1])
    assert within[0] > 0.8 * pooled[0] > 0


def test_a_kind_that_is_too_small_or_all_right_has_no_intercept_of_its_own():
    signals, hidden, correct, _ = _kinds_of_different_level()
    right = np.flatnonzero(correct)[:40]
    kinds = np.zeros(len(correct), dtype=np.int64)
    kinds[right] = 1
    kinds[np.flatnonzero(~correct)[:5]] = 2
    one = fit_sum(signals, hidden, correct)
    np.testing.assert_array_equal(fit_sum(signals, hidden, correct, kinds).probe, one.probe)


def test_the_level_of_the_sum_is_that_of_all_kinds_together():
    signals, hidden, correct, kinds = _kinds_of_different_level()
    fitted = fit_sum(signals, hidden, correct, kinds)
    scores = fitted.intercept + signals @ fitted.weights + hidden @ fitted.probe
    assert scores.mean() == pytest.approx(np.log(correct.mean() / (1 - correct.mean())), abs=0.5)
