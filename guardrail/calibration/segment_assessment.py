"""What a profile of whole answers can say of a part of one: where it stands, and no promise."""

from collections.abc import Mapping
from dataclasses import dataclass

from guardrail.calibration.profile import Profile
from guardrail.labelling.observation import Observation
from guardrail.scoring.uncertainty import Uncertainty

__all__ = ["NOT_CALIBRATED", "SegmentAssessment", "assess_segment"]


NOT_CALIBRATED = (
    "The profile was made from whole answers: for a part of one its confidence is an extrapolation, and none "
    "of its guarantees holds."
)


@dataclass(frozen=True, slots=True)
class SegmentAssessment:
    """Where one segment stands among whole answers. It has no guarantees, because none was certified.

    Attributes:
        quantiles: Share of the profile's answers below each score, by its name.
        uncalibrated_confidence: What the profile would give a whole answer with these scores; None where it
            was made without labels, or reads hidden states, which are kept for whole answers only.
    """

    quantiles: Mapping[str, float]
    uncalibrated_confidence: float | None


def assess_segment(profile: Profile, segment: Uncertainty) -> SegmentAssessment:
    """Put a segment beside the answers of a profile that was made of the same model, scored the same way.

    Raises:
        CalibrationError: A score that the profile needs is missing or not a number.
    """
    scores = {**segment.scores(), "tokens": float(len(segment.tokens))}
    model = profile.confidence_model
    score = None if model is None or model.probe is not None else model.score(Observation(scores))
    assessment = profile.assess_score(score, scores)
    return SegmentAssessment(assessment.quantiles, assessment.confidence)
