"""Answers are drawn as those of the calibration were, unless the caller says otherwise."""

from hashlib import sha256

import pytest

from guardrail.calibration.domain import Span
from guardrail.guard.assess import sampling_of
from guardrail.models.decoding import GenerationControls
from guardrail.models.sampling import Sampling
from tests.support.guards import ASKED, SAID, SHORT, guard_of, profile_file
from tests.support.profiles import EVERYTHING, a_profile
from tests.support.reasoning import family


def made_with(**generation):
    profile = a_profile()
    making = profile.making.model_copy(update={"generation": generation})
    return profile.model_copy(update={"making": making})


def test_the_arguments_of_the_calibration_are_the_default():
    profile = made_with(
        max_tokens=128, temperature=0.0, top_p=1.0, seed=None, stop=["\n"], system_sha256=None
    )
    assert sampling_of(profile) == Sampling(max_tokens=128, stop=("\n",))


def test_without_a_profile_or_its_arguments_nothing_is_assumed():
    assert sampling_of(None) is None
    assert sampling_of(made_with()) is None


@pytest.mark.parametrize(
    ("system", "holds"), [("Answer briefly.", True), ("Answer at length.", False), (None, False)]
)
def test_a_guarantee_under_a_system_message_holds_under_no_other(tmp_path, system, holds):
    digest = sha256(b"Answer briefly.").hexdigest()
    domain = EVERYTHING.model_copy(update={"system": {digest: 120}, "systems": 1})
    path = profile_file(tmp_path, intercept=2.0, domain=domain)
    when = {"certified": {"max_error": 0.1, "confidence": 0.9}}
    certified = {"id": "certified", "when": when, "action": "pass"}
    guard = guard_of(certified, {"id": "default", "action": "abstain"}, profile=path)
    messages = [{"role": "user", "content": ASKED}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    for answer in (guard.ask(messages, SHORT), guard.judge(messages, SAID)):
        expected = ("pass", "certified") if holds else ("abstain", "on_outside_domain")
        assert (answer.action, answer.rule) == expected
        assert ("system message" in answer.reason) is not holds
        assert answer.domain == (() if holds else ("system",))


@pytest.mark.parametrize("turns", [(1, 1), (3, 9)])
def test_a_turn_that_the_profile_has_not_seen_has_neither_confidence_nor_guarantee(tmp_path, turns):
    domain = EVERYTHING.model_copy(update={"turns": Span(low=turns[0], high=turns[1])})
    path = profile_file(tmp_path, intercept=2.0, domain=domain)
    sure = {"id": "sure", "when": {"confidence": {"gte": 0.5}}, "action": "pass"}
    guard = guard_of(sure, {"id": "default", "action": "abstain"}, profile=path)
    earlier = [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]
    answer = guard.ask([*earlier, {"role": "user", "content": ASKED}], SHORT)
    assert (answer.action, answer.rule) == ("abstain", "on_outside_domain")
    assert (answer.confidence, answer.guarantees, answer.domain) == (None, None, ("turns",))
    of = "single questions" if turns == (1, 1) else "conversations of 3 to 9 turns"
    assert answer.outside_domain == f"the profile is of {of}, this is turn 2"
    assert answer.outside_domain in answer.reason


def test_arguments_of_the_template_for_one_answer_are_named_without_their_values(tmp_path):
    model = family("qwen3")
    path = profile_file(tmp_path, model=model, intercept=2.0)
    sure = {"id": "sure", "when": {"confidence": {"gte": 0.5}}, "action": "pass"}
    guard = guard_of(sure, {"id": "default", "action": "abstain"}, model=model, profile=path)
    controls = GenerationControls(chat_template_kwargs={"enable_thinking": "SECRET"})
    answer = guard.ask(ASKED, SHORT, controls=controls)
    assert answer.domain == ("chat_template_kwargs",)
    assert answer.outside_domain == "the chat template was given enable_thinking for this answer alone"
    assert "SECRET" not in str(answer.as_plain())
