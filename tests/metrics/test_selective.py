"""Risk–coverage, AURC and PRR."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardrail.metrics.confidence_quality import aurc, prr, risk_coverage
from tests.support.labelled import ANSWERS, BOTH_KINDS, drawn


@settings(max_examples=40)
@given(ANSWERS)
def test_no_ranking_has_a_smaller_area_than_the_perfect_one(answers):
    confidence, correct = answers
    assert aurc(correct, correct) <= aurc(confidence, correct) + 1e-12


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=5))
def test_ties_count_as_the_mean_over_all_their_orders(pairs):
    confidence, correct = (np.array(values, dtype=float) for values in zip(*pairs, strict=True))
    areas = []
    for order in permutations(range(len(pairs))):
        ranked = sorted(order, key=lambda at: -confidence[at])
        areas.append(np.mean(np.cumsum(1 - correct[ranked]) / np.arange(1, len(pairs) + 1)))
    assert aurc(confidence, correct) == pytest.approx(np.mean(areas))


def test_the_curve_is_the_error_of_the_surest_answers():
    curve = risk_coverage([0.9, 0.8, 0.7, 0.6], [True, False, True, False])
    assert curve.coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert curve.risk == pytest.approx([0, 1 / 2, 1 / 3, 1 / 2])
    assert aurc([0.9, 0.8, 0.7, 0.6], [True, False, True, False]) == pytest.approx(curve.risk.mean())


@settings(max_examples=40)
@given(BOTH_KINDS)
def test_an_oracle_has_a_rejection_ratio_of_one_and_a_constant_of_none(answers):
    _, correct = answers
    assert prr(correct, correct) == 1
    assert prr(np.zeros(len(correct)), correct) == pytest.approx(0, abs=1e-9)


@settings(max_examples=40)
@given(BOTH_KINDS)
def test_no_rejection_ratio_is_above_that_of_the_oracle(answers):
    assert prr(*answers) <= 1 + 1e-12


def test_rejecting_at_random_gains_nothing_on_average():
    _, correct = drawn(300)
    at_random = np.random.default_rng(1).random((400, 300))
    ratios = prr(at_random, np.broadcast_to(correct, at_random.shape))
    # Four standard errors of the mean.
    assert abs(ratios.mean()) < 4 * ratios.std() / 20
    assert ratios.std() > 0.01


def test_rejecting_the_surest_first_is_worse_than_chance():
    confidence, correct = drawn(300)
    assert prr(-confidence, correct) < 0 < prr(confidence, correct)


def test_the_ratio_is_that_of_areas_above_a_simulated_chance():
    confidence, correct = drawn(200)
    generator = np.random.default_rng(0)
    shuffled = np.array([generator.permutation(200) for _ in range(2000)])
    chance = aurc(shuffled, np.broadcast_to(correct, shuffled.shape)).mean()
    oracle = aurc(correct, correct)
    by_simulation = (chance - aurc(confidence, correct)) / (chance - oracle)
    assert prr(confidence, correct) == pytest.approx(by_simulation, abs=0.01)
