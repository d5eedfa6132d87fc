"""A threshold is certified, or it is said what is missing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from guardrail.calibration.binomial_bounds import band, crossing, fewest_needed, highest_passed, pointwise
from guardrail.calibration.certify import certify
from guardrail.calibration.profile import CertifiedThreshold, Guarantee
from guardrail.calibration.threshold_search import Band, FixedSequence, default_search, plan
from guardrail.errors import CalibrationError, OptionError

TENTH = Guarantee(0.10, 0.90)
TWENTIETH = Guarantee(0.05, 0.95)
GUARANTEES = st.sampled_from([TENTH, TWENTIETH, Guarantee(0.02, 0.95), Guarantee(0.3, 0.8)])
SEARCHES = [None, FixedSequence(0.6), Band(30, 60)]


def a_set(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    scores = rng.random(n)
    return scores, rng.random(n) < np.sqrt(scores)


@pytest.mark.parametrize(
    ("max_error", "confidence", "needed"),
    [(0.1, 0.9, 22), (0.05, 0.95, 59), (0.02, 0.95, 149), (0.01, 0.95, 299)],
)
def test_the_fewest_answers_are_those_that_pass_without_an_error(
    max_error: float, confidence: float, needed: int
) -> None:
    guarantee = Guarantee(max_error, confidence)
    assert fewest_needed(guarantee) == needed
    assert certify(np.arange(needed), [True] * needed, guarantee, Band(needed, needed)).threshold == 0
    assert certify(np.arange(needed - 1), [True] * (needed - 1), guarantee).threshold is None


def test_too_few_answers_say_how_many_are_needed_and_how_many_there_are() -> None:
    found = certify([0.5] * 31, [True] * 31, TWENTIETH)
    assert found.threshold is None
    assert (found.accepted, found.needed) == (31, 59)
    assert found.reason == (
        "needs at least 59 accepted answers without an error for 5 % at 95 %; 31 available"
    )


def test_a_sequence_that_starts_too_strictly_says_so() -> None:
    found = certify(np.arange(100), [True] * 100, TWENTIETH, FixedSequence(90.0))
    assert found.reason == (
        "needs at least 59 accepted answers without an error for 5 % at 95 %; 10 available"
    )


def test_too_many_errors_say_what_would_be_needed_at_that_rate() -> None:
    wrong = {10, 40, 70, 95}
    found = certify(-np.arange(100), [i not in wrong for i in range(100)], TWENTIETH, FixedSequence(-99))
    assert found.reason == (
        "4 of 100 accepted answers were wrong (4.0 %); at that rate 5 % at 95 % needs about 2,080 accepted "
        "answers; 100 available"
    )


@pytest.mark.parametrize("search", SEARCHES)
def test_more_errors_than_promised_are_not_helped_by_more_answers(
    search: Band | FixedSequence | None,
) -> None:
    scores, _ = a_set(200)
    found = certify(scores, [False] * 200, TENTH, search)
    assert found.threshold is None
    assert "more data will not help" in found.reason


@pytest.mark.parametrize("search", SEARCHES)
def test_where_all_are_correct_all_are_let_through(search: Band | FixedSequence | None) -> None:
    scores, _ = a_set(200)
    found = certify(scores, [True] * 200, TENTH, search)
    assert (found.threshold, found.accepted, found.errors) == (scores.min(), 200, 0)


@pytest.mark.parametrize("search", SEARCHES)
def test_no_answers_are_infeasible(search: Band | FixedSequence | None) -> None:
    found = certify([], [], TENTH, search)
    assert (found.threshold, found.n, found.accepted) == (None, 0, 0)
    assert found.reason.endswith("0 available")


@pytest.mark.parametrize(("right", "threshold"), [(60, 0.7), (40, None)])
@pytest.mark.parametrize("search", [None, FixedSequence(0.7), Band(22, 60)])
def test_constant_scores_are_let_through_together_or_not_at_all(
    right: int, threshold: float | None, search: Band | FixedSequence | None
) -> None:
    found = certify([0.7] * 60, [i < right for i in range(60)], TENTH, search)
    assert found.threshold == threshold
    assert found.accepted == 60


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("seed", range(5))
def test_what_is_reported_of_a_threshold_is_what_it_lets_through(
    search: Band | FixedSequence | None, seed: int
) -> None:
    scores, correct = a_set(400, seed)
    scores, correct = np.round(scores, 1 + seed % 3), correct | (scores > 0.55) & (np.arange(400) % 20 > 0)
    found = certify(scores, correct, TENTH, search)
    assert found.threshold is not None
    accepted = scores >= found.threshold
    assert found.accepted == accepted.sum()
    assert found.errors == (~correct[accepted]).sum()
    assert binom.cdf(found.errors, found.accepted, 0.1) <= 0.1


@pytest.mark.parametrize("search", SEARCHES)
def test_the_order_of_the_answers_does_not_matter(search: Band | FixedSequence | None) -> None:
    scores, correct = a_set(300)
    scores = np.round(scores, 1)
    order = np.random.default_rng(1).permutation(300)
    assert certify(scores[order], correct[order], TENTH, search) == certify(scores, correct, TENTH, search)


@pytest.mark.parametrize("transform", [np.exp, lambda x: 5 * x - 3, lambda x: x**3])
def test_only_the_order_of_the_scores_matters(transform: np.ufunc) -> None:
    scores, correct = a_set(300)
    plain = certify(scores, correct, TENTH)
    moved = certify(transform(scores), correct, TENTH)
    assert moved.accepted == plain.accepted


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.booleans()), max_size=120), st.data())
def test_a_correct_answer_more_never_lets_fewer_thresholds_through(
    answers: list[tuple[int, bool]], data: st.DataObject
) -> None:
    """What the proof rests on: rejecting is monotone in the labels."""
    scores = [score for score, _ in answers]
    correct = [right for _, right in answers]
    search = data.draw(st.sampled_from([Band(22, 40), FixedSequence(6.0)]))
    before = certify(scores, correct, TENTH, search)
    if False in correct:
        correct[data.draw(st.sampled_from([i for i, right in enumerate(correct) if not right]))] = True
    after = certify(scores, correct, TENTH, search)
    if before.threshold is not None:
        assert after.threshold is not None
        assert after.threshold <= before.threshold


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_score_that_is_no_number_is_refused(value: float) -> None:
    scores, correct = a_set(100)
    scores[3] = value
    with pytest.raises(CalibrationError, match="not a finite number"):
        certify(scores, correct, TENTH)
    with pytest.raises(CalibrationError, match="not a finite number"):
        plan(scores, correct)
    with pytest.raises(CalibrationError, match="cannot start"):
        certify(correct, correct, TENTH, FixedSequence(value))


def test_scores_and_labels_must_be_one_for_one() -> None:
    with pytest.raises(CalibrationError, match="3 scores and 2 labels"):
        certify([1, 2, 3], [True, False], TENTH)
    with pytest.raises(CalibrationError, match="3 scores and 2 probabilities"):
        plan([1, 2, 3], [True, False])


def test_a_label_that_is_no_label_is_refused() -> None:
    with pytest.raises(CalibrationError, match="neither true nor false"):
        certify([1, 2], [True, 2], TENTH)
    with pytest.raises(CalibrationError, match="between 0 and 1"):
        plan([1, 2], [0.5, float("nan")])


@pytest.mark.parametrize(
    "guarantee", [Guarantee(0, 0.9), Guarantee(1, 0.9), Guarantee(0.1, 1), Guarantee(0.1, 0)]
)
def test_a_guarantee_of_nothing_or_everything_is_refused(guarantee: Guarantee) -> None:
    with pytest.raises(OptionError, match="must be between 0 and 1"):
        certify([1.0], [True], guarantee)


# The boundaries.


@settings(max_examples=40, deadline=None)
@given(st.integers(22, 500), st.integers(1, 500), st.integers(0, 300), GUARANTEES)
def test_a_band_spends_no_more_than_delta_and_is_of_the_form_that_the_proof_needs(
    n: int, first: int, width: int, guarantee: Guarantee
) -> None:
    boundary = band(n, first, first + width, guarantee)
    assert boundary.shape == (n + 1,)
    assert set(np.diff(boundary)) <= {0, 1}
    assert crossing(boundary, guarantee.max_error, 0) <= 1 - guarantee.confidence


def test_the_chance_of_crossing_is_that_of_simulated_errors() -> None:
    boundary = band(300, 50, 150, TENTH)
    errors = np.cumsum(np.random.default_rng(0).random((20_000, 300)) < 0.1, axis=1)
    share = (highest_passed(errors, boundary) > 0).mean()
    exact = crossing(boundary, 0.1, 0)
    assert exact == pytest.approx(0.1, abs=0.003)
    assert share == pytest.approx(exact, abs=4 * np.sqrt(0.09 / 20_000))


def test_a_single_threshold_is_tested_exactly() -> None:
    boundary = pointwise(200, 0.1, 0.1)
    for k in (0, 21, 22, 100, 200):
        allowed = boundary[k]
        assert allowed == -1 or binom.cdf(allowed, k, 0.1) <= 0.1
        assert binom.cdf(allowed + 1, k, 0.1) > 0.1


# The plan.


def test_a_plan_is_the_same_every_time() -> None:
    scores, correct = a_set(300)
    assert plan(scores, correct).search(TENTH, 300) == plan(scores, correct).search(TENTH, 300)


@pytest.mark.parametrize(
    ("scores", "likely"),
    [
        ([], []),
        ([1.0], [1]),
        ([0.5] * 50, [True, False] * 25),
        (np.arange(50), [True] * 50),
        (np.arange(50), [False] * 50),
        (np.arange(50), np.linspace(0, 1, 50)),
        (np.arange(50), np.linspace(1, 0, 50)),
    ],
)
@pytest.mark.parametrize("n", [0, 10, 22, 100])
def test_any_fit_part_gives_a_search(scores: list[float], likely: list[float], n: int) -> None:
    search = plan(scores, likely).search(TENTH, n)
    assert isinstance(search, FixedSequence | Band)
    certify_scores, correct = a_set(n)
    assert isinstance(certify(certify_scores, correct, TENTH, search), CertifiedThreshold)


def test_a_sequence_starts_at_a_score_of_the_fit_part() -> None:
    scores, correct = a_set(1500)
    search = plan(scores, correct).search(TENTH, 1500)
    assert isinstance(search, FixedSequence)
    assert search.start in scores


def test_without_a_fit_part_the_band_depends_on_the_number_of_answers_alone() -> None:
    assert default_search(TENTH, 300) == Band(48, 144)
    assert default_search(TENTH, 1500) == Band(240, 720)
