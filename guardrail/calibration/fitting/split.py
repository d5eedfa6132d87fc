"""Three disjoint parts of labelled answers, and folds of one of them."""

from collections.abc import Sequence
from math import ceil
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from guardrail.calibration.fitting.options import Shares
from guardrail.errors import CalibrationError

__all__ = ["Parts", "check_number", "draw", "question_groups", "split"]

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

# Fewer than these and the part says nothing.
_LEAST = Shares(fit=40, certify=40, report=20)
# Right and wrong questions that the fitting part needs, so that every fold has others to learn from.
_LEAST_OF_EACH = 8


class Parts(NamedTuple):
    """Places of the answers of each part.

    ``certify`` is drawn without a look at the labels, so that its answers are independent of the others,
    which the guarantee needs; ``fit`` and ``report`` share the rest, as many right ones to wrong ones in
    each. ``fit`` may hold several answers to one question. The other two hold one a question: what is
    certified and reported counts them as independent.
    """

    fit: IntArray
    certify: IntArray
    report: IntArray


def split(questions: Sequence[str], correct: Sequence[bool], shares: Shares, seed: int) -> Parts:
    """Draw the parts.

    Args:
        questions: Text of each answer's question; answers to the same one go to the same part. One without
            a text is like no other.
        correct: Whether each answer is correct.
        shares: What share of the questions each part gets.
        seed: What they are drawn by.

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
    """Draw a part for each answer: whole groups, stratified by correctness, sizes after ``shares``."""
    ids, place = np.unique(groups, return_inverse=True)
    # 0: all its answers are wrong, 2: all are right, 1: some of each.
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
    """A number for each question: the same where the text is, but for case and spaces."""
    known: dict[str, int] = {}
    texts = (" ".join(question.split()).casefold() for question in questions)
    return np.array(
        [known.setdefault(text or f"\0{at}", at) for at, text in enumerate(texts)], dtype=np.int64
    )


def check_number(questions: int, shares: Shares) -> None:
    """Make sure that so many questions can be enough, before any of them is answered.

    Raises:
        CalibrationError: They are too few, whatever the answers will be.
    """
    needed = max(ceil(least / share - 1e-9) for least, share in zip(_LEAST, shares, strict=True))
    if questions < needed:
        raise CalibrationError(
            f"{questions} answered questions are too few to fit, certify and report on different ones: at "
            f"least {needed} are needed."
        )


def _check_enough(groups: IntArray, correct: BoolArray, shares: Shares) -> None:
    asked = len(np.unique(groups))
    counts = {"correct": len(np.unique(groups[correct])), "wrong": len(np.unique(groups[~correct]))}
    for kind, count in counts.items():
        if asked and not count:
            other = next(name for name in counts if name != kind)
            raise CalibrationError(
                f"All {len(groups)} answers were judged {other}: nothing can be learned of {kind} ones. "
                f"Check the judge, or take {'harder' if kind == 'wrong' else 'easier'} questions."
            )
    check_number(asked, shares)
    least = ceil(_LEAST_OF_EACH / shares.fit - 1e-9)
    for kind, count in counts.items():
        if count < least:
            raise CalibrationError(
                f"{count} of {asked} questions have a {kind} answer, and at least {least} are needed: about "
                f"{ceil(asked * least / count)} questions like these."
            )
