"""What a confidence is made of, laid out in arrays and folded into plain data."""

from dataclasses import replace
from math import inf, log, nan

import numpy as np
import pytest

from guardrail.calibration.features import LinearSum, available, read_inputs
from guardrail.errors import CalibrationError
from guardrail.scoring.uncertainty import HiddenState, Observation
from tests.support.fitting import DEPTH, some_answers

OBSERVATIONS = [answer.observation for answer in some_answers(30)]


def _with(at, **changes):
    changed = list(OBSERVATIONS)
    changed[at] = replace(changed[at], **changes)
    return changed


def _with_score(at, name, value):
    return _with(at, scores={**OBSERVATIONS[at].scores, name: value})


def test_every_score_is_read_on_its_logarithm():
    inputs = read_inputs(OBSERVATIONS)
    first = OBSERVATIONS[0].scores
    columns = dict(zip([term.score for term in inputs.terms], inputs.signals[0], strict=True))
    expected = {name: log(-value if name == "log_likelihood" else value) for name, value in first.items()}
    assert columns == pytest.approx(expected)


@pytest.mark.parametrize("value", [nan, inf])
def test_a_score_that_some_answer_lacks_is_left_out_for_all(value):
    lacking = {name: number for name, number in OBSERVATIONS[3].scores.items() if name != "semgrad"}
    for observations in (_with_score(3, "semgrad", value), _with(3, scores=lacking)):
        inputs = read_inputs(observations)
        assert "semgrad" not in [term.score for term in inputs.terms]
        assert inputs.signals.shape == (30, 5)


def test_a_score_that_is_not_of_the_pass_is_left_out():
    odd = [Observation({**one.scores, "confidence": 1.0}, one.hidden) for one in OBSERVATIONS]
    assert "confidence" not in [term.score for term in read_inputs(odd).terms]


@pytest.mark.parametrize("value", [nan, inf, -inf])
def test_an_answer_without_hybridgrad_is_named(value):
    with pytest.raises(CalibrationError, match="Answer 8 of 30 has no finite HybridGrad"):
        read_inputs(_with_score(7, "hybridgrad", value))


@pytest.mark.parametrize(
    "hidden",
    [
        None,
        HiddenState(0.25, OBSERVATIONS[0].hidden.mean, OBSERVATIONS[0].hidden.last),
        HiddenState(DEPTH, (1.0,), (1.0,)),
    ],
    ids=["none", "other depth", "other width"],
)
def test_a_probe_needs_the_same_hidden_state_of_every_answer(hidden):
    inputs = read_inputs(_with(5, hidden=hidden))
    assert available(inputs, "auto") == ("hybridgrad", "signals")
    with pytest.raises(CalibrationError, match="not every answer has one"):
        available(inputs, "probe")


def test_a_hidden_state_that_is_not_a_number_is_refused():
    with pytest.raises(CalibrationError, match="not finite"):
        read_inputs(_with(5, hidden=replace(OBSERVATIONS[5].hidden, last=[nan] * 12)))


def test_what_is_asked_for_is_all_that_is_tried():
    inputs = read_inputs(OBSERVATIONS)
    assert available(inputs, "auto") == ("hybridgrad", "signals", "probe")
    assert available(inputs, "signals") == ("signals",)


@pytest.mark.parametrize("kind", ["signals", "probe"])
def test_a_sum_folded_into_plain_data_gives_the_same_scores(kind):
    inputs = read_inputs(OBSERVATIONS)
    random = np.random.default_rng(0)
    fitted = LinearSum(0.5, random.normal(size=6))
    if kind == "probe":
        fitted = replace(fitted, probe=random.normal(size=24))
    model = fitted.as_model(kind, inputs)
    found = [model.score(observation) for observation in OBSERVATIONS]
    # A probe is kept in float32.
    np.testing.assert_allclose(found, fitted.scores(inputs, np.arange(30)), rtol=1e-5, atol=1e-4)


def test_what_has_no_weight_is_not_asked_of_an_answer():
    inputs = read_inputs(OBSERVATIONS)
    model = LinearSum(0.0, np.array([-1.0, 0, 0, 0, 0, 0])).as_model("hybridgrad", inputs)
    assert model.score(Observation({"hybridgrad": 0.5})) == pytest.approx(-log(0.5))


def test_a_sum_of_nothing_is_still_a_sum():
    inputs = read_inputs(OBSERVATIONS)
    model = LinearSum(0.25, np.zeros(6)).as_model("signals", inputs)
    assert model.score(OBSERVATIONS[0]) == 0.25
