"""AUROC and AUPRC, and what holds for every metric."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata
from sklearn.metrics import average_precision_score, roc_auc_score

from guardrail.metrics.confidence_quality import auprc, aurc, auroc, brier, brier_skill, ece, prr
from guardrail.metrics.intervals import mean_ranks
from tests.support.labelled import ANSWERS, BOTH_KINDS

EVERY = [auroc, auprc, aurc, prr, brier, brier_skill, ece]


@settings(max_examples=40)
@given(BOTH_KINDS)
def test_auroc_is_that_of_scikit_learn(answers):
    confidence, correct = answers
    assert auroc(confidence, correct) == pytest.approx(roc_auc_score(correct, confidence))


@settings(max_examples=40)
@given(BOTH_KINDS)
def test_auprc_is_the_average_precision_of_finding_wrong_answers(answers):
    confidence, correct = answers
    assert auprc(confidence, correct) == pytest.approx(average_precision_score(~correct, -confidence))


@pytest.mark.parametrize("metric", [auroc, auprc, aurc, prr], ids=lambda metric: metric.__name__)
@settings(max_examples=40)
@given(answers=BOTH_KINDS)
def test_a_ranking_is_judged_the_same_on_any_rising_scale(metric, answers):
    confidence, correct = answers
    assert metric(np.exp(confidence) - 5, correct) == pytest.approx(metric(confidence, correct))


@pytest.mark.parametrize("metric", EVERY, ids=lambda metric: metric.__name__)
@settings(max_examples=40)
@given(answers=ANSWERS, random=st.randoms(use_true_random=False))
def test_the_order_of_the_answers_does_not_matter_even_among_ties(metric, answers, random):
    confidence, correct = answers[0] / 8, answers[1]
    shuffled = random.sample(range(len(correct)), len(correct))
    value = metric(confidence[shuffled], correct[shuffled])
    assert value == pytest.approx(float(metric(confidence, correct)), nan_ok=True)


@pytest.mark.parametrize("metric", EVERY, ids=lambda metric: metric.__name__)
def test_rows_are_judged_each_on_its_own(metric):
    generator = np.random.default_rng(0)
    confidence = generator.integers(0, 6, (7, 40)) / 6
    correct = generator.random((7, 40)) < 0.5
    one_by_one = [metric(*row) for row in zip(confidence, correct, strict=True)]
    assert metric(confidence, correct) == pytest.approx(np.array(one_by_one))


@settings(max_examples=40)
@given(BOTH_KINDS)
def test_the_negative_of_a_score_ranks_the_other_way_round(answers):
    confidence, correct = answers
    assert auroc(-confidence, correct) == pytest.approx(1 - auroc(confidence, correct))


@pytest.mark.parametrize("correct", [[True, True], [False, False]])
def test_one_kind_of_answers_leaves_nothing_to_tell_apart(correct):
    assert np.isnan(auroc([0.1, 0.2], correct))
    assert np.isnan(prr([0.1, 0.2], correct))


def test_without_a_wrong_answer_none_can_be_found():
    assert np.isnan(auprc([0.1, 0.2], [True, True]))


@pytest.mark.parametrize("digits", [1, 12])
def test_mean_ranks_are_those_of_scipy(digits):
    scores = np.random.default_rng(0).normal(size=(7, 40)).round(digits)
    scores[2, 5] = np.nan
    scores[3, :2] = np.inf
    np.testing.assert_array_equal(mean_ranks(scores), rankdata(scores, axis=-1))
