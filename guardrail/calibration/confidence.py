"""Linear confidence score from the scores and hidden states of one forward pass, for an answer or part of it.

The score is a sum, so a reviewer can read what counts and how much. It ranks answers; a calibrator turns it
into a probability.
"""

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite, log
from struct import pack, unpack
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from guardrail.errors import CalibrationError
from guardrail.scoring.uncertainty import HiddenState, Observation
from guardrail.utils.record_store import FrozenModel

if TYPE_CHECKING:
    from guardrail.calibration.profile import Profile
    from guardrail.scoring.uncertainty import Uncertainty

__all__ = ["NOT_CALIBRATED", "ConfidenceModel", "Probe", "SegmentAssessment", "Term", "assess_segment"]


# Scores span decades; smaller ones are not distinguished.
_SMALLEST = 1e-12


class Term(FrozenModel):
    """One score's part of the sum: weight · f(score).

    ``log`` takes the logarithm, ``log_negative`` that of the negated score (log-likelihoods), ``identity``
    the score unchanged.
    """

    score: str
    transform: Literal["log", "log_negative", "identity"]
    weight: float

    def value(self, scores: Mapping[str, float]) -> float:
        """f(score), without the weight."""
        if self.score not in scores:
            raise CalibrationError(f"The profile needs the score {self.score!r}, which this answer lacks.")
        score = scores[self.score]
        if not isfinite(score):
            raise CalibrationError(f"{self.score} of this answer is {score}; it cannot be assessed.")
        if self.transform == "identity":
            return score
        return log(max(score if self.transform == "log" else -score, _SMALLEST))


class Probe(FrozenModel):
    """A linear probe on a hidden state: bias + w · [mean, last].

    Attributes:
        depth: Fraction of the layers at which the hidden state is taken.
        size: Width d of the hidden state; there are 2d weights.
        weights: The weights as little-endian float32 in base64.
        bias: The constant term.
        weight: The probe's weight in the sum.
    """

    depth: Annotated[float, Field(ge=0, lt=1)]
    size: Annotated[int, Field(gt=0)]
    weights: str
    bias: float
    weight: float = 1.0

    @classmethod
    def of(cls, depth: float, weights: Sequence[float], bias: float, weight: float = 1.0) -> Self:
        """Make a probe from its 2d weights."""
        data = b64encode(pack(f"<{len(weights)}f", *weights)).decode()
        return cls(depth=depth, size=len(weights) // 2, weights=data, bias=bias, weight=weight)

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if len(self._data()) != 8 * self.size or not all(map(isfinite, self.numbers)):
            raise ValueError(f"the probe must have {2 * self.size} finite numbers")
        return self

    @cached_property
    def numbers(self) -> tuple[float, ...]:
        """The 2d weights."""
        return unpack(f"<{2 * self.size}f", self._data())

    def value(self, hidden: HiddenState | None) -> float:
        """Bias + w · [mean, last], without the probe's weight in the sum."""
        if hidden is None:
            raise CalibrationError(
                f"The profile's probe needs the hidden state at depth {self.depth:g} of the layers, but none "
                f"was kept "
                "for this answer."
            )
        state = [*hidden.mean, *hidden.last]
        if hidden.depth != self.depth or len(state) != 2 * self.size:
            raise CalibrationError(
                f"The profile's probe reads {self.size} values at depth {self.depth:g}; this hidden state "
                f"has {len(hidden.mean)} at depth {hidden.depth:g}."
            )
        value = self.bias + sum(weight * x for weight, x in zip(self.numbers, state, strict=True))
        if not isfinite(value):
            raise CalibrationError("The hidden state of this answer is not finite; it cannot be assessed.")
        return value

    def _data(self) -> bytes:
        return b64decode(self.weights, validate=True)


class ConfidenceModel(FrozenModel):
    """The sum that ranks answers.

    Attributes:
        inputs: What the sum uses: ``hybridgrad`` only, several ``signals``, or those and a ``probe``.
        intercept: The constant term.
        terms: The scores' parts.
        probe: The hidden state's part.
    """

    inputs: Literal["hybridgrad", "signals", "probe"]
    intercept: float = 0.0
    terms: tuple[Term, ...]
    probe: Probe | None = None

    @model_validator(mode="after")
    def _has_inputs(self) -> Self:
        if not self.terms and self.probe is None:
            raise ValueError("a confidence needs terms or a probe")
        if (self.inputs == "probe") != (self.probe is not None):
            raise ValueError(f"inputs is {self.inputs}, but there is {'a' if self.probe else 'no'} probe")
        return self

    def score(self, observation: Observation) -> float:
        """The sum for one answer; higher is more likely correct.

        Raises:
            CalibrationError: Something it needs is missing or not a number.
        """
        total = self.intercept + sum(term.weight * term.value(observation.scores) for term in self.terms)
        if self.probe is not None:
            total += self.probe.weight * self.probe.value(observation.hidden)
        if not isfinite(total):
            raise CalibrationError(f"The confidence score of this answer is {total}; it cannot be assessed.")
        return total


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
            made without labels, or reads hidden states or the effect of documents, which are had of whole
            answers only.
    """

    quantiles: Mapping[str, float]
    uncalibrated_confidence: float | None


def assess_segment(profile: "Profile", segment: "Uncertainty") -> SegmentAssessment:
    """Compare a segment with the answers of a profile for the same model and way of scoring.

    Raises:
        CalibrationError: A score that the profile needs is missing or not a number.
    """
    scores = {**segment.scores(), "tokens": float(len(segment.tokens))}
    model = profile.confidence_model
    is_of_parts = model is not None and model.probe is None and not profile.reads_documents
    score = model.score(Observation(scores)) if model is not None and is_of_parts else None
    assessment = profile.assess_score(score, scores)
    return SegmentAssessment(assessment.quantiles, assessment.confidence)
