"""What was learned is looked up: probabilities rise with the score, and stay probabilities."""

from bisect import bisect_left, bisect_right
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from guardrail.calibration.calibrators import Calibrator, Isotonic, Platt, VennAbers

finite = st.floats(-1e9, 1e9)
probabilities = st.floats(0, 1)


def _rising(values):
    return tuple(accumulate(values, max))


@st.composite
def isotonic(draw):
    scores = sorted(draw(st.sets(finite, min_size=1, max_size=8)))
    return Isotonic(
        scores=tuple(scores),
        probabilities=_rising(draw(st.lists(probabilities, min_size=len(scores), max_size=len(scores)))),
    )


@st.composite
def venn_abers(draw):
    scores = sorted(draw(st.sets(finite, min_size=1, max_size=6)))
    steps = 2 * len(scores) + 1
    pairs = draw(st.lists(st.tuples(probabilities, probabilities), min_size=steps, max_size=steps))
    return VennAbers(
        scores=tuple(scores),
        lower=_rising(min(pair) for pair in pairs),
        upper=_rising(max(pair) for pair in pairs),
    )


calibrators = st.one_of(st.builds(Platt, slope=st.floats(0, 1e6), intercept=finite), isotonic(), venn_abers())


@given(calibrators, finite, finite)
def test_a_higher_score_never_gets_a_lower_probability(calibrator, one, other):
    low, high = calibrator.probability(min(one, other)), calibrator.probability(max(one, other))
    assert 0 <= low <= high <= 1


@given(venn_abers(), finite)
def test_the_one_probability_of_venn_abers_lies_between_the_two(calibrator, score):
    low, high = calibrator.interval(score)
    assert low - 1e-12 <= calibrator.probability(score) <= high + 1e-12


@given(calibrators)
def test_a_calibrator_is_the_same_after_a_round_trip(calibrator):
    adapter = TypeAdapter(Calibrator)
    assert adapter.validate_json(adapter.dump_json(calibrator)) == calibrator


@pytest.mark.parametrize("score", [-1e308, 1e308])
def test_no_score_is_too_large_for_platt(score):
    assert Platt(slope=10.0, intercept=1.0).probability(score) == (score > 0)


def test_between_two_points_isotonic_is_a_straight_line_and_level_beyond():
    curve = Isotonic(scores=(0.0, 2.0, 3.0), probabilities=(0.25, 0.75, 0.75))
    scores = (-9, 0, 0.5, 1, 2, 2.5, 9)
    assert [curve.probability(score) for score in scores] == [0.25, 0.25, 0.375, 0.5, 0.75, 0.75, 0.75]


def test_venn_abers_changes_at_the_scores_only():
    scores = (1.0, 2.0)
    steps = VennAbers(scores=scores, lower=(0.0, 0.1, 0.1, 0.3, 0.3), upper=(0.5, 0.5, 0.7, 0.7, 1.0))
    for score, step in ((0.9, 0), (1.0, 1), (1.5, 2), (2.0, 3), (2.1, 4)):
        assert bisect_left(scores, score) + bisect_right(scores, score) == step
        assert steps.interval(score) == (steps.lower[step], steps.upper[step])


def test_venn_abers_takes_the_probability_that_loses_least():
    both = VennAbers(scores=(0.0,), lower=(0.2,) * 3, upper=(0.4,) * 3)
    assert both.probability(5.0) == pytest.approx(0.4 / (1 - 0.2 + 0.4))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"kind": "platt", "slope": -1, "intercept": 0}, "greater than or equal to 0"),
        ({"kind": "platt", "slope": 1, "intercept": float("nan")}, "finite"),
        ({"kind": "platt", "slope": 1, "intercept": 0, "temperature": 1}, "Extra inputs"),
        ({"kind": "isotonic", "scores": [], "probabilities": []}, "at least 1"),
        ({"kind": "isotonic", "scores": [0, 1], "probabilities": [0.5]}, "differ in length"),
        ({"kind": "isotonic", "scores": [1, 1], "probabilities": [0.1, 0.2]}, "scores must rise"),
        ({"kind": "isotonic", "scores": [0, 1], "probabilities": [0.5, 0.2]}, "probabilities must not fall"),
        ({"kind": "isotonic", "scores": [0], "probabilities": [1.5]}, "less than or equal to 1"),
        ({"kind": "venn_abers", "scores": [0], "lower": [0, 0], "upper": [1, 1]}, "3 steps for 1 scores"),
        ({"kind": "venn_abers", "scores": [0], "lower": [0, 0.6, 1], "upper": [0.5] * 3}, "above upper"),
        (
            {"kind": "venn_abers", "scores": [0], "lower": [0.1, 0, 0], "upper": [1] * 3},
            "probabilities must not fall",
        ),
        (
            {"kind": "venn_abers", "scores": [0], "lower": [0] * 3, "upper": [1, 0.5, 1]},
            "probabilities must not fall",
        ),
        ({"kind": "venn_abers", "scores": [1, 0], "lower": [0] * 5, "upper": [1] * 5}, "scores must rise"),
        ({"kind": "histogram"}, "does not match any of the expected tags"),
    ],
)
def test_what_is_no_calibrator_is_refused(values, said):
    with pytest.raises(ValidationError, match=said):
        TypeAdapter(Calibrator).validate_python(values)
