"""A Profile from labelled answers: what is fitted, its report, and its reference distributions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from guardrail.calibration.calibrators import Calibrator, VennAbers
from guardrail.calibration.certify import certify
from guardrail.calibration.confidence import ConfidenceModel
from guardrail.calibration.cross_fitting import FOLDS, CrossFit, select
from guardrail.calibration.features import Inputs, available, read_inputs
from guardrail.calibration.fit_calibrators import MOST_SCORES
from guardrail.calibration.fit_options import FitOptions, MakingSource
from guardrail.calibration.held_out import HeldOut
from guardrail.calibration.profile import CertifiedThreshold, Making, Profile
from guardrail.calibration.reference_distribution import ReferenceDistribution
from guardrail.calibration.splits import Parts, draw, question_groups, split
from guardrail.calibration.threshold_search import plan
from guardrail.errors import CalibrationError
from guardrail.labelling.answers import LabelledAnswer
from guardrail.labelling.observation import Observation
from guardrail.metrics.figure import Figure
from guardrail.metrics.intervals import LEVEL, RESAMPLES, FloatArray, Metric, checked, measure, share
from guardrail.metrics.ranking import auprc, aurc, auroc, prr
from guardrail.metrics.reliability import (
    bin_count,
    brier,
    brier_base_rate,
    brier_skill,
    ece,
    ece_if_calibrated,
)
from guardrail.models.fingerprint import ModelFingerprint
from guardrail.scoring.options import ScorerFingerprint
from guardrail.version import __version__

__all__ = ["Fitted", "distributions", "fit_profile", "reference_profile", "summarise"]


_OF_SCORES: dict[str, Metric] = {"auroc": auroc, "auprc": auprc, "aurc": aurc, "prr": prr}
_OF_CONFIDENCES: dict[str, Metric] = {
    "ece": ece,
    "brier": brier,
    "brier_base_rate": brier_base_rate,
    "brier_skill": brier_skill,
}


def summarise(
    confidences: Sequence[float],
    scores: Sequence[float],
    correct: Sequence[bool],
    certified: Sequence[CertifiedThreshold] = (),
    *,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure everything on answers that nothing was fitted or certified on.

    Every figure is ``{"value", "low", "high", "n"}``, with a ``reason`` where the value or the interval is
    None. Shares of answers (``accuracy``, and ``coverage`` and ``error`` of a threshold) have exact binomial
    intervals; ``ece_if_calibrated`` has the middle of what chance gives; all others are bootstrapped.

    Args:
        confidences: Probabilities of being correct, 0 to 1: what the ECE and Brier score are of.
        scores: Confidence scores, which thresholds apply to: what AUROC, AUPRC, AURC and PRR are of.
        correct: Whether each answer was judged correct.
        certified: Thresholds to measure.
        seed: Of the bootstrap and of the draws by chance.

    Returns:
        ``n``, ``correct``, ``method`` (of the intervals), each figure by its name, and ``certified``: for
        each threshold ``max_error``, ``confidence``, ``threshold``, ``coverage``, ``error``, ``accepted`` and
        ``errors``.

    Raises:
        CalibrationError: There are no answers, not as many of each, or something is not a number.
    """
    ranks, right = checked(scores, correct)
    probabilities, _ = checked(confidences, correct)
    if ((probabilities < 0) | (probabilities > 1)).any():
        raise CalibrationError("A confidence is a probability, from 0 to 1; there are others.")
    figures = {"accuracy": share(right)}
    figures |= {name: measure(metric, ranks, right, seed=seed) for name, metric in _OF_SCORES.items()}
    figures |= {
        name: measure(metric, probabilities, right, seed=seed) for name, metric in _OF_CONFIDENCES.items()
    }
    figures["ece_if_calibrated"] = ece_if_calibrated(probabilities, seed=seed)
    return {
        "n": len(right),
        "correct": int(right.sum()),
        "method": {
            "level": LEVEL,
            "resamples": RESAMPLES,
            "seed": seed,
            "ece_bins": bin_count(len(right)),
        },
        **{name: figure.as_plain() for name, figure in figures.items()},
        "certified": [_at(one, ranks, right) for one in certified],
    }


def _at(one: CertifiedThreshold, scores: FloatArray, right: "NDArray[np.bool_]") -> dict[str, Any]:
    plain: dict[str, Any] = {
        "max_error": one.max_error,
        "confidence": one.confidence,
        "threshold": one.threshold,
    }
    if one.threshold is None:
        none = Figure(value=None, low=None, high=None, n=len(scores), reason=one.reason).as_plain()
        return {**plain, "coverage": none, "error": none, "accepted": 0, "errors": 0}
    accepted = scores >= one.threshold
    wrong = ~right[accepted]
    return {
        **plain,
        "coverage": share(accepted).as_plain(),
        "error": share(wrong, none="no held-out answer is let through").as_plain(),
        "accepted": int(accepted.sum()),
        "errors": int(wrong.sum()),
    }


# A quantile is told to a thousandth, and the file stays readable.
_MOST_VALUES = 1000


def distributions(scores: Sequence[Mapping[str, float]]) -> dict[str, ReferenceDistribution]:
    """The distribution of each score over these answers, by its name.

    A value that is no finite number is left out, and so is a score without any.
    """
    names = dict.fromkeys(name for one in scores for name in one)
    columns = {name: np.sort([one[name] for one in scores if name in one]) for name in names}
    finite = {name: values[np.isfinite(values)] for name, values in columns.items()}
    return {name: _distribution(values) for name, values in finite.items() if len(values)}


def _distribution(values: "np.typing.NDArray[np.float64]") -> ReferenceDistribution:
    n = len(values)
    if n > _MOST_VALUES:
        values = values[((np.arange(_MOST_VALUES) + 0.5) * n / _MOST_VALUES).astype(int)]
    return ReferenceDistribution(n=n, values=tuple(values.tolist()))


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
