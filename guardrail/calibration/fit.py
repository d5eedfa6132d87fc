"""Fit a profile on labelled answers: confidence model, calibrator, report and reference distributions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from guardrail import __version__
from guardrail.calibration.calibrators import Calibrator, ReferenceDistribution, VennAbers
from guardrail.calibration.certify import KindOfAnswers, certify, certify_kinds
from guardrail.calibration.confidence import ConfidenceModel
from guardrail.calibration.cross_fitting import FOLDS, CrossFit, select
from guardrail.calibration.domain import Domain, Unit
from guardrail.calibration.features import Inputs, available, read_inputs
from guardrail.calibration.fit_calibrators import MOST_SCORES
from guardrail.calibration.held_out import HeldOut
from guardrail.calibration.making import Making
from guardrail.calibration.options import FitOptions, MakingSource, Shares
from guardrail.calibration.profile import CertifiedThreshold, Profile
from guardrail.calibration.reference_states import ReferenceStates
from guardrail.calibration.semantic_token_choice import difference_from_expected, with_chosen_token
from guardrail.calibration.splits import Parts, draw, group_numbers, split
from guardrail.calibration.threshold_search import plan
from guardrail.errors import CalibrationError
from guardrail.labelling.answer_facts import SINGLE_QUESTION, AnswerFacts
from guardrail.labelling.answers import LabelledAnswer
from guardrail.metrics import Figure
from guardrail.metrics.confidence_quality import (
    auprc,
    aurc,
    auroc,
    bin_count,
    brier,
    brier_base_rate,
    brier_skill,
    ece,
    ece_if_calibrated,
    prr,
)
from guardrail.metrics.intervals import LEVEL, RESAMPLES, FloatArray, Metric, checked, measure, share
from guardrail.models.fingerprint import ModelFingerprint
from guardrail.scoring.options import ScorerFingerprint
from guardrail.scoring.uncertainty import Observation

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
    kinds: Sequence[str] = (),
    seed: int = 0,
) -> dict[str, Any]:
    """Compute all figures on answers that nothing was fitted or certified on.

    Every figure is ``{"value", "low", "high", "n"}``, with a ``reason`` if the value or interval is None.
    Shares of answers (``accuracy``, and ``coverage`` and ``error`` of a threshold) have exact binomial
    intervals; ``ece_if_calibrated`` has the middle range of chance; all others are bootstrapped.

    Args:
        confidences: Probabilities of being correct, 0 to 1, for the ECE and Brier score.
        scores: Confidence scores, to which thresholds apply, for AUROC, AUPRC, AURC and PRR.
        correct: Whether each answer was judged correct.
        certified: Thresholds to measure; those for a kind on the answers of that kind.
        kinds: Kind of each answer; by default none has one.
        seed: Seed of the bootstrap and the draws by chance.

    Returns:
        ``n``, ``correct``, ``method`` (of the intervals), each figure by its name, and ``certified``: for
        each threshold ``max_error``, ``confidence``, ``threshold``, ``coverage``, ``error``, ``accepted`` and
        ``errors``, and ``kind`` if it is for one.

    Raises:
        CalibrationError: There are no answers, the lengths differ, or a value is not a number.
    """
    ranks, right = checked(scores, correct)
    probabilities, _ = checked(confidences, correct)
    of_kind = np.array(kinds or [""] * len(right))
    if ((probabilities < 0) | (probabilities > 1)).any():
        raise CalibrationError("Every confidence must be a probability from 0 to 1.")
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
        "certified": [
            _at(one, ranks[here], right[here])
            for one in certified
            for here in [of_kind == one.kind if one.kind else slice(None)]
        ],
    }


def _at(one: CertifiedThreshold, scores: FloatArray, right: "NDArray[np.bool_]") -> dict[str, Any]:
    plain: dict[str, Any] = {"kind": one.kind} if one.kind else {}
    plain |= {
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
        "error": share(wrong, none="no held-out answer is accepted").as_plain(),
        "accepted": int(accepted.sum()),
        "errors": int(wrong.sum()),
    }


# Enough to give a quantile to a thousandth, while the file stays readable.
_MOST_VALUES = 1000


def distributions(scores: Sequence[Mapping[str, float]]) -> dict[str, ReferenceDistribution]:
    """The distribution of each score over these answers, by name.

    Values that are not finite are left out, and so are scores without any finite value.
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
    """A profile, and the data for its report.

    Attributes:
        profile: The profile.
        held_out: The answers that nothing was fitted or certified on.
        notes: Remarks for whoever made the profile, in sentences.
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
        answers: Answers of one model, scored in one way.
        model: The model that scored them.
        scorer: How they were scored.
        making: Where they came from.
        options: Inputs, calibrator and guarantees.
        answered_by: Author of the answers, if not the model.

    Raises:
        CalibrationError: There are too few, all are right or all wrong, or data to fit on is missing.
    """
    options = options or FitOptions()
    correct = np.array([answer.correct for answer in answers], dtype=bool)
    parts = split(answers, options.shares, options.seed)
    answers, chosen = with_chosen_token(answers, parts.fit, options.seed)
    if chosen is not None and chosen.position != chosen.expected:
        scorer = replace(scorer, semantic_token=chosen.position)
    # Inputs that every answer has, in any part; labels are not looked at.
    inputs = read_inputs([answer.observation for answer in answers], [answer.kind for answer in answers])
    learned = _learn(inputs.take(parts.fit), [answers[at] for at in parts.fit], options)

    def judged(part: NDArray[np.int64]) -> HeldOut:
        scores = [learned.model.score(answers[at].observation) for at in part]
        confidences = [learned.calibrator.probability(score) for score in scores]
        return HeldOut(tuple(scores), tuple(confidences), tuple(correct[part].tolist()))

    certifying, held_out = judged(parts.certify), judged(parts.report)
    search = plan(learned.scores.tolist(), correct[parts.fit].tolist(), seed=options.seed)
    certified = tuple(
        certify(certifying.scores, certifying.correct, guarantee, search) for guarantee in options.guarantees
    )
    kinds = np.array([answer.kind if options.by_kind else "" for answer in answers])
    if options.by_kind:
        of_kinds = _by_kind(kinds, parts, certifying, learned.scores, correct, options)
        certified += tuple(one for each in options.guarantees for one in certify_kinds(of_kinds, each))
    unseen = [
        {**answers[at].observation.scores, "confidence": confidence, "confidence_score": score}
        for part, judgement in ((parts.certify, certifying), (parts.report, held_out))
        for at, score, confidence in zip(part, judgement.scores, judgement.confidences, strict=True)
    ]
    domain = Domain.of([answer.facts for answer in answers])
    # As with traffic: an answer that lies outside is not compared.
    compared = [at for at in (*parts.certify, *parts.report) if not domain.differences(answers[at].facts)]
    states = ReferenceStates.of(
        [answers[at].observation for at in parts.fit],
        [answers[at].observation for at in compared],
        options.seed,
    )
    profile = Profile(
        model=model,
        answered_by=answered_by,
        scorer=scorer,
        confidence_model=learned.model,
        calibrator=learned.calibrator,
        domain=domain,
        unit=options.unit,
        is_general=options.is_general,
        certified=certified,
        reference=distributions(unseen),
        states=states,
        report=summarise(
            held_out.confidences,
            held_out.scores,
            held_out.correct,
            certified,
            kinds=kinds[parts.report].tolist(),
            seed=options.seed,
        ),
        making=_making(
            making,
            correct=int(correct.sum()),
            answers=len(answers),
            parts={name: len(part) for name, part in parts._asdict().items()},
            seed=options.seed,
            candidates=learned.candidates,
            semantic_token=chosen,
        ),
    )
    notes = _notes(options, inputs, parts, learned, len(answers))
    return Fitted(profile, held_out, (*notes, *difference_from_expected(chosen)))


def reference_profile(
    observations: Sequence[Observation],
    *,
    model: ModelFingerprint,
    scorer: ScorerFingerprint,
    making: MakingSource,
    facts: Sequence[AnswerFacts] = (),
    answered_by: str | None = None,
    unit: Unit = "answer",
) -> Profile:
    """Make a profile from unlabelled answers: it knows which scores are usual, but gives no confidence.

    Args:
        observations: What a pass tells of each answer.
        model: The model that scored them.
        scorer: How they were scored.
        making: Where they came from.
        facts: How each came about; by default all answer single questions.
        answered_by: Author of the answers, if not the model.
        unit: What is observed: whole answers or sentences.

    Raises:
        CalibrationError: There are no answers, or none has a finite score.
    """
    reference = distributions([observation.scores for observation in observations])
    if not reference:
        raise CalibrationError("No answer has a finite score, so there is no reference.")
    parts = {"fit": 0, "certify": 0, "report": len(observations)}
    every = np.random.default_rng([0, 3]).permutation(len(observations))
    scaling, kept = np.split(every, [round(Shares().fit * len(observations))])
    return Profile(
        model=model,
        answered_by=answered_by,
        scorer=scorer,
        confidence_model=None,
        calibrator=None,
        domain=Domain.of(facts or [SINGLE_QUESTION] * len(observations)),
        unit=unit,
        certified=(),
        reference=reference,
        states=ReferenceStates.of(
            [observations[at] for at in scaling], [observations[at] for at in kept], seed=0
        ),
        report={},
        making=_making(making, correct=0, answers=0, parts=parts, seed=0),
    )


class _Learned(NamedTuple):
    """What was fitted on the fitting part, and the out-of-fold score of each of its answers."""

    model: ConfidenceModel
    calibrator: Calibrator
    scores: NDArray[np.float64]
    candidates: tuple[dict[str, Any], ...]


def _learn(inputs: Inputs, answers: Sequence[LabelledAnswer], options: FitOptions) -> _Learned:
    correct = np.array([answer.correct for answer in answers], dtype=bool)
    groups = group_numbers(answers)
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


def _by_kind(
    kinds: NDArray[np.str_],
    parts: Parts,
    certifying: HeldOut,
    fitted: FloatArray,
    correct: BoolArray,
    options: FitOptions,
) -> dict[str, KindOfAnswers]:
    """The certify part's answers of each kind that is named in any part; labels are not looked at."""
    named = sorted({*kinds.tolist()} - {""})
    if not named:
        raise CalibrationError(f"No line names its kind: none has a field {options.by_kind!r}.")
    score, right = np.array(certifying.scores), np.array(certifying.correct)

    def answers_of(kind: str) -> KindOfAnswers:
        here, learned = kinds[parts.certify] == kind, kinds[parts.fit] == kind
        search = plan(fitted[learned].tolist(), correct[parts.fit][learned].tolist(), seed=options.seed)
        return KindOfAnswers(score[here].tolist(), right[here].tolist(), search)

    return {kind: answers_of(kind) for kind in named}


def _making(source: MakingSource, **values: Any) -> Making:
    return Making(
        # From the version module: importing the package itself would reach rooms above this one.
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
            f"{left_out} answers were left out: for certifying and reporting, only one answer of each "
            f"question or group counts."
        )
    if options.inputs == "auto" and inputs.hidden is None:
        notes.append("No probe was tried: not every answer has a hidden state at the same depth.")
    calibrator = learned.calibrator
    if isinstance(calibrator, VennAbers) and len(calibrator.scores) == MOST_SCORES < len(parts.fit):
        notes.append(f"The calibrator was thinned to {MOST_SCORES:,} scores.")
    return notes
