"""A Profile from labelled answers, or a plainer one from answers that nobody judged."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from guardrail.calibration.answers import LabelledAnswer
from guardrail.calibration.calibrators import Calibrator, VennAbers
from guardrail.calibration.certify import certify, plan
from guardrail.calibration.confidence import ConfidenceModel, Observation
from guardrail.calibration.fitting.calibrators import MOST_SCORES
from guardrail.calibration.fitting.cross_fitting import FOLDS, CrossFit
from guardrail.calibration.fitting.inputs import Inputs, available, read_inputs
from guardrail.calibration.fitting.options import FitOptions, MakingSource
from guardrail.calibration.fitting.reference import distributions
from guardrail.calibration.fitting.selection import select
from guardrail.calibration.fitting.split import Parts, draw, question_groups, split
from guardrail.calibration.metrics import summarise
from guardrail.calibration.profile import Making, Profile
from guardrail.calibration.report.held_out import HeldOut
from guardrail.errors import CalibrationError
from guardrail.models.fingerprint import ModelFingerprint
from guardrail.scoring.fingerprint import ScorerFingerprint
from guardrail.version import __version__

__all__ = ["Fitted", "fit_profile", "reference_profile"]

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Fitted:
    """A profile, and what a report of it is drawn from.

    Attributes:
        profile: The profile.
        held_out: The answers that nothing was fitted or certified on.
        notes: What the one who made it should know, in sentences.
    """

    profile: Profile
    held_out: HeldOut
    notes: tuple[str, ...] = ()


def fit_profile(
    answers: Sequence[LabelledAnswer],
    *,
    model: ModelFingerprint,
    scorer: ScorerFingerprint,
    making: MakingSource,
    options: FitOptions | None = None,
    answered_by: str | None = None,
) -> Fitted:
    """Fit, certify and report on disjoint parts of labelled answers.

    Args:
        answers: Answers of one model, scored one way.
        model: The model that scored them.
        scorer: The way.
        making: Where they came from.
        options: What the profile is to be made of, and what thresholds are wanted.
        answered_by: Who gave the answers, if it was not the model.

    Raises:
        CalibrationError: They are too few, all of one kind, or lack what is to be fitted on.
    """
    options = options or FitOptions()
    correct = np.array([answer.correct for answer in answers], dtype=bool)
    questions = [answer.question for answer in answers]
    parts = split(questions, correct.tolist(), options.shares, options.seed)
    # What every answer has, whichever part it is in; no label is looked at.
    inputs = read_inputs([answer.observation for answer in answers])
    learned = _learn(inputs.take(parts.fit), correct[parts.fit], [questions[at] for at in parts.fit], options)

    def judged(part: NDArray[np.int64]) -> HeldOut:
        scores = [learned.model.score(answers[at].observation) for at in part]
        confidences = [learned.calibrator.probability(score) for score in scores]
        return HeldOut(tuple(scores), tuple(confidences), tuple(correct[part].tolist()))

    certifying, held_out = judged(parts.certify), judged(parts.report)
    search = plan(learned.scores.tolist(), correct[parts.fit].tolist(), seed=options.seed)
    certified = tuple(
        certify(certifying.scores, certifying.correct, guarantee, search) for guarantee in options.guarantees
    )
    unseen = [
        {**answers[at].observation.scores, "confidence": confidence, "confidence_score": score}
        for part, judgement in ((parts.certify, certifying), (parts.report, held_out))
        for at, score, confidence in zip(part, judgement.scores, judgement.confidences, strict=True)
    ]
    profile = Profile(
        model=model,
        answered_by=answered_by,
        scorer=scorer,
        confidence_model=learned.model,
        calibrator=learned.calibrator,
        certified=certified,
        reference=distributions(unseen),
        report=summarise(
            held_out.confidences, held_out.scores, held_out.correct, certified, seed=options.seed
        ),
        making=_making(
            making,
            correct=int(correct.sum()),
            answers=len(answers),
            parts={name: len(part) for name, part in parts._asdict().items()},
            seed=options.seed,
            candidates=learned.candidates,
        ),
    )
    return Fitted(profile, held_out, tuple(_notes(options, inputs, parts, learned, len(answers))))


def reference_profile(
    observations: Sequence[Observation],
    *,
    model: ModelFingerprint,
    scorer: ScorerFingerprint,
    making: MakingSource,
    answered_by: str | None = None,
) -> Profile:
    """Make a profile of answers that nobody judged: it knows what scores are usual, and no confidence.

    Raises:
        CalibrationError: There are no answers, or none has a score that is a number.
    """
    reference = distributions([observation.scores for observation in observations])
    if not reference:
        raise CalibrationError("No answer has a score that is a number, so there is nothing to refer to.")
    parts = {"fit": 0, "certify": 0, "report": len(observations)}
    return Profile(
        model=model,
        answered_by=answered_by,
        scorer=scorer,
        confidence_model=None,
        calibrator=None,
        certified=(),
        reference=reference,
        report={},
        making=_making(making, correct=0, answers=0, parts=parts, seed=0),
    )


class _Learned(NamedTuple):
    """What the fitting part taught, and the score of each of its answers by what was fitted without it."""

    model: ConfidenceModel
    calibrator: Calibrator
    scores: NDArray[np.float64]
    candidates: tuple[dict[str, Any], ...]


def _learn(inputs: Inputs, correct: BoolArray, questions: Sequence[str], options: FitOptions) -> _Learned:
    groups = question_groups(questions)
    fold = draw(groups, correct, [1] * FOLDS, np.random.default_rng([options.seed, 1]))
    fits = {kind: CrossFit(kind, inputs, correct, fold) for kind in available(inputs, options.inputs)}
    chosen = select(fits, options.calibrator, correct, groups)
    fit = fits[chosen.inputs]
    return _Learned(
        model=fit.final().as_model(chosen.inputs, inputs),
        calibrator=fit.calibrator(chosen.calibrator),
        scores=fit.predictions(chosen.calibrator).scores,
        candidates=chosen.figures,
    )


def _making(source: MakingSource, **values: Any) -> Making:
    return Making(
        # By name: the package's own door leads to every room, also those above this one.
        library=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        questions=source.questions,
        questions_sha256=source.questions_sha256,
        judge=source.judge,
        generation=source.generation,
        **values,
    )


def _notes(options: FitOptions, inputs: Inputs, parts: Parts, learned: _Learned, answers: int) -> list[str]:
    notes = []
    left_out = answers - sum(map(len, parts))
    if left_out:
        notes.append(
            f"{left_out} answers were left out: to certify and report on, one answer to each question counts."
        )
    if options.inputs == "auto" and inputs.hidden is None:
        notes.append("No probe was tried: not every answer has a hidden state at the same depth.")
    calibrator = learned.calibrator
    if isinstance(calibrator, VennAbers) and len(calibrator.scores) == MOST_SCORES < len(parts.fit):
        notes.append(f"The calibrator was thinned out to {MOST_SCORES:,} scores.")
    return notes
