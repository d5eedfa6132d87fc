"""Candidates are compared on answers that they were not fitted on, and on no others."""

import numpy as np
import pytest

from experiments.ensemble.candidates import SINGLE, SUMS, Candidate
from experiments.ensemble.comparing import FITTED_ON, choosing, halves, reporting
from experiments.ensemble.reading import DEPTHS, WAYS, Features
from guardrail.scoring.uncertainty import SCORES


def answers(name, count, seed, *, told=True):
    """Answers of which the hidden state at two thirds, and the largest entropy a little, tell the right."""
    rng = np.random.default_rng(seed)
    correct = rng.random(count) < 0.4
    hidden = rng.normal(size=(2, count, len(DEPTHS), 16)).astype(np.float32)
    scores = {way: {one: rng.lognormal(size=count) for one in (*SCORES, "tokens")} for way in WAYS}
    if told:
        hidden[:, :, 2, 0] += 4 * correct
        scores[next(iter(WAYS))]["max_entropy"] *= np.where(correct, 0.5, 1.0)
    return Features(name, correct, scores, *hidden)


def by_name(candidates, name):
    return next(one for one in candidates if one.name == name)


def test_what_tells_right_from_wrong_is_found_at_home_and_away():
    sets = [answers("one", FITTED_ON + 200, 0), answers("other", FITTED_ON + 150, 1)]
    first, rest = zip(*map(halves, sets), strict=True)
    found = reporting(by_name(SUMS, "probe and signals"), first, rest)
    assert [(one.fitted, one.tested, len(one.correct)) for one in found] == [
        ("one", "one", 200),
        ("other", "other", 150),
        ("one", "other", 150),
        ("other", "one", 200),
    ]
    assert all(one.auroc > 0.9 for one in found)
    single = reporting(by_name(SINGLE, "max_entropy"), first, rest)
    assert [one.tested for one in single] == ["one", "other"]
    assert np.quantile(found[0].above(single[0]), 0.025) > 0


@pytest.mark.parametrize("candidate", [by_name(SUMS, "signals"), by_name(SUMS, "probe and signals")])
def test_where_there_is_nothing_to_be_told_nothing_is_found(candidate: Candidate):
    nothing = [answers("nothing", FITTED_ON, seed, told=False) for seed in range(4)]
    assert np.mean([choosing(candidate, [one])[0].auroc for one in nothing]) == pytest.approx(0.5, abs=0.06)


def test_each_candidate_has_a_name_of_its_own():
    names = [one.name for one in (*SINGLE, *SUMS)]
    assert len(names) == len(set(names))
