"""What is said of a profile in sentences."""

import pytest

from guardrail.calibration.held_out import HeldOut
from guardrail.errors import CalibrationError
from guardrail.reports.profile_report import verdict
from tests.support.report_examples import FEASIBLE, INFEASIBLE, OF_KINDS, answers, calibrated, uncalibrated


def said(profile, topic):
    (statement,) = (one for one in verdict(profile) if one.topic == topic)
    return statement


def at(threshold):
    return (FEASIBLE.model_copy(update={"threshold": threshold}),)


def test_the_basis_comes_first():
    first = verdict(calibrated().profile)[0]
    assert first.text.startswith("Of 300 held-out answers, 164 were right (55\N{NO-BREAK SPACE}%).")


def test_a_good_profile_is_called_good_and_what_cannot_be_promised_is_said():
    tones = [statement.tone for statement in verdict(calibrated().profile)]
    assert tones == ["plain", "good", "good", "good", "good", "bad"]


@pytest.mark.parametrize(("sharpness", "tone"), [(1.0, "good"), (0.0, "caution"), (-1.0, "bad")])
def test_a_score_is_praised_only_where_it_beats_chance(sharpness, tone):
    held_out = answers(300)
    scores = tuple(sharpness * score for score in held_out.scores)
    profile = calibrated(HeldOut(scores, held_out.confidences, held_out.correct)).profile
    assert said(profile, "Ranking").tone == tone


def test_probabilities_that_are_off_by_more_than_chance_are_called_so():
    profile = calibrated(answers(600, shift=1.0)).profile
    statement = said(profile, "Probabilities")
    assert statement.tone == "caution"
    assert "more than chance explains" in statement.text


def test_probabilities_that_tell_nothing_are_not_praised():
    held_out = answers(300)
    constant = HeldOut(held_out.scores, (0.55,) * 300, held_out.correct)
    assert said(calibrated(constant).profile, "Gain").tone == "caution"


@pytest.mark.parametrize(
    ("threshold", "tone", "words"),
    [
        (2.4, "good", "5.1 %"),
        (1.7, "caution", "chance may explain it"),
        (-1.0, "bad", "more than chance explains"),
        (99.0, "caution", "accepts none of the held-out answers"),
    ],
)
def test_a_guarantee_is_held_against_the_held_out_answers(threshold, tone, words):
    statement = said(calibrated(answers(), at(threshold)).profile, "Guarantee")
    assert statement.tone == tone
    assert words in statement.text.replace("\N{NO-BREAK SPACE}", " ")


def test_what_cannot_be_promised_gives_the_reason():
    assert INFEASIBLE.reason in said(calibrated().profile, "No guarantee").text


def test_a_promise_that_no_app_is_ever_held_to_says_so():
    profile = calibrated().profile
    assert "Familiarity" not in [statement.topic for statement in verdict(profile)]
    statement = said(profile.model_copy(update={"states": None}), "Familiarity")
    assert statement.tone == "caution"
    assert "its thresholds accept no answer of an app" in statement.text


def test_a_promise_for_a_kind_and_one_for_the_mix_are_told_apart():
    statements = verdict(calibrated(certified=(FEASIBLE, *OF_KINDS)).profile)
    mix, fact, total = (one.text for one in statements[-3:])
    assert mix.startswith(
        "At most 10\N{NO-BREAK SPACE}% of the accepted answers in this mix of kinds are wrong"
    )
    assert fact.startswith("At most 10\N{NO-BREAK SPACE}% of the accepted answers of kind fact are wrong")
    assert "wrong of kind sum with" in total
    alone = verdict(calibrated(certified=(FEASIBLE,)).profile)[-1].text
    assert "kind" not in alone


def test_kinds_without_a_threshold_are_named_together_once_for_each_promise():
    lacking = OF_KINDS[-1]
    kinds = [lacking.model_copy(update={"kind": name}) for name in ("sum", "date", "place")]
    found = verdict(calibrated(certified=(FEASIBLE, OF_KINDS[0], *kinds)).profile)
    (last,) = [one.text for one in found if one.topic == "No guarantee"]
    assert "of each of these kinds: sum, date, place." in last


def test_answers_of_one_kind_leave_the_ranking_open():
    right = answers(60)
    profile = calibrated(HeldOut(right.scores, right.confidences, (True,) * 60), ()).profile
    statement = said(profile, "Ranking")
    assert statement.tone == "caution"
    assert "all 60 answers are right" in statement.text


def test_one_wrong_answer_is_too_few_to_praise_a_ranking():
    held_out = answers(60)
    labels = tuple(score != min(held_out.scores) for score in held_out.scores)
    profile = calibrated(HeldOut(held_out.scores, held_out.confidences, labels), ()).profile
    statement = said(profile, "Ranking")
    assert statement.tone == "caution"
    assert "too few answers of one kind (1 of 60)" in statement.text


def test_a_profile_without_labels_promises_nothing():
    (statement,) = verdict(uncalibrated())
    assert "no probability of being right and no guarantee" in statement.text


def test_figures_of_another_threshold_are_not_taken_for_those_of_this_one():
    profile = calibrated(certified=at(2.4)).profile.model_copy(update={"certified": at(1.0)})
    assert said(profile, "Guarantee").tone == "plain"


def test_a_report_that_cannot_be_read_leads_to_no_claim():
    report = {"auroc": "high", "certified": [{"max_error": 0.1}]}
    profile = calibrated().profile.model_copy(update={"report": report})
    assert [statement.tone for statement in verdict(profile)] == ["plain", "bad"]
    assert "held-out" not in said(profile, "Guarantee").text


def test_held_out_answers_need_all_three_of_each():
    with pytest.raises(CalibrationError, match="2 scores, 1 confidences and 2 labels"):
        HeldOut((0.1, 0.2), (0.5,), (True, False))
