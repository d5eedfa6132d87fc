"""A profile of labelled answers, whole."""

from dataclasses import replace

import numpy as np
import pytest

from guardrail.calibration.calibrators import VennAbers
from guardrail.calibration.consistency import contradiction_in
from guardrail.calibration.cross_fitting import CrossFit
from guardrail.calibration.fit import fit_profile, reference_profile
from guardrail.calibration.options import FitOptions, MakingSource, Shares
from guardrail.calibration.profile import Guarantee, read_profile, write_profile
from guardrail.calibration.splits import split
from guardrail.errors import CalibrationError
from guardrail.metrics.confidence_quality import auroc
from guardrail.scoring.uncertainty import HiddenState, Observation
from tests.support.fitting import DEPTH, some_answers
from tests.support.profiles import MODEL, SCORER

GUARANTEES = (Guarantee(0.2, 0.9), Guarantee(0.001, 0.99))
ELSEWHERE = HiddenState(0.1, [1.0], [1.0])
SOURCE = MakingSource("questions.jsonl", "ef" * 32, "contains", {"max_tokens": 32})


def fit(answers, **options):
    return fit_profile(
        answers,
        model=MODEL,
        scorer=SCORER,
        making=SOURCE,
        options=FitOptions(guarantees=GUARANTEES, **options),
    )


@pytest.fixture(scope="module")
def answers():
    return some_answers(600, known=2.0, hidden=2.0)


@pytest.fixture(scope="module")
def fitted(answers):
    return fit(answers)


def test_the_profile_says_of_what_and_how_it_was_made(fitted, answers):
    making = fitted.profile.making
    assert (fitted.profile.model, fitted.profile.scorer) == (MODEL, SCORER)
    parts = split(answers, Shares(), 0)
    assert making.parts == {name: len(part) for name, part in parts._asdict().items()}
    assert sum(making.parts.values()) == 600
    assert (making.answers, making.correct) == (600, sum(answer.correct for answer in answers))
    assert (making.questions, making.judge, making.generation) == (
        "questions.jsonl",
        "contains",
        {"max_tokens": 32},
    )
    assert [one["chosen"] for one in making.candidates].count(True) == 1
    assert fitted.notes == ()


def test_the_profile_reads_back_and_says_the_same(fitted, answers, tmp_path):
    write_profile(fitted.profile, tmp_path / "p.json")
    read = read_profile(tmp_path / "p.json")
    assert read == fitted.profile
    for answer in answers[:20]:
        assert read.assess(answer.observation) == fitted.profile.assess(answer.observation)


def test_it_uses_what_tells_most_and_tells_new_answers_apart(fitted):
    assert fitted.profile.confidence_model.inputs == "probe"
    assert fitted.profile.depths == (DEPTH,)
    new = some_answers(1000, known=2.0, hidden=2.0, seed=1)
    confidences = [fitted.profile.assess(answer.observation).confidence for answer in new]
    assert auroc(confidences, [answer.correct for answer in new]) > 0.85


def test_every_guarantee_asked_for_is_answered(fitted):
    easy, hard = (fitted.profile.certified_for(one) for one in GUARANTEES)
    assert easy.threshold is not None
    assert easy.n == hard.n == fitted.profile.making.parts["certify"]
    assert hard.threshold is None
    assert "4603" in hard.reason or hard.needed == 4603


def test_a_certified_threshold_holds_on_new_answers(fitted):
    new = some_answers(3000, known=2.0, hidden=2.0, seed=2)
    let_through = [
        answer.correct
        for answer in new
        if GUARANTEES[0] in fitted.profile.assess(answer.observation).guarantees
    ]
    assert len(let_through) > 100
    assert np.mean(let_through) > 0.8


def test_what_is_held_out_is_what_is_reported(fitted):
    held_out, report = fitted.held_out, fitted.profile.report
    assert report["n"] == len(held_out.scores) == fitted.profile.making.parts["report"]
    assert report["auroc"]["value"] == pytest.approx(float(auroc(held_out.scores, held_out.correct)))
    for score, confidence in zip(held_out.scores, held_out.confidences, strict=True):
        assert fitted.profile.calibrator.probability(score) == confidence


def test_the_reference_is_of_answers_that_nothing_was_fitted_on(fitted, answers):
    reference = fitted.profile.reference
    assert set(reference) == {*answers[0].observation.scores, "confidence", "confidence_score"}
    parts = fitted.profile.making.parts
    assert {one.n for one in reference.values()} == {parts["certify"] + parts["report"]}
    assert set(fitted.held_out.scores) <= set(reference["confidence_score"].values)


def test_labels_of_the_part_that_certifies_change_nothing_but_what_is_certified(answers, fitted):
    certify = split(answers, Shares(), 0).certify
    turned = list(answers)
    for at in certify:
        turned[at] = replace(answers[at], correct=not answers[at].correct)
    again = fit(turned).profile
    for name in ("confidence_model", "calibrator", "reference"):
        assert getattr(again, name) == getattr(fitted.profile, name)
    assert again.report["auroc"] == fitted.profile.report["auroc"]
    assert again.certified != fitted.profile.certified


def test_the_same_answers_and_seed_make_the_same_profile():
    answers = some_answers(160, hidden=1.0, size=4)

    def content(profile):
        values = profile.model_dump()
        del values["making"]["created"]
        return values

    first, again, other = (content(fit(answers, seed=seed).profile) for seed in (0, 0, 1))
    assert first == again != other


def test_what_is_asked_for_is_what_is_made(answers):
    shares = Shares(0.5, 0.3, 0.2)
    profile = fit(answers, inputs="signals", calibrator="venn_abers", shares=shares).profile
    assert profile.confidence_model.inputs == "signals"
    assert isinstance(profile.calibrator, VennAbers)
    # Kept for the states that traffic is compared with.
    assert profile.depths == (0.5,)
    parts = split(answers, shares, 0)
    assert profile.making.parts == {name: len(part) for name, part in parts._asdict().items()}


def test_without_hidden_states_there_is_no_probe_and_a_note_says_so():
    made = fit(some_answers(200, size=0))
    assert made.profile.confidence_model.probe is None
    assert "No probe was tried" in made.notes[0]


def test_repeated_questions_are_noted():
    answers = some_answers(150)
    made = fit([*answers, *answers[:30]], inputs="hybridgrad")
    parts = made.profile.making.parts
    assert made.profile.making.answers == 180
    assert sum(parts.values()) < 180
    assert f"{180 - sum(parts.values())} answers were left out" in made.notes[0]


@pytest.fixture(scope="module")
def by_kind(answers):
    """Two kinds of questions: few answers are right of one, most of the other; some are of no kind."""
    random = np.random.default_rng(5)
    kinds = random.choice(["easy", "hard", ""], 600, p=[0.5, 0.4, 0.1])
    hard = [
        replace(one, kind=str(kind), correct=one.correct and (kind != "hard" or random.random() < 0.3))
        for one, kind in zip(answers, kinds, strict=True)
    ]
    return hard, fit(hard, by_kind="kind").profile, fit(hard).profile


def test_each_kind_is_certified_beside_all_in_their_mix(by_kind):
    answers, profile, plain = by_kind
    assert plain.certified == tuple(one for one in profile.certified if not one.kind)
    assert [(one.guarantee, one.kind, one.kinds) for one in profile.certified if one.kind] == [
        (guarantee, kind, 2) for guarantee in GUARANTEES for kind in ("easy", "hard")
    ]
    certify = split(answers, Shares(), 0).certify
    for kind in ("easy", "hard"):
        one = profile.certified_for(GUARANTEES[0], kind)
        assert one.n == sum(answers[at].kind == kind for at in certify)
    assert profile.certified_for(GUARANTEES[0], "easy").threshold is not None
    assert profile.certified_for(GUARANTEES[0], "hard").threshold is None
    assert contradiction_in(profile) == ""


def test_a_threshold_for_a_kind_is_reported_on_answers_of_that_kind(by_kind):
    answers, profile, _ = by_kind
    report = split(answers, Shares(), 0).report
    measured = next(one for one in profile.report["certified"] if one.get("kind") == "easy")
    threshold = profile.certified_for(GUARANTEES[0], "easy").threshold
    easy = [answers[at] for at in report if answers[at].kind == "easy"]
    let_through = [one for one in easy if profile.confidence_model.score(one.observation) >= threshold]
    assert measured["coverage"]["n"] == len(easy)
    assert measured["accepted"] == len(let_through) > 0
    assert measured["errors"] == sum(not one.correct for one in let_through)


def test_a_field_that_no_line_has_names_no_kind(answers):
    with pytest.raises(CalibrationError, match="none has a field 'topic'"):
        fit(answers[:200], by_kind="topic", inputs="hybridgrad")


def test_folds_keep_a_group_whole(monkeypatch):
    answers = [replace(one, group=f"{at // 4}") for at, one in enumerate(some_answers(600, size=0))]
    seen = []

    class Watched(CrossFit):
        def __init__(self, kind, inputs, correct, fold):
            seen.append(fold)
            super().__init__(kind, inputs, correct, fold)

    monkeypatch.setattr("guardrail.calibration.fit.CrossFit", Watched)
    fit(answers, inputs="signals")
    groups = [answers[at].group for at in split(answers, Shares(), 0).fit]
    assert len(set(zip(groups, seen[0].tolist(), strict=True))) == len(set(groups)) > 40


def _lacking(answers, **changes):
    changed = replace(answers[7].observation, **changes)
    return [*answers[:7], replace(answers[7], observation=changed), *answers[8:]]


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        (lambda some: [], {}, "0 answered questions are too few"),
        (lambda some: some[:60], {}, "60 answered questions are too few"),
        (lambda some: [replace(one, correct=True) for one in some], {}, "nothing can be learned about wrong"),
        (lambda some: [replace(one, correct=False) for one in some], {}, "can be learned about correct"),
        (lambda some: _lacking(some, hidden=None), {"inputs": "probe"}, "not every answer has one"),
        (
            lambda some: _lacking(some, hidden=HiddenState(0.1, [1.0], [1.0])),
            {"inputs": "probe"},
            "same depth",
        ),
        (lambda some: _lacking(some, scores={}), {}, "Answer 8 of 200 has no finite HybridGrad"),
    ],
)
def test_answers_that_teach_nothing_are_refused(change, options, said):
    with pytest.raises(CalibrationError, match=said):
        fit(change(some_answers(200)), **options)


def test_answers_that_nobody_judged_make_a_profile_of_quantiles(tmp_path):
    observations = [answer.observation for answer in some_answers(50)]
    profile = reference_profile(observations, model=MODEL, scorer=SCORER, making=SOURCE)
    write_profile(profile, tmp_path / "p.json")
    assert read_profile(tmp_path / "p.json") == profile
    assert not profile.is_calibrated
    found = profile.assess(observations[0])
    assert found.confidence is None
    assert 0 <= found.quantiles["hybridgrad"] <= 1


@pytest.mark.parametrize("observations", [[], [Observation({"hybridgrad": float("nan")})]])
def test_nothing_makes_no_profile_of_quantiles(observations):
    with pytest.raises(CalibrationError, match="no reference"):
        reference_profile(observations, model=MODEL, scorer=SCORER, making=SOURCE)
