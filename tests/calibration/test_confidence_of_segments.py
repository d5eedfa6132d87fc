"""A profile of whole answers places a segment, and promises nothing of it."""

from dataclasses import fields

import pytest

from guardrail.calibration.confidence import ConfidenceModel, SegmentAssessment, Term, assess_segment
from guardrail.errors import CalibrationError
from guardrail.scoring.options import ScoringOptions
from guardrail.scoring.uncertainty import Observation, SemanticToken, TokenScore, Uncertainty
from tests.support.profiles import a_profile

LENGTH = Term(score="tokens", transform="identity", weight=1.0)
SIGNALS = ConfidenceModel(inputs="signals", terms=(LENGTH,))
UNCALIBRATED = {"confidence_model": None, "calibrator": None, "certified": (), "report": {}}


def segment(hybridgrad=1e-3):
    numbers = [hybridgrad, 1.0, 1.0, None, 1.0, 1.0, 1.0, -2.5, 1.0, 0.5]
    tokens = [TokenScore("a", 1, -0.5, 0.5, 0.1)] * 3
    return Uncertainty(*numbers, tokens, SemanticToken(-1, "\n"), ScoringOptions(), "truncated", "", 0.1)


def test_a_segment_is_placed_among_whole_answers():
    profile = a_profile(confidence_model=SIGNALS)
    found = assess_segment(profile, segment())
    assert found.quantiles["hybridgrad"] == 0.5
    observation = Observation({"hybridgrad": 1e-3, "tokens": 3.0})
    assert found.uncalibrated_confidence == profile.assess(observation).confidence


@pytest.mark.parametrize("profile", [a_profile(), a_profile(**UNCALIBRATED)], ids=["probe", "no labels"])
def test_no_confidence_is_made_up(profile):
    found = assess_segment(profile, segment())
    assert found.uncalibrated_confidence is None
    assert found.quantiles == {"hybridgrad": 0.5}


def test_no_guarantee_is_ever_claimed():
    assert {field.name for field in fields(SegmentAssessment)} == {"quantiles", "uncalibrated_confidence"}


def test_what_is_no_number_has_no_place():
    with pytest.raises(CalibrationError, match="not a number"):
        assess_segment(a_profile(confidence_model=SIGNALS), segment(hybridgrad=float("nan")))
