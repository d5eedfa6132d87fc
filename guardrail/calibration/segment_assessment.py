"""What a profile of whole answers can say about part of an answer: quantiles, but no guarantee."""

from collections.abc import Mapping
from dataclasses import dataclass

from guardrail.calibration.profile import Profile
from guardrail.labelling.observation import Observation
from guardrail.scoring.uncertainty import Uncertainty

__all__ = ["NOT_CALIBRATED", "SegmentAssessment", "assess_segment"]


NOT_CALIBRATED = (
    "The profile was made from whole answers: for part of an answer its confidence is an extrapolation, and "
    "none of its guarantees holds."
)


@dataclass(frozen=True, slots=True)
class SegmentAssessment:
    """The quantiles of a segment among whole answers. There are no guarantees, because none was certified.

    Attributes:
        quantiles: Share of the profile's answers below each score, by score.
        uncalibrated_confidence: The confidence of a whole answer with these scores; None if the profile was
            made without labels, or uses hidden states, which are kept for whole answers only.
    """

    quantiles: Mapping[str, float]
    uncalibrated_confidence: float | None


def assess_segment(profile: Profile, segment: Uncertainty) -> SegmentAssessment:
    """Compare a segment with the answers of a profile for the same model and way of scoring.

    Raises:
        CalibrationError: A score that the profile needs is missing or not a number.
    """
    scores = {**segment.scores(), "tokens": float(len(segment.tokens))}
    model = profile.confidence_model
    score = None if model is None or model.probe is not None else model.score(Observation(scores))
    assessment = profile.assess_score(score, scores)
    return SegmentAssessment(assessment.quantiles, assessment.confidence)
