"""A kind is ranked by what was fitted without it, and the design that was chosen is the library's."""

from dataclasses import replace

import numpy as np
import pytest

from experiments.across_kinds.__main__ import _away_of, _home_of
from experiments.across_kinds.designs import DESIGNS, Columns
from guardrail.calibration.features import fit_sum
from guardrail.metrics.confidence_quality import auroc

NAMES = ("hybridgrad", "max_entropy", "min_token_probability")


def kind(seed, count=150, told=1.5):
    """Answers of which four values of the hidden state together tell the right."""
    random = np.random.default_rng(seed)
    correct = random.random(count) < 0.4
    mean = random.normal(size=(count, 60))
    mean[:, :4] += told * correct[:, None]
    signals = random.normal(size=(count, 3))
    return Columns(signals, NAMES, mean, random.normal(size=(count, 60)), correct, np.arange(count) % 5)


def test_the_first_design_is_what_the_library_fits():
    several = [kind(0), kind(1, told=3.0)]
    one = several[0]
    ours = DESIGNS[0].fit(several)(one)
    theirs = fit_sum(
        np.concatenate([each.signals for each in several]),
        np.concatenate([np.hstack([each.mean, each.last]) for each in several]).astype(np.float32),
        np.concatenate([each.correct for each in several]),
        np.repeat([0, 1], 150),
    )
    expected = (
        theirs.intercept + one.signals @ theirs.weights + np.hstack([one.mean, one.last]) @ theirs.probe
    )
    # The library finds the directions of least variance at random, and nearly.
    assert np.corrcoef(ours, expected)[0, 1] > 0.99


def test_away_the_labels_of_the_kind_itself_teach_nothing():
    kinds = [kind(seed) for seed in range(3)]
    turned = [replace(kinds[0], correct=~kinds[0].correct), *kinds[1:]]
    np.testing.assert_array_equal(_away_of(DESIGNS[0], kinds)[0], _away_of(DESIGNS[0], turned)[0])


def test_at_home_an_answer_is_not_ranked_by_its_own_label():
    kinds = [kind(seed, told=0.0) for seed in range(4)]
    ranked = _home_of(DESIGNS[0], kinds)
    found = [auroc(one, of.correct) for one, of in zip(ranked, kinds, strict=True)]
    assert np.mean(found) == pytest.approx(0.5, abs=0.08)


@pytest.mark.parametrize("design", [one for one in DESIGNS if one.directions], ids=lambda one: one.name)
def test_what_tells_right_from_wrong_is_found_elsewhere(design):
    design = replace(design, scores=design.scores and NAMES[:2])
    kinds = [kind(seed, told=2.0) for seed in range(3)]
    found = [auroc(one, of.correct) for one, of in zip(_away_of(design, kinds), kinds, strict=True)]
    assert min(found) > 0.8


def test_signs_are_held_where_a_design_says_so():
    design = next(one for one in DESIGNS if one.signs_held and not one.directions)
    one = kind(0)
    # More of the second score is less sure here, against what it should say.
    one.signals[:, 1] -= 3 * one.correct
    wrong_way = replace(one, signals=one.signals + np.array([0, 5.0, 0]))
    np.testing.assert_allclose(design.fit([one])(wrong_way), design.fit([one])(one))


def test_each_design_has_a_name_of_its_own():
    names = [one.name for one in DESIGNS]
    assert len(names) == len(set(names))
