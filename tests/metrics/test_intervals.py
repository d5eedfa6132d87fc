"""Intervals round a metric, and the figures they go into."""

import numpy as np
import pytest
from scipy import stats

from guardrail.errors import CalibrationError
from guardrail.metrics.confidence_quality import aurc, auroc, brier, ece
from guardrail.metrics.intervals import interval, measure, resampled, share
from tests.support.labelled import drawn


@pytest.mark.parametrize("metric", [auroc, aurc, brier], ids=lambda metric: metric.__name__)
def test_the_interval_is_the_percentile_bootstrap_of_scipy(metric):
    confidence, correct = drawn(150)

    def along(confidence, correct, axis):
        assert axis == -1
        return metric(confidence, correct)

    theirs = stats.bootstrap(
        (confidence, correct), along, paired=True, method="percentile", n_resamples=4000, rng=5
    ).confidence_interval
    ours = interval(metric, confidence, correct, resamples=4000)
    assert ours == pytest.approx(tuple(theirs), abs=0.05 * (theirs.high - theirs.low))


def test_the_truth_is_within_as_often_as_promised():
    # E[(c − y)²] = E[c(1 − c)] for right probabilities: for Beta(2, 1.5), ab / ((a + b)(a + b + 1)).
    truth = 2 * 1.5 / (3.5 * 4.5)
    intervals = [interval(brier, *drawn(150, seed), resamples=400) for seed in range(300)]
    within = np.mean([low <= truth <= high for low, high in intervals])
    # 95 %, less what the percentile method is known to lose; 300 draws tell to ± 3 points.
    assert 0.91 <= within <= 0.99


def test_a_seed_gives_the_same_interval_again():
    answers = drawn(80)
    assert interval(ece, *answers, seed=1) == interval(ece, *answers, seed=1)
    assert interval(ece, *answers, seed=1) != interval(ece, *answers, seed=2)


def test_a_higher_level_is_a_wider_interval():
    answers = drawn(80)
    wide, narrow = (interval(auroc, *answers, level=level) for level in (0.99, 0.8))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_one_seed_draws_the_same_answers_for_every_method():
    confidence, correct = drawn(60)
    assert (resampled(auroc, confidence, correct) == resampled(auroc, np.exp(confidence), correct)).all()


def test_many_answers_are_resampled_piece_by_piece():
    confidence, correct = drawn(30_000)
    values = resampled(brier, confidence, correct, resamples=40)
    assert values.shape == (40,)
    assert values.mean() == pytest.approx(brier(confidence, correct), abs=0.002)


def test_a_figure_that_is_not_defined_says_why():
    figure = measure(auroc, [0.1, 0.2, 0.3], [True, True, True])
    assert figure.as_plain() == {
        "value": None,
        "low": None,
        "high": None,
        "n": 3,
        "reason": "all 3 answers are right, so there is nothing to tell apart",
    }


def test_resamples_of_one_kind_of_answers_are_left_out():
    confidence, correct = np.linspace(0, 1, 20), np.arange(20) > 2
    assert np.isnan(resampled(auroc, confidence, correct)).mean() == pytest.approx(0.85**20, abs=0.03)
    figure = measure(auroc, confidence, correct)
    assert 0 <= figure.low <= figure.value <= figure.high <= 1


def test_too_few_answers_of_one_kind_give_no_interval():
    figure = measure(auroc, np.linspace(0, 1, 20), np.arange(20) > 0)
    assert figure.value == 1
    assert figure.low is figure.high is None
    assert figure.reason == "too few answers of one kind (1 of 20) for an interval"


@pytest.mark.parametrize(("k", "n"), [(0, 40), (3, 50), (17, 17), (1, 1)])
def test_a_share_has_the_exact_binomial_interval(k, n):
    figure = share([True] * k + [False] * (n - k))
    assert (figure.value, figure.n) == (k / n, n)
    assert figure.low == pytest.approx(stats.beta.ppf(0.025, k, n - k + 1) if k else 0)
    assert figure.high == pytest.approx(stats.beta.ppf(0.975, k + 1, n - k) if k < n else 1)


def test_no_errors_among_few_answers_are_not_taken_for_none_at_all():
    assert share([False] * 40).high > 0.08


def test_a_share_of_nothing_says_so():
    figure = share([], none="nothing was let through")
    assert (figure.value, figure.n, figure.reason) == (None, 0, "nothing was let through")


@pytest.mark.parametrize(
    ("confidence", "correct", "message"),
    [
        ([], [], "no judged answers"),
        ([0.5], [True, False], "one of each"),
        ([[0.5]], [[True]], "one of each"),
        ([0.1, float("nan")], [True, False], "answer 1 is not a number"),
        ([0.1, 0.2], [0, 2], "true or false"),
        ([0.1, 0.2], [0.0, float("nan")], "true or false"),
    ],
)
def test_answers_that_cannot_be_measured_are_refused(confidence, correct, message):
    with pytest.raises(CalibrationError, match=message):
        measure(brier, confidence, correct)
