"""Split labelled answers into disjoint parts and folds, and reproduce the split of an earlier profile."""

from collections.abc import Iterable, Sequence
from hashlib import sha256
from math import ceil, isclose
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from guardrail.calibration.held_out import HeldOutAnswer
from guardrail.calibration.options import Shares
from guardrail.calibration.profile import PARTS, Profile
from guardrail.errors import CalibrationError, ForeignProfileError
from guardrail.labelling.answers import AnswerRecord, LabelledAnswer
from guardrail.labelling.provenance import Author
from guardrail.metrics import Figure, figure_of
from guardrail.metrics.confidence_quality import auroc, brier

__all__ = [
    "Parts",
    "check_number",
    "draw",
    "group_names",
    "group_numbers",
    "one_of_each",
    "part_of",
    "question_groups",
    "redraw",
    "split",
]


IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

# Sizes of the parts that are asked for on average. Their sizes vary by chance; less than the second is too
# little to learn, certify or report anything from.
_EXPECTED = Shares(fit=40, certify=40, report=20)
_LEAST = Shares(fit=25, certify=25, report=10)
# Right and wrong questions needed in the fitting part, so that every fold can learn from others, and how many
# are asked for on average.
_LEAST_OF_EACH, _EXPECTED_OF_EACH = 8, 12


class Parts(NamedTuple):
    """Positions of the answers in each part.

    A group of answers (see :func:`group_names`) has a part for ever, drawn by a hash of its name: further
    labels are added to the parts, and move none that are there, so that what was fitted on never certifies.
    Labels have no say in it, and the answers of ``certify`` are independent of the others, as the guarantee
    requires.

    ``fit`` may have several answers of one group. The other two have one of each, the first by a hash,
    because exact bounds and intervals count answers as independent.

    """

    fit: IntArray
    certify: IntArray
    report: IntArray


def split(answers: Sequence[LabelledAnswer], shares: Shares, seed: int) -> Parts:
    """Find the part of each answer.

    Args:
        answers: The answers.
        shares: Share of the groups for each part.
        seed: Seed of the draw. Another seed, like other shares, draws all parts anew.

    Raises:
        CalibrationError: There are too few answers, or too few right or wrong ones.
    """
    names = group_names(answers)
    right = np.array([answer.correct for answer in answers], dtype=bool)
    groups = _numbers(names)
    place = np.array([part_of(name, shares, seed) for name in names], dtype=np.int64)
    _check_enough(groups, right, place, shares)
    one_each = np.zeros(len(answers), dtype=bool)
    one_each[one_of_each(answers)] = True
    return Parts(*(np.flatnonzero((place == at) & (one_each | (at == 0))) for at in range(len(PARTS))))


def one_of_each(answers: Sequence[LabelledAnswer]) -> list[int]:
    """Positions of one answer of each group, in order: of several the first by a hash."""
    first: dict[str, int] = {}
    names = group_names(answers)
    for at in sorted(range(len(answers)), key=lambda at: _digest(answers[at])):
        first.setdefault(names[at], at)
    return sorted(first.values())


def part_of(group: str, shares: Shares, seed: int) -> int:
    """Position in ``PARTS`` of the part of a group: by a hash of its name and the seed alone."""
    digest = sha256(f"{seed}\n{group}".encode("utf-8", "surrogatepass")).digest()
    # 53 bits, so that as a float it stays below 1.
    drawn = (int.from_bytes(digest[:8], "big") >> 11) / 2**53
    fit, certify, _ = shares
    return 0 if drawn < fit else 1 if drawn < fit + certify else 2


def group_names(answers: Sequence[LabelledAnswer]) -> list[str]:
    """The name of each answer's group.

    Answers of one ``group`` belong together; without one, answers to one question do, whose texts may differ
    in case and spaces. An answer without either is alone.
    """
    return [_group_name(answer) for answer in answers]


def group_numbers(answers: Sequence[LabelledAnswer]) -> IntArray:
    """A number for each answer's group."""
    return _numbers(group_names(answers))


def question_groups(questions: Sequence[str]) -> IntArray:
    """A number for each question; texts that differ only in case and spaces are the same question."""
    return _numbers([_normalised(question) or f"\0{at}" for at, question in enumerate(questions)])


def _group_name(answer: LabelledAnswer) -> str:
    # The first word keeps a group and a question of the same text apart.
    if answer.group:
        return f"group\n{answer.group}"
    if question := _normalised(answer.question):
        return f"question\n{question}"
    return f"answer\n{_digest(answer)}\n{sorted(answer.observation.scores.items())}"


def _normalised(text: str) -> str:
    return " ".join(text.split()).casefold()


def _digest(answer: LabelledAnswer) -> str:
    said = f"{_normalised(answer.question)}\n{answer.response}"
    return sha256(said.encode("utf-8", "surrogatepass")).hexdigest()


def _numbers(names: Sequence[str]) -> IntArray:
    known: dict[str, int] = {}
    return np.array([known.setdefault(name, at) for at, name in enumerate(names)], dtype=np.int64)


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


def check_number(questions: int, shares: Shares) -> None:
    """Check, before answering them, that this many questions can be enough.

    Raises:
        CalibrationError: There are too few, whatever the answers are.
    """
    needed = max(ceil(number / share - 1e-9) for number, share in zip(_EXPECTED, shares, strict=True))
    if questions < needed:
        raise CalibrationError(
            f"{questions} answered questions are too few to fit, certify and report on different ones; at "
            f"least {needed} are needed."
        )


def _check_enough(groups: IntArray, correct: BoolArray, place: IntArray, shares: Shares) -> None:
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
    sizes = [len(np.unique(groups[place == at])) for at in range(len(PARTS))]
    for part, size, least in zip(PARTS, sizes, _LEAST, strict=True):
        if size < least:
            raise CalibrationError(
                f"Of {asked} questions, {size} fell into the part to {part} (each has its part by a hash), "
                f"but at least {least} are needed there: add about {ceil(asked / 4)} more."
            )
    of_fit = place == 0
    fitted = {
        "correct": len(np.unique(groups[of_fit & correct])),
        "wrong": len(np.unique(groups[of_fit & ~correct])),
    }
    for kind, count in fitted.items():
        if count < _LEAST_OF_EACH:
            wanted = ceil(asked * _EXPECTED_OF_EACH / (shares.fit * counts[kind]))
            raise CalibrationError(
                f"{counts[kind]} of {asked} questions have a {kind} answer, {count} of them in the part to "
                f"fit on, but at least {_LEAST_OF_EACH} are needed there: about "
                f"{max(wanted, ceil(1.25 * asked))} questions like these."
            )


_REMEDY = "Make the profile again from these answers (guardrail calibrate), then its held-out answers."


def redraw(profile: Profile, records: Iterable[AnswerRecord]) -> tuple[HeldOutAnswer, ...]:
    """Repeat the split by the profile's seed, and return the part that was neither fitted nor certified on.

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
    if profile.is_adapted:
        raise CalibrationError("The profile was adapted by all of its answers, so no part was held out.")
    scored = (record.scored_at(profile.scorer.semantic_token) for record in records)
    in_order = sorted(scored, key=lambda record: record.digest)
    labelled = [(record, answer) for record in in_order if (answer := record.labelled())]
    if labelled:
        made = labelled[0][0].provenance
        profile.check(made.model, made.scorer)
        author = Author(made.answered_by) if made.answered_by else None
        if outside := profile.outside_domain(author, made.model.name):
            raise ForeignProfileError(f"These are not the profile's answers: {outside}.", ["answered_by"])
    right = sum(answer.correct for _, answer in labelled)
    making = profile.making
    if (len(labelled), right) != (making.answers, making.correct):
        raise CalibrationError(
            f"The profile was made from {making.answers:,} answers, {making.correct:,} of them right, but "
            f"these are "
            f"{len(labelled):,} with {right:,} right, so it is unknown which were held out. "
            f"{_REMEDY}"
        )
    parts = split([answer for _, answer in labelled], Shares(), making.seed)
    answers = tuple(_held_out(profile, labelled[at][0]) for at in parts.report)
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
