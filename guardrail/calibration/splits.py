"""Split labelled answers into disjoint parts and folds, and reproduce the split of an earlier profile."""

from collections.abc import Iterable, Sequence
from math import ceil, isclose
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from guardrail.calibration.held_out import HeldOutAnswer
from guardrail.calibration.options import Shares
from guardrail.calibration.profile import Profile
from guardrail.errors import CalibrationError, ForeignProfileError
from guardrail.labelling.answers import AnswerRecord
from guardrail.labelling.provenance import Author
from guardrail.metrics import Figure, figure_of
from guardrail.metrics.confidence_quality import auroc, brier

__all__ = ["Parts", "check_number", "draw", "question_groups", "redraw", "split"]


IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

# Minimum sizes of the parts.
_LEAST = Shares(fit=40, certify=40, report=20)
# Right and wrong questions needed in the fitting part, so that every fold can learn from others.
_LEAST_OF_EACH = 8


class Parts(NamedTuple):
    """Positions of the answers in each part.

    ``certify`` is drawn without looking at labels, so that its answers are independent of the others, as the
    guarantee requires; ``fit`` and ``report`` share the rest, stratified by correctness. ``fit`` may have
    several answers to one question; the other two have one per question, because certification and report
    count answers as independent.

    """

    fit: IntArray
    certify: IntArray
    report: IntArray


def split(questions: Sequence[str], correct: Sequence[bool], shares: Shares, seed: int) -> Parts:
    """Draw the parts.

    Args:
        questions: Text of each answer's question; answers to the same question go to the same part. Empty
            texts are all different questions.
        correct: Whether each answer is correct.
        shares: Share of the questions for each part.
        seed: Seed of the draw.

    Raises:
        CalibrationError: There are too few answers, or too few right or wrong ones.
    """
    groups, right = question_groups(questions), np.asarray(correct, dtype=bool)
    _check_enough(groups, right, shares)
    random = np.random.default_rng(seed)
    alike = np.ones(len(groups), dtype=bool)
    certify = draw(groups, alike, (shares.certify, shares.fit + shares.report), random) == 0
    rest = np.flatnonzero(~certify)
    reported = draw(groups[rest], right[rest], (shares.fit, shares.report), random) == 1
    shuffled = random.permutation(len(groups))
    _, first = np.unique(groups[shuffled], return_index=True)
    one_each = np.zeros(len(groups), dtype=bool)
    one_each[shuffled[first]] = True
    report = rest[reported]
    return Parts(rest[~reported], np.flatnonzero(certify & one_each), report[one_each[report]])


def draw(
    groups: IntArray, correct: BoolArray, shares: Sequence[float], random: np.random.Generator
) -> IntArray:
    """Draw a part for each answer: whole groups, stratified by correctness, sized by ``shares``."""
    ids, place = np.unique(groups, return_inverse=True)
    # 0: all answers of the group are wrong, 2: all are right, 1: some of each.
    stratum = (np.bincount(place, correct) > 0).astype(int) + (np.bincount(place, ~correct) == 0)
    sizes = np.bincount(place)
    ends = np.cumsum(shares) / np.sum(shares)
    part = np.zeros(len(ids), dtype=np.int64)
    for kind in range(3):
        members = random.permutation(np.flatnonzero(stratum == kind))
        filled = np.cumsum(sizes[members])
        middle = filled - sizes[members] / 2
        part[members] = np.searchsorted(ends[:-1] * filled[-1:].sum(), middle, side="right")
    drawn: IntArray = part[place]
    return drawn


def question_groups(questions: Sequence[str]) -> IntArray:
    """A number for each question; texts that differ only in case and spaces are the same question."""
    known: dict[str, int] = {}
    texts = (" ".join(question.split()).casefold() for question in questions)
    return np.array(
        [known.setdefault(text or f"\0{at}", at) for at, text in enumerate(texts)], dtype=np.int64
    )


def check_number(questions: int, shares: Shares) -> None:
    """Check, before answering them, that this many questions can be enough.

    Raises:
        CalibrationError: There are too few, whatever the answers are.
    """
    needed = max(ceil(least / share - 1e-9) for least, share in zip(_LEAST, shares, strict=True))
    if questions < needed:
        raise CalibrationError(
            f"{questions} answered questions are too few to fit, certify and report on different ones; at "
            f"least "
            f"{needed} are needed."
        )


def _check_enough(groups: IntArray, correct: BoolArray, shares: Shares) -> None:
    asked = len(np.unique(groups))
    counts = {"correct": len(np.unique(groups[correct])), "wrong": len(np.unique(groups[~correct]))}
    for kind, count in counts.items():
        if asked and not count:
            other = next(name for name in counts if name != kind)
            raise CalibrationError(
                f"All {len(groups)} answers were judged {other}: nothing can be learned about {kind} ones. "
                f"Check the judge, or take {'harder' if kind == 'wrong' else 'easier'} questions."
            )
    check_number(asked, shares)
    least = ceil(_LEAST_OF_EACH / shares.fit - 1e-9)
    for kind, count in counts.items():
        if count < least:
            raise CalibrationError(
                f"{count} of {asked} questions have a {kind} answer, but at least {least} are needed: about "
                f"{ceil(asked * least / count)} questions like these."
            )


_REMEDY = "Make the profile again from these answers (guardrail calibrate), then its held-out answers."


def redraw(profile: Profile, records: Iterable[AnswerRecord]) -> tuple[HeldOutAnswer, ...]:
    """Repeat the split with the profile's seed, and return the part that was neither fitted nor certified on.

    Only the answers that the profile was made from, with their labels of that time, reproduce the figures of
    its report. Anything else is refused, so that no answer it was fitted on can pass for a held-out one.

    Args:
        profile: The profile; its parts must have the default shares.
        records: The answers it was made from.

    Raises:
        ForeignProfileError: The answers are from another model, or scored in another way.
        CalibrationError: They are not the answers it was made from, or it was made without labels.
    """
    if not profile.is_calibrated:
        raise CalibrationError("The profile was made without labels, so no part was held out.")
    labelled = sorted((one for one in records if one.correct is not None), key=lambda record: record.digest)
    if labelled:
        made = labelled[0].provenance
        profile.check(made.model, made.scorer)
        author = Author(made.answered_by) if made.answered_by else None
        if outside := profile.outside_domain(author, made.model.name):
            raise ForeignProfileError(f"These are not the profile's answers: {outside}.", ["answered_by"])
    correct = [bool(record.correct) for record in labelled]
    making = profile.making
    if (len(labelled), sum(correct)) != (making.answers, making.correct):
        raise CalibrationError(
            f"The profile was made from {making.answers:,} answers, {making.correct:,} of them right, but "
            f"these are "
            f"{len(labelled):,} with {sum(correct):,} right, so it is unknown which were held out. "
            f"{_REMEDY}"
        )
    parts = split([record.question for record in labelled], correct, Shares(), making.seed)
    answers = tuple(_held_out(profile, labelled[at]) for at in parts.report)
    if not _is_reported_on(profile, answers):
        raise CalibrationError(
            "These answers do not reproduce the figures of the profile's report: their labels, or the way of "
            f"splitting, have changed since, so it is unknown which were held out. {_REMEDY}"
        )
    return answers


def _held_out(profile: Profile, record: AnswerRecord) -> HeldOutAnswer:
    assessment = profile.assess(record.observation)
    if assessment.confidence is None or assessment.confidence_score is None:
        raise CalibrationError("The profile gives no confidence.")
    return HeldOutAnswer(
        question=record.question,
        response=record.response,
        correct=bool(record.correct),
        finish_reason=record.finish_reason,
        confidence=assessment.confidence,
        confidence_score=assessment.confidence_score,
        scores=dict(record.observation.scores),
    )


def _is_reported_on(profile: Profile, answers: tuple[HeldOutAnswer, ...]) -> bool:
    correct = [one.correct for one in answers]
    measured = {
        "auroc": float(auroc([one.confidence_score for one in answers], correct)),
        "brier": float(brier([one.confidence for one in answers], correct)),
    }
    reported = {name: figure_of(profile.report, name) for name in measured}
    return len(answers) == profile.making.parts.get("report") and all(
        _is_same(measured[name], figure) for name, figure in reported.items()
    )


def _is_same(value: float, figure: Figure | None) -> bool:
    return figure is not None and figure.value is not None and isclose(value, figure.value, rel_tol=1e-9)
