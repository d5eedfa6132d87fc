"""t* chosen by labels: what is expected stays unless another position is clearly better."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from pydantic import ValidationError

from guardrail.calibration.adapt import adapt
from guardrail.calibration.calibrate import calibrate
from guardrail.calibration.consistency import contradiction_in
from guardrail.calibration.cross_fitting import FOLDS
from guardrail.calibration.fit import fit_profile
from guardrail.calibration.options import FitOptions, MakingSource
from guardrail.calibration.profile import Guarantee, Profile, read_profile, write_profile
from guardrail.calibration.semantic_token_choice import Ranking, choose_semantic_token, common_candidates
from guardrail.calibration.splits import draw, redraw
from guardrail.labelling.answers import AnswerRecord, Judgement
from guardrail.labelling.collection import Collected
from guardrail.labelling.provenance import Provenance
from guardrail.metrics.confidence_quality import auroc
from guardrail.reports.profile_facts import making_facts
from guardrail.scoring.candidate_positions import CandidatePositions, PreservationByPosition
from guardrail.scoring.options import ScoringOptions, fingerprint_scorer
from tests.support.fitting import some_answers
from tests.support.labelled import BOTH_KINDS
from tests.support.profiles import MODEL

# At t* by the rule, which is named by no position.
SCORER = fingerprint_scorer(ScoringOptions())
SOURCE = MakingSource("questions.jsonl", "ef" * 32, "contains", {"max_tokens": 32})
OPTIONS = FitOptions("hybridgrad", "platt", (Guarantee(0.3, 0.8),))
PRESERVATION = PreservationByPosition(
    (0.1, 0.02, 0.03, 0.04), (None, "\n", "<|im_start|>", "assistant"), -1, -2, 0.01, -0.005, 0.02, 20, 60
)
EXPECTED = -2


def answers_with(strengths, count=300, seed=0, among=None, expected=EXPECTED):
    """Answers whose SemGrad tells right from wrong by so many standard deviations at each position."""
    random = np.random.default_rng(seed)
    answers = []
    for answer in some_answers(count, size=0, seed=seed):
        sign = 1 if answer.correct else -1
        semgrad = np.exp(-6 - np.array(strengths) * sign / 2 + random.normal(size=len(strengths)))
        kept = CandidatePositions(
            tuple(semgrad.tolist()),
            among or len(strengths),
            expected,
            PRESERVATION if among is None else None,
        )
        scores = kept.scores_at(expected, answer.observation.scores)
        observation = replace(answer.observation, scores=scores)
        answers.append(replace(answer, observation=observation, positions=kept))
    return answers


def choice_of(answers, correct=None):
    correct = np.array([answer.correct for answer in answers]) if correct is None else correct
    groups = np.arange(len(answers))
    fold = draw(groups, correct, [1] * FOLDS, np.random.default_rng(0))
    return choose_semantic_token(answers, common_candidates(answers), correct, groups, fold), fold


def fit(answers, options=OPTIONS):
    return fit_profile(answers, model=MODEL, scorer=SCORER, making=SOURCE, options=options)


@given(BOTH_KINDS)
def test_a_ranking_has_the_auroc_and_influences_that_sum_to_nothing(answers):
    scores, correct = answers
    ranking = Ranking.of(scores, correct)
    assert ranking.auroc == pytest.approx(float(auroc(scores, correct)))
    assert ranking.influence[correct].sum() == pytest.approx(0, abs=1e-12)
    assert ranking.influence[~correct].sum() == pytest.approx(0, abs=1e-12)
    assert ranking.above(ranking, np.arange(len(scores))) == (0, 0)


@pytest.mark.parametrize("together", [1, 3])
def test_the_standard_error_is_that_of_drawing_the_groups_again(together):
    random = np.random.default_rng(1)
    groups = np.repeat(np.arange(150), together)
    correct = np.repeat(random.random(150) < 0.6, together)
    shared = np.repeat(random.normal(size=(2, 150)), together, axis=1)
    one, other = shared + 0.8 * correct * np.array([[1.0], [0.6]]) + 0.1 * random.normal(size=shared.shape)
    _, error = Ranking.of(one, correct).above(Ranking.of(other, correct), groups)
    drawn = []
    for _ in range(400):
        of = np.concatenate([np.flatnonzero(groups == at) for at in random.integers(0, 150, 150)])
        drawn.append(float(auroc(one[of], correct[of]) - auroc(other[of], correct[of])))
    assert error == pytest.approx(np.std(drawn), rel=0.15)


def test_a_position_that_is_clearly_better_is_chosen_and_told():
    choice, _ = choice_of(answers_with([0.2, 1.6, 0.2, 0.2]))
    assert (choice.position, choice.expected, choice.answers, choice.groups) == (-3, EXPECTED, 300, 300)
    assert [one.position for one in choice.candidates] == [-4, -3, -2, -1]
    best, expected = choice.candidates[1], choice.candidates[2]
    assert best.auroc == pytest.approx(expected.auroc + best.above_expected)
    assert best.above_expected > 3 * best.standard_error
    assert (expected.above_expected, expected.standard_error) == (0, 0)
    assert (best.token, best.preservation) == ("\n", 0.02)
    assert choice.cross_fitted is not None
    assert choice.cross_fitted.positions == (-3,) * FOLDS
    assert choice.cross_fitted.above_expected > 2 * choice.cross_fitted.standard_error
    assert (choice.preservation.position, choice.preservation.margin) == (-1, 0.01)


def test_the_expected_position_stays_where_others_are_no_better():
    assert choice_of(answers_with([0.3, 0.3, 1.2, 0.3]))[0].position == EXPECTED
    # However much better the best of several looks on a hundred labels: most often it stays.
    stayed = [
        choice_of(answers_with([0.8] * 6, count=100, seed=seed))[0].position == EXPECTED for seed in range(60)
    ]
    assert np.mean(stayed) > 0.8


def test_what_is_said_of_a_fold_is_not_chosen_by_its_labels():
    answers = answers_with([0.6, 1.2, 0.8, 0.6], count=150)
    correct = np.array([answer.correct for answer in answers])
    before, fold = choice_of(answers)
    groups = np.arange(len(answers))
    changed = np.where(fold == 2, ~correct, correct)
    after = choose_semantic_token(answers, common_candidates(answers), changed, groups, fold)
    assert after.cross_fitted.positions[2] == before.cross_fitted.positions[2]
    assert after.cross_fitted.auroc != before.cross_fitted.auroc


def test_a_profile_is_fitted_and_certified_at_the_chosen_position():
    answers = answers_with([0.2, 1.6, 0.2, 0.2])
    fitted = fit(answers)
    profile = fitted.profile
    assert profile.scorer == replace(SCORER, semantic_token=-3)
    assert profile.scorer.options().semantic_token == -3
    assert profile.making.semantic_token.answers == profile.making.parts["fit"]
    assert any("SemGrad is taken at -3, not at -2 as expected" in note for note in fitted.notes)
    assert profile.report["auroc"]["value"] > 0.75
    assert fit(answers_with([0.2, 0.2, 0.2, 0.2])).profile.report["auroc"]["value"] < 0.7
    moved = answers[0].positions.scores_at(-3, answers[0].observation.scores)
    assert profile.confidence_model.score(replace(answers[0].observation, scores=moved)) == -np.log(
        moved["hybridgrad"]
    )
    facts = {fact.label: fact.text for fact in making_facts(profile)}
    assert facts["Semantic token"].startswith("-3 (-2 was expected), by ")
    assert (
        "Paraphrases say -1, by 0.010 before -2 (-0.005 to 0.020; 20 questions)." in facts["Semantic token"]
    )


def test_where_the_expected_position_stays_the_scorer_does():
    fitted = fit(answers_with([0.2, 0.2, 1.6, 0.2]))
    assert fitted.profile.scorer == SCORER
    assert fitted.profile.making.semantic_token.position == EXPECTED
    assert fitted.notes == ()
    facts = {fact.label: fact.text for fact in making_facts(fitted.profile)}
    assert facts["Semantic token"].startswith("-2 (as expected), by ")


def test_nothing_is_chosen_by_answers_that_keep_nothing_to_choose_by():
    answers = answers_with([0.2, 1.6, 0.2, 0.2])
    without = [replace(answer, positions=None) for answer in answers]
    profile = fit(without).profile
    assert profile.scorer == SCORER
    assert profile.making.semantic_token is None
    # As in files of before it could be.
    assert "semantic_token" not in profile.as_plain()["making"]
    one_lacks = [without[0], *answers[1:]]
    moved = replace(answers[0], positions=replace(answers[0].positions, expected=-3))
    far = [replace(one, positions=replace(one.positions, expected=-9)) for one in answers]
    for some in (one_lacks, [moved, *answers[1:]], far):
        assert not common_candidates(some)
        assert fit(some).profile.scorer == SCORER
    alone = answers_with([0.2, 1.6, 0.2, 0.2], among=1, expected=-1)
    assert fit(alone).profile.making.semantic_token is None


def test_a_short_prompt_leaves_the_positions_that_it_has():
    answers = answers_with([1.6, 0.2, 0.2, 0.2])
    kept = answers[0].positions
    short = replace(answers[0], positions=replace(kept, semgrad=kept.semgrad[1:]))
    assert common_candidates([short, *answers[1:]]) == range(-3, 0)
    assert fit([short, *answers[1:]]).profile.scorer.semantic_token != -4
    assert fit(answers).profile.scorer.semantic_token == -4


@pytest.fixture(scope="module")
def collected():
    made = Provenance(MODEL, SCORER, {"max_tokens": 32})
    records = [
        AnswerRecord(
            fields={"question": answer.question},
            response="It is.",
            correct=answer.correct,
            judgement=Judgement(answer.correct, "contains"),
            finish_reason="stop",
            scores={name: value for name, value in answer.observation.scores.items() if name != "tokens"},
            usage={"completion_tokens": 3, "prompt_tokens": 9, "total_tokens": 12},
            hidden=None,
            provenance=made,
            digest=f"{at:016}",
            positions=answer.positions,
        )
        for at, answer in enumerate(answers_with([0.2, 1.6, 0.2, 0.2]))
    ]
    return Collected(records, (), 0, 0)


def test_answers_scored_where_it_was_expected_are_those_of_the_profile(collected, tmp_path):
    questions = tmp_path / "questions.jsonl"
    questions.write_text("{}\n")
    fitted = calibrate(collected, questions, OPTIONS)
    write_profile(fitted.profile, tmp_path / "profile.json")
    profile = read_profile(tmp_path / "profile.json")
    assert profile == fitted.profile
    assert profile.scorer.semantic_token == -3
    # Held-out answers, and labels to adapt the profile by, are taken at its own position.
    held_out = redraw(profile, collected.records)
    assert [one.confidence for one in held_out] == list(fitted.held_out.confidences)
    adapted = adapt(profile, Collected(collected.records[:60], (), 0, 0), questions)
    assert adapted.scorer == profile.scorer
    assert adapted.making.semantic_token is None


def test_a_profile_that_contradicts_its_own_choice_is_refused(collected, tmp_path):
    questions = tmp_path / "questions.jsonl"
    questions.write_text("{}\n")
    profile = calibrate(collected, questions, OPTIONS).profile
    assert contradiction_in(profile) == ""
    plain = profile.as_plain()
    plain["scorer"]["semantic_token"] = None
    with pytest.raises(ValidationError, match="do not agree on the semantic token"):
        Profile.model_validate(plain)
    plain = profile.as_plain()
    plain["making"]["semantic_token"]["answers"] += 1
    assert "its semantic token was chosen by" in contradiction_in(Profile.model_validate(plain))
