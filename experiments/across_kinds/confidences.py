"""The confidence of profiles, made in the way of ``guardrail calibrate``: at home, away, and adapted."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiments.across_kinds.reading import FOLDS, Kind, profile_of
from guardrail.calibration.adapt import adapt_profile
from guardrail.calibration.cross_fitting import FOLDS as INNER_FOLDS
from guardrail.calibration.cross_fitting import CrossFit, select
from guardrail.calibration.features import available, read_inputs
from guardrail.calibration.options import MakingSource
from guardrail.calibration.profile import Profile
from guardrail.calibration.splits import draw, group_numbers
from guardrail.labelling.answers import LabelledAnswer

__all__ = ["ADAPTED_BY", "Assessed", "Judged", "adapted", "alone", "assess", "at_home", "made_of"]

FloatArray = NDArray[np.float64]
ADAPTED_BY = 30
_DRAWS = 20


class Assessed(NamedTuple):
    """What a profile says of answers: the score that ranks them, confidence; and whether each is right."""

    score: FloatArray
    confidence: FloatArray
    correct: NDArray[np.bool_]


class Judged(NamedTuple):
    """Confidences, and whether each answer is right."""

    confidence: FloatArray
    correct: NDArray[np.bool_]


def at_home(kinds: Sequence[Kind], every: Sequence[Kind]) -> list[Assessed]:
    """Each answer of ``kinds`` by a profile made of the other folds of all kinds, its own included."""
    found = [Assessed(np.empty(len(one.answers)), np.empty(len(one.answers)), one.correct) for one in kinds]
    for fold in range(FOLDS):
        fitting = [answer for one in every for answer in _where(one, one.fold != fold)]
        profile = profile_of(fitting, every[0].made)
        for one, values in zip(kinds, found, strict=True):
            here = one.fold == fold
            assessed = assess(profile, _where(one, here))
            values.score[here], values.confidence[here] = assessed.score, assessed.confidence
    return found


def alone(kind: Kind) -> Assessed:
    """Each answer of a kind by what is learned of the other folds of this kind alone.

    These are too few for a whole profile: they are all fitted on, as the fit part of a profile is.
    """
    inputs = read_inputs([answer.observation for answer in kind.answers])
    groups = group_numbers(kind.answers)
    found = Assessed(np.empty(len(groups)), np.empty(len(groups)), kind.correct)
    for fold in range(FOLDS):
        rows, here = np.flatnonzero(kind.fold != fold), np.flatnonzero(kind.fold == fold)
        correct, of_groups = kind.correct[rows], groups[rows]
        inner = draw(of_groups, correct, [1] * INNER_FOLDS, np.random.default_rng([0, 1]))
        fits = {name: CrossFit(name, inputs.take(rows), correct, inner) for name in available(inputs, "auto")}
        chosen = select(fits, "auto", correct, of_groups)
        fit = fits[chosen.inputs]
        calibrator = fit.calibrator(chosen.calibrator)
        found.score[here] = fit.final().scores(inputs, here)
        found.confidence[here] = [calibrator.probability(score) for score in found.score[here].tolist()]
    return found


def adapted(profile: Profile, kind: Kind) -> list[Judged]:
    """A kind's answers by a profile adapted to 30 of them, without those; several draws."""
    source = MakingSource("few", "", "contains", kind.made.provenance.generation)
    draws = []
    for seed in range(_DRAWS):
        order = np.random.default_rng(seed).permutation(len(kind.answers)).tolist()
        few = [kind.answers[at] for at in order[:ADAPTED_BY]]
        rest = [kind.answers[at] for at in order[ADAPTED_BY:]]
        assessed = assess(adapt_profile(profile, few, source), rest)
        draws.append(Judged(assessed.confidence, assessed.correct))
    return draws


def made_of(kinds: Sequence[Kind]) -> Profile:
    """A profile of all answers of these kinds."""
    return profile_of([answer for one in kinds for answer in one.answers], kinds[0].made)


def _where(kind: Kind, rows: NDArray[np.bool_]) -> list[LabelledAnswer]:
    return [kind.answers[at] for at in np.flatnonzero(rows).tolist()]


def assess(profile: Profile, answers: Sequence[LabelledAnswer]) -> Assessed:
    """What a profile says of answers."""
    told = [profile.assess(answer.observation) for answer in answers]
    return Assessed(
        np.array([one.confidence_score for one in told]),
        np.array([one.confidence for one in told]),
        np.array([answer.correct for answer in answers]),
    )
