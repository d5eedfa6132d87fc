"""The choice of t* by labels: among the positions of the prompt's end, where HybridGrad ranks answers best.

What ``expected`` says (a scan of the model, or the rule for its chat template) stays, unless another position
is clearly better: among several positions the best of a hundred labels is often the best by chance.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from guardrail.calibration.cross_fitting import FOLDS
from guardrail.calibration.making import (
    CrossFittedChoice,
    PositionFigures,
    PreservationMargin,
    SemanticTokenChoice,
)
from guardrail.calibration.splits import draw, group_numbers
from guardrail.labelling.answers import LabelledAnswer
from guardrail.scoring.candidate_positions import CandidatePositions, PreservationByPosition

__all__ = [
    "Ranking",
    "choose_semantic_token",
    "common_candidates",
    "difference_from_expected",
    "with_chosen_token",
]


FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]
Value = TypeVar("Value")

# A position is taken for the expected one where it is better by more than so many standard errors. With one,
# halves of 88 answers left the right position in 21 of 100 draws and lost a point of AUROC; with two, a tenth
# of a point.
_STANDARD_ERRORS = 2.0


@dataclass(frozen=True, slots=True)
class Ranking:
    """AUROC of a score of answers, and what each answer does to it.

    Attributes:
        auroc: Probability that a right answer is ranked above a wrong one, ties counted half.
        influence: For each answer, its part in the deviation of the AUROC from its mean; they sum to 0.
    """

    auroc: float
    influence: FloatArray

    @classmethod
    def of(cls, confidence: FloatArray, correct: BoolArray) -> "Ranking":
        """From the placements of right among wrong answers and the reverse (DeLong et al. 1988).

        Args:
            confidence: A score that is higher where an answer is surer (n).
            correct: Whether each answer is right (n); some are, and some are not.
        """
        right, wrong = np.sort(confidence[correct]), np.sort(confidence[~correct])
        placement = np.where(correct, _share_below(wrong, confidence), 1 - _share_below(right, confidence))
        auroc = float(placement[correct].mean())
        return cls(auroc, (placement - auroc) / np.where(correct, len(right), len(wrong)))

    def above(self, other: "Ranking", groups: IntArray) -> tuple[float, float]:
        """How much this AUROC is above another one on the same answers, and the standard error of that.

        Answers of one group are dependent: their influences are summed before they are squared (Obuchowski
        1997).
        """
        _, place = np.unique(groups, return_inverse=True)
        by_group = np.bincount(place, self.influence - other.influence)
        count = len(by_group)
        variance = float(np.square(by_group).sum()) * count / max(1, count - 1)
        return self.auroc - other.auroc, variance**0.5


def _share_below(values: FloatArray, confidence: FloatArray) -> FloatArray:
    """Share of sorted values below each confidence, equal ones counted half."""
    below, up_to = np.searchsorted(values, confidence), np.searchsorted(values, confidence, "right")
    share: FloatArray = (below + up_to) / (2 * len(values))
    return share


def common_candidates(answers: Sequence[LabelledAnswer]) -> range:
    """The positions that may be t* in every prompt; none where t* is not to be chosen by these answers.

    It cannot be where an answer keeps no SemGrad but its own, or where t* was expected elsewhere.
    """
    kept = [answer.positions for answer in answers if answer.positions]
    if len(kept) < len(answers) or len({one.expected for one in kept}) != 1:
        return range(0)
    # A short prompt has fewer positions.
    common = max((one.candidates for one in kept), key=lambda candidates: candidates.start)
    return common if kept[0].expected in common else range(0)


def with_chosen_token(
    answers: Sequence[LabelledAnswer], fit: IntArray, seed: int
) -> tuple[Sequence[LabelledAnswer], SemanticTokenChoice | None]:
    """The answers with their scores at the chosen t*, and the choice; None where there is none to make.

    Args:
        answers: All answers.
        fit: Positions of those that may be fitted on: some are right, and some are not.
        seed: Seed of the folds.
    """
    positions = common_candidates(answers)
    if len(positions) < 2:
        return answers, None
    fitting = [answers[at] for at in fit]
    correct = np.array([answer.correct for answer in fitting], dtype=bool)
    groups = group_numbers(fitting)
    fold = draw(groups, correct, [1] * FOLDS, np.random.default_rng([seed, 1]))
    choice = choose_semantic_token(fitting, positions, correct, groups, fold)
    if choice.position == choice.expected:
        return answers, choice
    return [_rescored(answer, choice.position) for answer in answers], choice


def _rescored(answer: LabelledAnswer, position: int) -> LabelledAnswer:
    if answer.positions is None:
        return answer
    scores = answer.positions.scores_at(position, answer.observation.scores)
    return replace(answer, observation=replace(answer.observation, scores=scores))


def choose_semantic_token(
    answers: Sequence[LabelledAnswer],
    positions: Sequence[int],
    correct: BoolArray,
    groups: IntArray,
    fold: IntArray,
) -> SemanticTokenChoice:
    """Choose t* by the labels of the fitting part.

    Nothing else of a profile may be chosen on other labels first: all that is fitted is fitted on the scores
    at the chosen position.

    Args:
        answers: Answers of the fitting part.
        positions: Those that t* is chosen among (:func:`common_candidates`).
        correct: Whether each is right; some are, and some are not.
        groups: Group of each answer.
        fold: Fold of each answer, for what the choice is worth.
    """
    kept = [answer.positions for answer in answers if answer.positions]
    expected = kept[0].expected
    confidences = _confidences(answers, kept, positions)
    at_expected = positions.index(expected)
    rankings = [Ranking.of(confidence, correct) for confidence in confidences]
    chosen = _choice(rankings, at_expected, groups)
    preservation = kept[0].preservation
    figures = [ranking.above(rankings[at_expected], groups) for ranking in rankings]
    return SemanticTokenChoice(
        position=positions[chosen],
        expected=expected,
        answers=len(answers),
        groups=len(np.unique(groups)),
        candidates=tuple(
            PositionFigures(
                position=position,
                token=_at(preservation.tokens, position) if preservation else None,
                auroc=ranking.auroc,
                above_expected=above,
                standard_error=error,
                preservation=_at(preservation.scores, position) if preservation else None,
            )
            for position, ranking, (above, error) in zip(positions, rankings, figures, strict=True)
        ),
        cross_fitted=_cross_fitted(confidences, correct, groups, fold, at_expected, positions),
        preservation=_margin(preservation) if preservation else None,
    )


def difference_from_expected(choice: SemanticTokenChoice | None) -> tuple[str, ...]:
    """In a sentence, why t* is not where it was expected; none if it is."""
    if choice is None or choice.position == choice.expected:
        return ()
    taken = next(one for one in choice.candidates if one.position == choice.position)
    return (
        f"SemGrad is taken at {choice.position}, not at {choice.expected} as expected: on the fitting part "
        f"the AUROC of HybridGrad is {taken.auroc:.3f} there, {taken.above_expected:.3f} higher "
        f"(standard error {taken.standard_error:.3f}).",
    )


def _confidences(
    answers: Sequence[LabelledAnswer], kept: Sequence[CandidatePositions], positions: Sequence[int]
) -> FloatArray:
    """Minus HybridGrad at each position (positions × n): lower is surer."""
    pairs = [(one, answer.observation.scores) for one, answer in zip(kept, answers, strict=True)]
    return -np.array(
        [
            [
                scores["hybridgrad"] if at == one.expected else one.scores_at(at, scores)["hybridgrad"]
                for one, scores in pairs
            ]
            for at in positions
        ]
    )


def _choice(rankings: Sequence[Ranking], expected: int, groups: IntArray) -> int:
    """Index of the chosen ranking: the best, if it is clearly better than the expected one."""
    best = max(range(len(rankings)), key=lambda at: (rankings[at].auroc, at))
    above, error = rankings[best].above(rankings[expected], groups)
    return best if above > _STANDARD_ERRORS * error else expected


def _cross_fitted(
    confidences: FloatArray,
    correct: BoolArray,
    groups: IntArray,
    fold: IntArray,
    expected: int,
    positions: Sequence[int],
) -> CrossFittedChoice | None:
    """The choice made on the other folds, measured on each; None where a fold cannot be.

    HybridGrad has another scale at another position, so answers are ranked within their fold, and folds count
    by their pairs of a right and a wrong answer.
    """
    chosen: list[int] = []
    measured: list[tuple[float, float, float]] = []
    pairs: list[float] = []
    for one in np.unique(fold):
        here, others = fold == one, fold != one
        if correct[here].all() or not correct[here].any():
            return None
        if correct[others].all() or not correct[others].any():
            return None
        learned = [Ranking.of(confidence[others], correct[others]) for confidence in confidences]
        at = _choice(learned, expected, groups[others])
        found, before = (Ranking.of(confidences[index][here], correct[here]) for index in (at, expected))
        chosen.append(positions[at])
        measured.append((found.auroc, *found.above(before, groups[here])))
        pairs.append(float(correct[here].sum()) * float((~correct[here]).sum()))
    share = np.array(pairs) / np.sum(pairs)
    aurocs, above, errors = np.array(measured).T
    return CrossFittedChoice(
        auroc=float(share @ aurocs),
        above_expected=float(share @ above),
        standard_error=float(np.sqrt(np.square(share * errors).sum())),
        positions=tuple(chosen),
    )


def _margin(found: PreservationByPosition) -> PreservationMargin:
    return PreservationMargin(
        position=found.position,
        runner_up=found.runner_up,
        margin=found.margin,
        low=found.low,
        high=found.high,
        queries=found.queries,
        prompts=found.prompts,
    )


def _at(values: Sequence[Value], position: int) -> Value | None:
    """The value at a position counted from the end; None where there are fewer."""
    return values[position] if -position <= len(values) else None
