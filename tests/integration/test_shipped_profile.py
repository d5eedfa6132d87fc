"""The profile that ships is one of the built-in model, and tells a likely answer from an unlikely one."""

from dataclasses import replace

import pytest

from guardrail.calibration.held_out import builtin_profile
from guardrail.calibration.profile import read_profile
from guardrail.guard import Guard
from guardrail.labelling.answer_facts import SINGLE_QUESTION
from guardrail.models.local import LocalModel


@pytest.fixture(scope="module")
def guard():
    return Guard.from_policy("builtin:default", LocalModel.load())


@pytest.fixture(scope="module")
def profile():
    return read_profile(builtin_profile("smollm2-135m"))


@pytest.mark.slow
def test_an_easy_and_a_hard_question_get_different_confidences(guard, profile):
    easy, hard = guard.ask_batch(
        ["What is the capital of France?", "Which element has the atomic number 109?"]
    )
    assert easy.profile_digest == hard.profile_digest == profile.digest
    assert easy.confidence > 0.75
    assert hard.confidence < 0.5
    assert (easy.action, hard.action) == ("flag", "abstain")
    assert "Paris" in easy.text
    assert hard.draft not in hard.text
    # It is of nobody's own questions: what its report certifies is no promise of an app's answers.
    assert easy.guarantees == hard.guarantees == ()
    assert "general one" in easy.uncertified


def test_what_it_could_not_certify_it_says(profile):
    parts = profile.making.parts
    # Of answers about one passage one counts for certifying and reporting.
    assert sum(parts.values()) <= profile.making.answers == 2257
    assert min(parts.values()) >= 300
    assert {one.max_error for one in profile.certified} == {0.05, 0.1, 0.2, 0.3}
    assert all((one.threshold is None) is bool(one.reason) for one in profile.certified)
    assert [one.max_error for one in profile.certified if one.threshold is not None] == [0.3]
    # That is of its own mix of questions, and of nobody's traffic.
    assert profile.certifies_nothing


def test_it_is_a_general_one_of_conversations_too_and_keeps_states(profile):
    assert profile.is_general
    assert profile.states is not None
    assert (profile.domain.turns.low, profile.domain.turns.high) == (1, 8)


def test_it_holds_under_the_system_message_of_an_app_and_not_in_json_or_a_long_conversation(profile):
    # A fifth of its answers were given under one of sixty.
    assert profile.domain.differences(replace(SINGLE_QUESTION, system="an app's")) == []
    assert profile.domain.differences(SINGLE_QUESTION) == []
    for fact, value in {"form": "json", "turns": 9, "tools": True, "script": "cyrillic"}.items():
        facts = replace(SINGLE_QUESTION, **{fact: value})
        assert [one.fact for one in profile.domain.differences(facts)] == [fact]


def test_its_probabilities_beat_the_base_rate_on_answers_held_out(profile):
    report = profile.report
    assert report["n"] >= 200
    assert report["brier"]["value"] < report["brier_base_rate"]["value"]
    assert report["auroc"]["low"] > 0.6
