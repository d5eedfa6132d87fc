"""Labelled answers of several kinds of questions, and what their files say of each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guardrail.calibration.fit import fit_profile
from guardrail.calibration.options import FitOptions, MakingSource, Shares
from guardrail.calibration.profile import Profile
from guardrail.calibration.splits import group_names
from guardrail.labelling.answers import AnswerRecord, LabelledAnswer, read_answers

__all__ = ["Kind", "profile_of", "read_kind"]

# A profile is made to be looked at elsewhere: nearly all of its answers are fitted on.
_SHARES = Shares(0.9, 0.05, 0.05)
FOLDS = 5


@dataclass(frozen=True, slots=True)
class Kind:
    """The answers to one kind of questions.

    Attributes:
        name: The name of its file.
        answers: The answers.
        correct: Whether each is right, (n,).
        fold: Which fold it is in; answers of one group are in the same, (n,).
        made: A record, which says how all of them were made.
    """

    name: str
    answers: Sequence[LabelledAnswer]
    correct: NDArray[np.bool_]
    fold: NDArray[np.int64]
    made: AnswerRecord

    def score(self, name: str) -> NDArray[np.float64]:
        """A score of each answer, (n,)."""
        return np.array([answer.observation.scores[name] for answer in self.answers])


def read_kind(path: Path) -> Kind:
    """Read a file of answers that ``guardrail calibrate`` kept; those without a label are left out."""
    name = path.name.split(".")[0]
    records = sorted(read_answers(path).records, key=lambda record: record.digest)
    # A file is a kind, whatever its lines say.
    answers = [replace(answer, kind=name) for record in records if (answer := record.labelled())]
    groups = group_names(answers)
    names = sorted(set(groups))
    places = dict(zip(names, np.random.default_rng(0).permutation(len(names)) % FOLDS, strict=True))
    return Kind(
        name=name,
        answers=answers,
        correct=np.array([answer.correct for answer in answers]),
        fold=np.array([places[group] for group in groups]),
        made=records[0],
    )


def profile_of(
    answers: Sequence[LabelledAnswer], made: AnswerRecord, options: Mapping[str, Any] | None = None
) -> Profile:
    """The profile that ``guardrail calibrate`` would make of these answers."""
    source = MakingSource("answers", "", "contains", made.provenance.generation)
    return fit_profile(
        answers,
        model=made.provenance.model,
        scorer=made.provenance.scorer,
        making=source,
        options=FitOptions(**{"shares": _SHARES, **(options or {})}),
    ).profile
