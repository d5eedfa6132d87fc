"""Adapt the confidence of a profile to other questions, by a few answers that were judged.

Between kinds of questions order transfers and level does not: twenty or thirty answers of the new kind tell
how much surer or less sure to be. They tell far too little to certify anything.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from math import exp, log1p
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from guardrail import __version__
from guardrail.calibration.calibrate import ProfileRequest
from guardrail.calibration.calibrators import Adapted, logit_of
from guardrail.calibration.domain import Domain
from guardrail.calibration.fit import distributions
from guardrail.calibration.making import Making
from guardrail.calibration.options import FitOptions, MakingSource
from guardrail.calibration.profile import Profile
from guardrail.calibration.reference_states import ReferenceStates
from guardrail.calibration.splits import one_of_each
from guardrail.errors import CalibrationError, ForeignProfileError
from guardrail.labelling.answers import AnswerRecord, LabelledAnswer
from guardrail.labelling.collection import Collected
from guardrail.labelling.provenance import Author
from guardrail.labelling.questions import DEFAULT_DEPTH, LabelOptions
from guardrail.models.sampling import Sampling

__all__ = ["LEAST_ANSWERS", "adapt", "adapt_profile", "adapting_request"]

LEAST_ANSWERS = 20
# A share among fewer says too little of where a score lies.
_LEAST_REFERENCE = 50
# Standard deviations of the normal priors of the shift (around 0) and of the slope (around 1), chosen on real
# answers of one kind adapted to another: with a tighter slope a single other kind fits worse, with a looser
# one chance is followed; of the shift it matters little from 1 on, as kinds differ by up to 1.4.
_SHIFT, _SLOPE = 1.5, 0.5
# How the answers of a profile were drawn, and those that it is adapted by are.
_SAMPLED = ("max_tokens", "temperature", "top_p", "seed", "max_reasoning_tokens")
_MOST_STEPS, _SMALLEST = 100, 1e-10


def adapting_request(
    profile: Profile,
    labels: Path,
    output: Path,
    *,
    model: str | None = None,
    answers: Path | None = None,
    judge: str | None = None,
    system: str | None = None,
    batch_size: int = 16,
    recheck: bool = False,
) -> ProfileRequest:
    """What is to be answered and scored to adapt a profile: as its own answers were.

    Args:
        profile: The profile.
        labels: File of questions, of responses that were judged, or of answers that were kept.
        output: Where the new profile will be written.
        model: Where the model is; by default under the name that the profile has for it.
        answers: Where answers are kept; by default beside the new profile.
        judge: Decides what is right; by default as for calibrating.
        system: System message for every conversation that has none.
        batch_size: Questions that the model reads at once.
        recheck: Compare the model with that of stored answers, whatever it is called.
    """
    made = profile.making.generation
    sampled: dict[str, Any] = {name: made[name] for name in _SAMPLED if name in made}
    depths = profile.depths
    return ProfileRequest(
        questions=labels,
        output=output,
        model=model or profile.model.name,
        labelling=LabelOptions(
            sampling=Sampling(**sampled, stop=_stops(made)),
            system=system,
            scoring=profile.scorer.options(),
            depth=depths[0] if depths else DEFAULT_DEPTH,
            batch_size=batch_size,
            keep_positions=False,
            document_gain=profile.reads_documents,
        ),
        fit=FitOptions(),
        answers=answers,
        judge=judge,
        answered_by=profile.answered_by,
        recheck=recheck,
    )


def adapt(profile: Profile, collected: Collected[AnswerRecord], labels: str | Path) -> Profile:
    """Adapt a profile to answers that were collected, see :func:`adapt_profile`.

    Args:
        profile: The profile.
        collected: Answers to the new questions, judged.
        labels: The file that they come from.

    Raises:
        ForeignProfileError: They are another model's, or scored in another way.
        CalibrationError: They are too few, all right or all wrong.
        RecordError: The file cannot be read.
    """
    labels = Path(labels)
    scored = (record.scored_at(profile.scorer.semantic_token) for record in collected.records)
    records = sorted(scored, key=lambda record: record.digest)
    made = records[0].provenance
    profile.check(made.model, made.scorer)
    author = Author(made.answered_by) if made.answered_by else None
    if outside := profile.outside_domain(author, made.model.name):
        raise ForeignProfileError(f"The profile does not hold for these answers: {outside}.", ["answered_by"])
    making = MakingSource(
        questions=labels.name,
        questions_sha256=sha256(labels.read_bytes()).hexdigest(),
        judge=collected.judge,
        generation=made.generation,
    )
    return adapt_profile(profile, [one for record in records if (one := record.labelled())], making)


def adapt_profile(profile: Profile, answers: Sequence[LabelledAnswer], making: MakingSource) -> Profile:
    """Correct the confidence of a profile by a few answers to other questions.

    An intercept and a slope are fitted to the logit of the profile's confidence, by penalised likelihood. The
    new profile holds for answers like the few. It ranks answers as before; its confidence is given with an
    interval. It certifies nothing: adapting brings back confidence, never a certificate.

    Args:
        profile: A calibrated profile; one that was adapted before is adapted anew, from its first confidence.
        answers: Answers of the profile's model, scored as its own. Of a group one counts.
        making: Where they came from.

    Raises:
        CalibrationError: They are too few, all right or all wrong; or the profile gives no confidence.
    """
    if profile.confidence_model is None or profile.calibrator is None:
        raise CalibrationError("The profile was made without labels: it has no confidence to adapt.")
    few = [answers[at] for at in one_of_each(answers)]
    right = sum(answer.correct for answer in few)
    if len(few) < LEAST_ANSWERS:
        raise CalibrationError(
            f"{len(few)} answers to different questions are too few to adapt a profile; at least "
            f"{LEAST_ANSWERS} are needed."
        )
    if right in (0, len(few)):
        kind = "correct" if right else "wrong"
        raise CalibrationError(
            f"All {len(few)} answers were judged {kind}: they do not tell how far the confidence is off. "
            "Check the judge, or add answers."
        )
    base = profile.calibrator.base if isinstance(profile.calibrator, Adapted) else profile.calibrator
    scores = [profile.confidence_model.score(answer.observation) for answer in few]
    logits = [logit_of(base.probability(score)) for score in scores]
    centre = sum(logits) / len(logits)
    fit = _fit([logit - centre for logit in logits], [answer.correct for answer in few], centre)
    calibrator = Adapted(
        base=base,
        centre=centre,
        intercept=fit.intercept,
        # The order of a profile is not turned round by a few answers.
        slope=max(0.0, fit.slope),
        variances=fit.variances,
        answers=len(few),
    )
    observations = [answer.observation for answer in few]
    seen = [
        {
            **answer.observation.scores,
            "confidence": calibrator.probability(score),
            "confidence_score": score,
        }
        for answer, score in zip(few, scores, strict=True)
    ]
    return Profile(
        model=profile.model,
        answered_by=profile.answered_by,
        scorer=profile.scorer,
        confidence_model=profile.confidence_model,
        calibrator=calibrator,
        domain=Domain.of([answer.facts for answer in few]),
        is_general=profile.is_general,
        certified=(),
        reference=distributions(seen) if len(few) >= _LEAST_REFERENCE else {},
        states=ReferenceStates.of(observations, observations, profile.making.seed),
        report={},
        making=Making(
            library=__version__,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            questions=making.questions,
            questions_sha256=making.questions_sha256,
            judge=making.judge,
            correct=right,
            answers=len(few),
            parts={"fit": len(few), "certify": 0, "report": 0},
            seed=profile.making.seed,
            generation=making.generation,
            adapted_from=profile.digest,
        ),
    )


def _stops(made: Mapping[str, JsonValue]) -> tuple[str, ...]:
    stop = made.get("stop")
    return tuple(map(str, stop)) if isinstance(stop, list | tuple) else ()


@dataclass(frozen=True, slots=True)
class _Line:
    """Intercept and slope, and the inverse of the curvature there (Laplace)."""

    intercept: float
    slope: float
    variances: tuple[float, float, float]


def _fit(away: Sequence[float], correct: Sequence[bool], centre: float) -> _Line:
    """Penalised logistic regression on one column, by Newton steps of which none may make it worse."""
    intercept, slope = centre, 1.0

    def loss(intercept: float, slope: float) -> float:
        penalty = ((intercept - centre) / _SHIFT) ** 2 / 2 + ((slope - 1) / _SLOPE) ** 2 / 2
        logits = (intercept + slope * x for x in away)
        return penalty + sum(
            _softplus(-logit if right else logit) for logit, right in zip(logits, correct, strict=True)
        )

    for _ in range(_MOST_STEPS):
        gradient, curvature = _derivatives(away, correct, intercept, slope, centre)
        (a, b, c), (down, across) = curvature, gradient
        of_intercept, of_slope = (
            (c * down - b * across) / (a * c - b * b),
            (a * across - b * down) / (a * c - b * b),
        )
        now, size = loss(intercept, slope), 1.0
        while size > _SMALLEST and loss(intercept - size * of_intercept, slope - size * of_slope) > now:
            size /= 2
        intercept, slope = intercept - size * of_intercept, slope - size * of_slope
        if max(abs(of_intercept), abs(of_slope)) < _SMALLEST:
            break
    (a, b, c) = _derivatives(away, correct, intercept, slope, centre)[1]
    return _Line(intercept, slope, (c / (a * c - b * b), -b / (a * c - b * b), a / (a * c - b * b)))


def _derivatives(
    away: Sequence[float], correct: Sequence[bool], intercept: float, slope: float, centre: float
) -> tuple[tuple[float, float], tuple[float, float, float]]:
    """Gradient and second derivatives (of intercept, of both, of slope) of the loss."""
    first = [(intercept - centre) / _SHIFT**2, (slope - 1) / _SLOPE**2]
    second = [1 / _SHIFT**2, 0.0, 1 / _SLOPE**2]
    for x, right in zip(away, correct, strict=True):
        chance = exp(-_softplus(-(intercept + slope * x)))
        weight = chance * (1 - chance)
        first[0] += chance - right
        first[1] += (chance - right) * x
        second[0] += weight
        second[1] += weight * x
        second[2] += weight * x * x
    return (first[0], first[1]), (second[0], second[1], second[2])


def _softplus(x: float) -> float:
    """Natural logarithm of 1 + eˣ."""
    return max(x, 0.0) + log1p(exp(-abs(x)))
