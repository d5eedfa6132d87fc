"""What a policy would do to answers that are known, and on which answers that may be said."""

import pytest

from guardrail.calibration.held_out import builtin_held_out, builtin_profile, read_held_out
from guardrail.calibration.profile import Guarantee, read_profile
from guardrail.policy.decide import decide
from guardrail.policy.dry_run import KnownAnswer, known_answers, what_if
from guardrail.policy.evidence import Evidence
from guardrail.policy.load import check_text, load_policy
from guardrail.policy.model import Policy
from tests.support.report_examples import FEASIBLE
from tests.support.states import states_of

_POLICY = """
version: 1
name: test
rules:
  - {id: sure, when: {confidence: {gte: 0.8}}, action: pass}
  - {id: never, when: {tags: [never]}, action: escalate, to: people}
  - {id: unsure, when: {confidence: {gte: 0.5}}, action: flag}
  - {id: default, action: abstain}
escalation: {people: {queue: "sqlite:///queue.db"}}
"""
_SCORES = {"hybridgrad": 0.01}


def policy():
    return check_text(_POLICY).policy


def answer(confidence, correct=None):
    return KnownAnswer(Evidence(confidence=confidence), correct)


@pytest.fixture(scope="module")
def shipped():
    profile = read_profile(builtin_profile("smollm2-135m"))
    return profile, read_held_out(builtin_held_out("smollm2-135m"), profile)


def test_answers_are_counted_by_action_and_by_rule_in_the_order_of_the_policy():
    found = what_if(policy(), [answer(0.9), answer(0.6), answer(0.7), answer(0.1)])
    assert found.actions == {"pass": 1, "flag": 2, "abstain": 1, "escalate": 0}
    assert list(found.rules.items()) == [("sure", 1), ("never", 0), ("unsure", 2), ("default", 1)]
    assert [one.rule for one in found.decisions] == ["sure", "unsure", "unsure", "default"]


def test_what_cannot_be_decided_is_counted_apart():
    found = what_if(
        policy(), [KnownAnswer(Evidence(scores=_SCORES)), KnownAnswer(Evidence(error="no score"))]
    )
    assert dict(list(found.rules.items())[-2:]) == {"on_uncalibrated": 1, "on_error": 1}
    assert found.shown.count == 0


def test_coverage_and_error_are_of_those_let_through_and_the_error_of_those_judged():
    answers = [answer(0.9, True), answer(0.9, False), answer(0.6, True), answer(0.6), answer(0.1, False)]
    found = what_if(policy(), answers)
    assert (found.passed.count, found.passed.coverage.value, found.passed.error.value) == (2, 0.4, 0.5)
    assert (found.shown.count, found.shown.coverage.value) == (4, 0.8)
    assert (found.shown.error.value, found.shown.error.n) == (pytest.approx(1 / 3), 3)
    # Clopper & Pearson for 1 of 2: from (1 − 0.975)^(1/2) … by the beta quantile.
    assert found.passed.error.low == pytest.approx(1 - 0.975**0.5)


def test_of_nothing_let_through_there_is_no_error():
    error = what_if(policy(), [answer(0.1, True)]).shown.error
    assert error.value is None
    assert error.reason


def test_the_shipped_held_out_answers_are_those_of_the_shipped_report(shipped):
    from guardrail.metrics.confidence_quality import auroc, brier

    profile, held_out = shipped
    right = [one.correct for one in held_out]
    assert len(held_out) == profile.report["n"] == 415
    assert float(auroc([one.confidence_score for one in held_out], right)) == profile.report["auroc"]["value"]
    assert float(brier([one.confidence for one in held_out], right)) == profile.report["brier"]["value"]


@pytest.fixture
def certifying(shipped):
    """What ships, as if it had certified a threshold; and its held-out answers."""
    profile, held_out = shipped
    feasible = FEASIBLE.model_copy(update={"max_error": 0.2, "confidence": 0.95, "threshold": 0.7})
    return profile.model_copy(update={"certified": (feasible,)}), held_out


def test_a_held_out_answer_is_seen_as_the_guard_would_see_it(certifying):
    profile, held_out = certifying
    own = profile.model_copy(update={"is_general": False})
    known = known_answers(profile, held_out)
    for one, seen, by_own in zip(held_out, known, known_answers(own, held_out), strict=True):
        assert seen.evidence.confidence == pytest.approx(one.confidence)
        assert (Guarantee(0.2, 0.95) in by_own.evidence.guarantees) == (one.confidence_score >= 0.7)
        # What ships is a general profile, by which the guard meets no guarantee.
        assert seen.evidence.guarantees == frozenset()
        assert "general one" in seen.evidence.uncertified
    found = what_if(load_policy("builtin:default"), known)
    assert sum(found.actions.values()) == 415
    assert found.actions["escalate"] == 0


def test_an_answer_that_shows_nothing_is_not_counted_as_shown(shipped):
    from dataclasses import replace

    profile, held_out = shipped
    surest = max(held_out, key=lambda one: one.confidence)
    known = known_answers(profile, [surest, replace(surest, response=" \n")])
    assert [decide(policy(), one.evidence).action for one in known] == ["pass", "abstain"]


def test_no_held_out_answer_of_a_general_profile_meets_a_guarantee(certifying):
    profile, held_out = certifying
    certified = {"max_error": 0.2, "confidence": 0.95}
    assert any(profile.assess_score(one.confidence_score, one.scores).guarantees for one in held_out)
    policy = Policy.model_validate(
        {
            "version": 1,
            "name": "p",
            "rules": [
                {"id": "c", "when": {"certified": certified, "familiar": "familiar"}, "action": "pass"},
                {"id": "default", "action": "abstain"},
            ],
        }
    )
    assert what_if(policy, known_answers(profile, held_out)).rules["c"] == 0
    own = profile.model_copy(update={"is_general": False, "states": states_of()})
    assert what_if(policy, known_answers(own, held_out)).rules["c"] > 0
    # Nor one of a profile by which it is never known whether traffic is familiar.
    without = known_answers(own.model_copy(update={"states": None}), held_out)
    assert what_if(policy, without).rules["c"] == 0
    assert "keeps no states" in without[0].evidence.uncertified
