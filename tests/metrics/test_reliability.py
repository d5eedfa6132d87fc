"""Brier score, ECE, and the bins they are seen in."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mapie.metrics.calibration import expected_calibration_error
from sklearn.metrics import brier_score_loss

from guardrail.metrics.confidence_quality import (
    bin_count,
    brier,
    brier_base_rate,
    brier_skill,
    ece,
    ece_if_calibrated,
    reliability,
)
from tests.support.labelled import ANSWERS, BOTH_KINDS, drawn


@settings(max_examples=40)
@given(BOTH_KINDS)
def test_the_brier_score_is_that_of_scikit_learn(answers):
    confidence, correct = answers[0] / 8, answers[1]
    assert brier(confidence, correct) == pytest.approx(brier_score_loss(correct, confidence))


@settings(max_examples=40)
@given(BOTH_KINDS)
def test_always_saying_the_base_rate_has_no_skill_and_the_truth_all(answers):
    _, correct = answers
    base = np.full(len(correct), correct.mean())
    assert brier_base_rate(base, correct) == pytest.approx(brier(base, correct))
    assert brier_skill(base, correct) == pytest.approx(0, abs=1e-12)
    assert brier_skill(correct, correct) == 1


@pytest.mark.parametrize(
    ("answers", "bins"), [(1, 5), (499, 5), (500, 5), (600, 6), (1499, 14), (1500, 15), (90_000, 15)]
)
def test_there_are_as_many_bins_as_leave_a_hundred_answers_each(answers, bins):
    assert bin_count(answers) == bins


@pytest.mark.parametrize("n", [500, 1200])
def test_the_ece_is_that_of_mapie_where_bins_divide_evenly_and_nothing_is_tied(n):
    confidence, correct = drawn(n)
    order = np.argsort(confidence)
    theirs = expected_calibration_error(
        correct[order].astype(int), confidence[order], num_bins=bin_count(n), split_strategy="array split"
    )
    assert ece(confidence, correct) == pytest.approx(theirs)


@settings(max_examples=40)
@given(ANSWERS, st.integers(1, 12))
def test_bins_hold_every_answer_once_and_tied_answers_together(answers, bins):
    confidence, correct = answers[0] / 8, answers[1]
    found = reliability(confidence, correct, bins)
    assert sum(one.right.n for one in found) == len(correct)
    assert len(found) <= min(bins, len(set(confidence)))
    assert sum(one.confidence * one.right.n for one in found) == pytest.approx(confidence.sum())


def test_bins_hold_equally_many_answers_where_none_are_tied():
    confidence, correct = drawn(623)
    counts = [one.right.n for one in reliability(confidence, correct)]
    assert len(counts) == 6
    assert max(counts) - min(counts) <= 1


@settings(max_examples=40)
@given(ANSWERS)
def test_the_ece_is_the_mean_distance_seen_in_the_bins(answers):
    confidence, correct = answers[0] / 8, answers[1]
    distances = [
        one.right.n * abs(one.confidence - one.right.value) for one in reliability(confidence, correct)
    ]
    assert ece(confidence, correct) == pytest.approx(sum(distances) / len(correct))


def test_one_confidence_for_all_is_off_by_its_distance_from_the_accuracy():
    assert ece(np.full(10, 0.7), [True] * 4 + [False] * 6) == pytest.approx(0.3)


def test_the_ece_of_right_probabilities_is_within_chance_as_often_as_promised():
    confidence, _ = drawn(300)
    chance = ece_if_calibrated(confidence, seed=1)
    labels = np.random.default_rng(2).random((2000, 300)) < confidence
    values = ece(np.broadcast_to(confidence, labels.shape), labels)
    # 95 % within; the ends are themselves from 1,000 draws.
    assert ((chance.low <= values) & (values <= chance.high)).mean() == pytest.approx(0.95, abs=0.025)
    assert values.mean() == pytest.approx(chance.value, rel=0.05)


def test_right_probabilities_show_an_ece_above_zero_that_shrinks_with_more_answers():
    few, many = (ece_if_calibrated(drawn(n)[0]).value for n in (100, 400))
    assert 0 < many < 0.6 * few


def test_certainty_that_is_right_has_no_ece_by_chance():
    chance = ece_if_calibrated([0.0, 1.0, 1.0])
    assert (chance.low, chance.value, chance.high, chance.n) == (0, 0, 0, 3)


def test_a_seed_gives_the_same_chance_again():
    confidence, _ = drawn(50)
    assert ece_if_calibrated(confidence, seed=3) == ece_if_calibrated(confidence, seed=3)
    assert ece_if_calibrated(confidence, seed=3) != ece_if_calibrated(confidence, seed=4)
