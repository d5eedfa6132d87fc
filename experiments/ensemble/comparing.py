"""Candidates on answers that they were not fitted on: of the same set, and of another."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold

from experiments.ensemble.candidates import Candidate
from experiments.ensemble.reading import Features
from guardrail.metrics.confidence_quality import auroc
from guardrail.metrics.intervals import resampled

__all__ = ["FITTED_ON", "Result", "by_size", "choosing", "halves", "reporting"]

FloatArray = NDArray[np.float64]

# Of each file; the rest is reported on.
FITTED_ON = 500
_FOLDS = 5


class Result(NamedTuple):
    """A candidate's ranking of one part.

    Attributes:
        fitted: Name of the set that it was fitted on; empty where it learns nothing.
        tested: Name of the set that it ranked.
        confidence: What it gave, (n,); up is surer.
        correct: Labels, (n,).
    """

    fitted: str
    tested: str
    confidence: FloatArray
    correct: NDArray[np.bool_]

    @property
    def auroc(self) -> float:
        """Share of right answers above wrong ones."""
        return float(auroc(self.confidence, self.correct))

    def above(self, other: "Result") -> FloatArray:
        """Paired bootstrap of the AUROC's difference from another's on the same answers, (1000,)."""
        ours, theirs = (resampled(auroc, one.confidence, one.correct) for one in (self, other))
        return ours - theirs


def halves(answers: Features) -> tuple[Features, Features]:
    """The first answers, for fitting and choosing, and the rest, for reporting."""
    rows = np.arange(len(answers.correct))
    return answers.take(rows[:FITTED_ON]), answers.take(rows[FITTED_ON:])


def choosing(candidate: Candidate, sets: Sequence[Features]) -> list[Result]:
    """On the first answers alone: each set by folds, and by what was fitted on each other set."""
    results = []
    for tested in sets:
        if candidate.learns:
            confidence = np.empty(len(tested.correct))
            folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=1)
            for train, test in folds.split(tested.correct, tested.correct):
                # Logits of different fits differ in place and scale.
                fitted = candidate.fit(tested.take(train))(tested.take(test))
                confidence[test] = (fitted - fitted.mean()) / (fitted.std() or 1.0)
            results.append(Result(tested.name, tested.name, confidence, tested.correct))
    return results + _across(candidate, sets, sets)


def reporting(candidate: Candidate, first: Sequence[Features], rest: Sequence[Features]) -> list[Result]:
    """On the rest: by what was fitted on the first answers of the same set, and of each other set."""
    same = []
    if candidate.learns:
        for fitted, tested in zip(first, rest, strict=True):
            same.append(Result(tested.name, tested.name, candidate.fit(fitted)(tested), tested.correct))
    return same + _across(candidate, first, rest)


def by_size(
    candidate: Candidate, first: Features, rest: Features, sizes: Sequence[int], draws: int = 10
) -> dict[int, float]:
    """Mean AUROC on the rest, fitted on so many of the first answers."""
    found = {}
    for size in sizes:
        values = []
        for seed in range(draws):
            rows = np.random.default_rng(seed).permutation(len(first.correct))[:size]
            values.append(auroc(candidate.fit(first.take(rows))(rest), rest.correct))
        found[size] = float(np.mean(values))
    return found


def _across(candidate: Candidate, first: Sequence[Features], rest: Sequence[Features]) -> list[Result]:
    if not candidate.learns:
        return [Result("", one.name, candidate.fit(one)(one), one.correct) for one in rest]
    results = []
    for fitted in first:
        predict = candidate.fit(fitted)
        results += [
            Result(fitted.name, tested.name, predict(tested), tested.correct)
            for tested in rest
            if tested.name != fitted.name
        ]
    return results
