"""A profile's confidence, adapted to other questions by a few answers."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.optimize import minimize

from guardrail.calibration.adapt import adapt_profile, adapting_request
from guardrail.calibration.calibrators import Adapted, Isotonic, Platt, VennAbers, logit_of
from guardrail.calibration.consistency import contradiction_in
from guardrail.calibration.fit import fit_profile
from guardrail.calibration.options import FitOptions, MakingSource
from guardrail.calibration.profile import Guarantee, read_profile, write_profile
from guardrail.calibration.splits import redraw
from guardrail.errors import CalibrationError
from guardrail.metrics.confidence_quality import brier
from guardrail.scoring.uncertainty import HiddenState, Observation
from tests.support.fitting import some_answers
from tests.support.profiles import FEASIBLE, MODEL, SCORER, a_profile

SOURCE = MakingSource("few.jsonl", "12" * 32, "contains", {"max_tokens": 32})
# What the profile was made of, and questions that are much harder.
HOME, AWAY = {"known": 2.0, "bias": 0.5}, {"known": 2.0, "bias": -2.0}
LEVEL = st.floats(-4, 4)


@pytest.fixture(scope="module")
def profile():
    return fit_profile(
        some_answers(400, size=0, **HOME),
        model=MODEL,
        scorer=SCORER,
        making=SOURCE,
        options=FitOptions("signals", "platt", (Guarantee(0.3, 0.8),)),
    ).profile


@pytest.fixture(scope="module")
def few():
    return some_answers(30, size=0, seed=11, **AWAY)


def confidences(profile, answers):
    return np.array([profile.assess(answer.observation).confidence for answer in answers])


def test_a_few_answers_set_the_level_and_keep_the_order(profile, few):
    adapted = adapt_profile(profile, few, SOURCE)
    new = some_answers(1500, size=0, seed=12, **AWAY)
    right = [answer.correct for answer in new]
    before, after = confidences(profile, new), confidences(adapted, new)
    assert abs(before.mean() - np.mean(right)) > 0.2
    assert abs(after.mean() - np.mean(right)) < 0.1
    assert float(brier(after, right)) < float(brier(before, right)) - 0.05
    assert (np.argsort(before, kind="stable") == np.argsort(after, kind="stable")).all()


def test_it_says_what_it_was_made_of_and_certifies_nothing(profile, few, tmp_path):
    assert any(one.threshold is not None for one in profile.certified)
    adapted = adapt_profile(profile, few, SOURCE)
    making = adapted.making
    assert (making.adapted_from, making.answers) == (profile.digest, 30)
    assert (making.questions, making.correct) == ("few.jsonl", sum(one.correct for one in few))
    assert (adapted.certified, adapted.report, adapted.domain.answers) == ((), {}, 30)
    assert contradiction_in(adapted) == ""
    write_profile(adapted, tmp_path / "adapted.json")
    read = read_profile(tmp_path / "adapted.json")
    assert read == adapted
    assert read.assess(few[0].observation).guarantees == ()
    with pytest.raises(ValidationError, match="certifies nothing"):
        a_profile(calibrator=adapted.calibrator, making=making, certified=(FEASIBLE,))
    with pytest.raises(ValidationError, match="do not agree"):
        a_profile(calibrator=adapted.calibrator, certified=())
    with pytest.raises(CalibrationError, match="adapted by all of its answers"):
        redraw(adapted, [])


def test_a_reference_needs_more_answers(profile):
    enough = some_answers(60, size=0, seed=13, **AWAY)
    assert adapt_profile(profile, enough[:30], SOURCE).reference == {}
    reference = adapt_profile(profile, enough, SOURCE).reference
    assert {one.n for one in reference.values()} == {60}
    assert {"confidence", "confidence_score", "hybridgrad"} <= reference.keys()


def test_states_are_those_of_the_new_answers_where_there_are_enough(profile):
    seen = some_answers(70, size=4, seed=16, **AWAY)
    states = adapt_profile(profile, seen, SOURCE).states
    assert states.n == 70
    assert adapt_profile(profile, seen[:40], SOURCE).states is None


def test_the_line_is_the_most_likely_by_the_priors(profile, few):
    found = adapt_profile(profile, few, SOURCE).calibrator
    scores = [profile.confidence_model.score(one.observation) for one in few]
    away = np.array([logit_of(profile.calibrator.probability(score)) for score in scores]) - found.centre
    signs = np.array([1.0 if one.correct else -1.0 for one in few])

    def loss(line):
        fits = np.logaddexp(0, -signs * (line[0] + line[1] * away)).sum()
        return fits + ((line[0] - found.centre) / 1.5) ** 2 / 2 + ((line[1] - 1) / 0.5) ** 2 / 2

    best = minimize(loss, [0.0, 1.0], method="BFGS", options={"gtol": 1e-8})
    assert best.x == pytest.approx([found.intercept, found.slope], abs=1e-4)
    chance = 1 / (1 + np.exp(-(found.intercept + found.slope * away)))
    weight = chance * (1 - chance)
    information = np.array(
        [[weight.sum() + 1 / 1.5**2, (weight * away).sum()], [0.0, (weight * away**2).sum() + 1 / 0.5**2]]
    )
    information[1, 0] = information[0, 1]
    expected = np.linalg.inv(information)
    assert found.variances == pytest.approx([expected[0, 0], expected[0, 1], expected[1, 1]])


def test_more_answers_make_the_interval_narrower(profile):
    many = some_answers(300, size=0, seed=14, **AWAY)
    widths = []
    for count in (25, 100, 300):
        adapted = adapt_profile(profile, many[:count], SOURCE)
        low, high = adapted.assess(many[0].observation).interval
        widths.append(high - low)
    assert widths[0] > widths[1] > widths[2] > 0


def test_the_interval_has_the_true_confidence_as_often_as_it_says():
    random = np.random.default_rng(3)
    level = a_profile(calibrator=Platt(slope=1.0, intercept=0.0))
    template = some_answers(30, size=0)
    held = 0
    for _ in range(200):
        scores = random.normal(0, 1.5, 31)
        shift, slope = random.normal(0, 1.5), abs(random.normal(1, 0.5))
        centre = scores[:30].mean()
        true = 1 / (1 + np.exp(-(centre + shift + slope * (scores - centre))))
        right = random.random(30) < true[:30]
        if right.all() or not right.any():
            held += 1
            continue
        answers = [
            replace(one, correct=bool(is_right), observation=_of_score(level, score))
            for one, is_right, score in zip(template, right, scores, strict=False)
        ]
        low, high = adapt_profile(level, answers, SOURCE).calibrator.interval(scores[30])
        held += low <= true[30] <= high
    assert 176 <= held <= 198


def _of_score(profile, score):
    """An observation that the profile's sum gives this score."""
    probe = profile.confidence_model.probe
    hidden = HiddenState(depth=0.5, mean=(0.0, 0.0), last=(0.0, 0.0))
    rest = profile.confidence_model.score(Observation({"hybridgrad": 1.0, "log_likelihood": -1.0}, hidden))
    mean = (float(score - rest) / (probe.weight * probe.numbers[0]), 0.0)
    return Observation({"hybridgrad": 1.0, "log_likelihood": -1.0}, replace(hidden, mean=mean))


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        (lambda few: few[:19], "19 answers to different questions are too few .* at least 20"),
        (lambda few: [replace(one, group="one passage") for one in few], "1 answers to different questions"),
        (lambda few: [replace(one, correct=True) for one in few], "All 30 answers were judged correct"),
        (lambda few: [replace(one, correct=False) for one in few], "All 30 answers were judged wrong"),
    ],
)
def test_answers_that_tell_too_little_are_refused(profile, few, answers, said):
    with pytest.raises(CalibrationError, match=said):
        adapt_profile(profile, answers(few), SOURCE)


def test_a_profile_without_confidence_has_none_to_adapt(few):
    with pytest.raises(CalibrationError, match="has no confidence to adapt"):
        adapt_profile(a_profile(confidence_model=None, calibrator=None, certified=()), few, SOURCE)


def test_adapting_again_begins_with_the_first_confidence(profile, few):
    once = adapt_profile(profile, some_answers(40, size=0, seed=15, **HOME), SOURCE)
    twice, directly = (adapt_profile(one, few, SOURCE) for one in (once, profile))
    assert twice.calibrator == directly.calibrator
    assert twice.making.adapted_from == once.digest


@given(score=LEVEL, other=LEVEL, slope=st.floats(0, 3), intercept=LEVEL)
def test_a_higher_score_is_never_less_confident(score, other, slope, intercept):
    bases = (
        Platt(slope=1.0, intercept=0.5),
        Isotonic(scores=(-1.0, 1.0), probabilities=(0.0, 1.0)),
        VennAbers(scores=(0.0,), lower=(0.0, 0.2, 0.3), upper=(0.4, 0.5, 1.0)),
    )
    low, high = sorted((score, other))
    for base in bases:
        adapted = Adapted(
            base=base, centre=0.3, intercept=intercept, slope=slope, variances=(0.2, 0.1, 0.3), answers=30
        )
        assert adapted.probability(low) <= adapted.probability(high)
        below, above = adapted.interval(score)
        assert 0 <= below <= adapted.probability(score) <= above <= 1


@pytest.mark.parametrize(
    "changes",
    [{"slope": -0.1}, {"variances": (0.1, 1.0, 0.1)}, {"variances": (-0.1, 0.0, 0.1)}, {"answers": 0}],
)
def test_a_correction_that_cannot_be_is_refused(changes):
    values = {"centre": 0.0, "intercept": 0.0, "slope": 1.0, "variances": (0.1, 0.0, 0.1), "answers": 30}
    with pytest.raises(ValidationError):
        Adapted(base=Platt(slope=1.0, intercept=0.0), **{**values, **changes})


def test_the_new_answers_are_made_and_scored_as_those_of_the_profile(tmp_path):
    profile = a_profile(answered_by="another-model")
    request = adapting_request(profile, tmp_path / "few.jsonl", tmp_path / "adapted.json")
    assert (request.model, request.answered_by) == (MODEL.name, "another-model")
    assert (request.labelling.sampling.max_tokens, request.labelling.sampling.stop) == (32, ("\n",))
    assert request.labelling.scoring.semantic_token == SCORER.semantic_token
    assert request.labelling.depth == profile.depths[0]
