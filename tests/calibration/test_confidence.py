"""The sum that ranks answers: its value, and that nothing is judged by what is missing or not a number."""

from math import inf, log, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from guardrail.calibration.confidence import ConfidenceModel, Probe, Term
from guardrail.errors import CalibrationError
from guardrail.scoring.uncertainty import HiddenState, Observation
from tests.support.profiles import HIDDEN, a_profile, an_observation

MODEL = a_profile().confidence_model
# Without those that torch, once loaded, makes 0.
singles = st.floats(-(2.0**99), 2.0**99, width=32, allow_subnormal=False)


def test_the_sum_is_of_weighted_terms_and_the_probe():
    probe = 0.75 + 0.5 * 1 + 0.25 * 2 + 1.0 * 0.5 + 0.1 * 3
    expected = 0.25 - 0.5 * log(1e-3) - 0.125 * log(2.5) + 2 * probe
    assert MODEL.score(an_observation()) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("transform", "score", "value"),
    [
        ("log", 0.5, log(0.5)),
        ("log", 0.0, log(1e-12)),
        ("log", -1.0, log(1e-12)),
        ("log_negative", -0.5, log(0.5)),
        ("log_negative", 0.0, log(1e-12)),
        ("identity", -7.0, -7.0),
    ],
)
def test_a_transform_has_a_value_for_every_number(transform, score, value):
    assert Term(score="s", transform=transform, weight=1).value({"s": score}) == pytest.approx(value)


def test_a_missing_score_is_named():
    with pytest.raises(CalibrationError, match="'log_likelihood'"):
        MODEL.score(Observation({"hybridgrad": 1e-3}, HIDDEN))


@pytest.mark.parametrize("value", [nan, inf, -inf])
def test_a_score_that_is_not_a_number_is_never_judged(value):
    with pytest.raises(CalibrationError, match="hybridgrad of this answer is"):
        MODEL.score(an_observation(hybridgrad=value))


@pytest.mark.parametrize(
    ("hidden", "said"),
    [
        (None, "none was kept"),
        (HiddenState(0.25, (1, 2), (3, 4)), "depth 0.25"),
        (HiddenState(0.5, (1, 2, 3), (3, 4, 5)), "has 3 at depth"),
        (HiddenState(0.5, (1, nan), (3, 4)), "not finite"),
        (HiddenState(0.5, (1, 2), (3, inf)), "not finite"),
    ],
)
def test_a_probe_reads_only_the_state_it_was_made_for(hidden, said):
    with pytest.raises(CalibrationError, match=said):
        MODEL.score(Observation(an_observation().scores, hidden))


def test_a_sum_beyond_all_numbers_is_an_error():
    term = {"score": "s", "transform": "identity", "weight": 1e308}
    model = ConfidenceModel(inputs="signals", terms=(Term(**term),))
    with pytest.raises(CalibrationError, match="confidence score of this answer is inf"):
        model.score(Observation({"s": 1e10}))


@given(st.integers(1, 9).flatmap(lambda d: st.lists(singles, min_size=2 * d, max_size=2 * d)))
def test_a_probe_keeps_its_weights_to_the_last_bit_of_float32(weights):
    probe = Probe.of(0.5, weights, 0.0)
    assert list(probe.numbers) == weights
    assert Probe.model_validate_json(probe.model_dump_json()) == probe


@pytest.mark.parametrize(
    "change",
    [
        {"size": 3},
        {"weights": "AAAA"},
        {"weights": "AAA"},
        {"weights": "not base64!"},
        {"weights": Probe.of(0.5, [1.0] * 6, 0.0).weights},
        {"weights": "AADAfwAAAAAAAAAAAAAAAA=="},
        {"depth": 1.0},
        {"bias": nan},
        {"colour": "red"},
    ],
    ids=lambda change: "-".join(f"{name}={value}" for name, value in change.items()),
)
def test_what_is_no_probe_is_refused(change):
    with pytest.raises(ValidationError):
        Probe.model_validate({**Probe.of(0.5, [1.0] * 4, 0.0).model_dump(), **change})


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"inputs": "signals", "terms": ()}, "a confidence needs terms or a probe"),
        ({"inputs": "probe", "terms": MODEL.terms}, "there is no probe"),
        ({"inputs": "signals", "terms": MODEL.terms, "probe": MODEL.probe}, "there is a probe"),
        ({"inputs": "tea leaves", "terms": MODEL.terms}, "inputs"),
    ],
)
def test_a_sum_is_what_it_says_it_is(values, said):
    with pytest.raises(ValidationError, match=said):
        ConfidenceModel.model_validate(values)
