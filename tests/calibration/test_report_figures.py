"""Every figure of a report, as plain values."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardrail.calibration.fit import summarise
from guardrail.calibration.profile import CertifiedThreshold
from guardrail.errors import CalibrationError
from guardrail.metrics import Figure
from tests.support.labelled import drawn

FIGURES = {
    "accuracy",
    "auroc",
    "auprc",
    "aurc",
    "prr",
    "ece",
    "ece_if_calibrated",
    "brier",
    "brier_base_rate",
    "brier_skill",
}


def threshold(at):
    return CertifiedThreshold(
        max_error=0.05,
        confidence=0.95,
        threshold=at,
        n=200,
        accepted=80,
        errors=0,
        needed=59,
        reason="" if at is not None else "too few",
    )


def test_every_figure_has_a_value_an_interval_around_it_and_its_n():
    confidence, correct = drawn(250)
    summary = summarise(confidence, np.log(confidence), correct)
    assert set(summary) == FIGURES | {"n", "correct", "method", "certified"}
    for name in FIGURES:
        assert set(summary[name]) == {"value", "low", "high", "n"}
        figure = Figure.model_validate(summary[name])
        assert figure.low < figure.value < figure.high
        assert figure.n == 250


def test_rankings_are_of_the_scores_and_probabilities_of_the_confidences():
    confidence, correct = drawn(120)
    ours = summarise(confidence, -confidence, correct)
    theirs = summarise(confidence, confidence, correct)
    assert ours["auroc"]["value"] == pytest.approx(1 - theirs["auroc"]["value"])
    assert ours["brier"] == theirs["brier"]
    assert ours["ece"] == theirs["ece"]


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.2, 0.5, 1.0]), st.booleans()), min_size=1, max_size=6),
    st.sampled_from([None, 0.0, 0.3, 2.0]),
)
def test_whatever_the_answers_the_summary_is_json_without_nan_and_every_gap_has_a_reason(pairs, at):
    confidence, correct = zip(*pairs, strict=True)
    summary = summarise(confidence, confidence, correct, [threshold(at)])
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    figures = [summary[name] for name in FIGURES]
    figures += [summary["certified"][0][name] for name in ("coverage", "error")]
    for figure in figures:
        assert all(figure[end] is not None for end in ("value", "low", "high")) != ("reason" in figure)


def test_a_threshold_lets_through_from_its_own_value_on():
    scores, correct = [1.0, 2.0, 2.0, 3.0], [False, True, False, True]
    (one,) = summarise([0.5] * 4, scores, correct, [threshold(2.0)])["certified"]
    assert (one["accepted"], one["errors"], one["threshold"]) == (3, 1, 2.0)
    assert (one["coverage"]["value"], one["coverage"]["n"]) == (0.75, 4)
    assert (one["error"]["value"], one["error"]["n"]) == (pytest.approx(1 / 3), 3)


def test_a_threshold_that_nothing_reaches_has_an_error_that_is_not_known():
    (one,) = summarise([0.5] * 4, [1.0] * 4, [True] * 4, [threshold(2.0)])["certified"]
    assert one["coverage"]["value"] == 0
    assert (one["error"]["value"], one["error"]["reason"]) == (None, "no held-out answer is accepted")


def test_an_infeasible_threshold_lets_nothing_through_and_says_why():
    (one,) = summarise([0.5] * 4, [1.0] * 4, [True] * 4, [threshold(None)])["certified"]
    assert (one["threshold"], one["accepted"]) == (None, 0)
    assert one["coverage"]["value"] is one["error"]["value"] is None
    assert one["error"]["reason"] == "too few"


def test_a_seed_gives_the_same_summary_again():
    confidence, correct = drawn(60)
    assert summarise(confidence, confidence, correct, seed=4) == summarise(
        confidence, confidence, correct, seed=4
    )


def test_confidences_that_are_no_probabilities_are_refused():
    with pytest.raises(CalibrationError, match="from 0 to 1"):
        summarise([0.5, 1.5], [0.5, 1.5], [True, False])
