"""Answers that the profile does not hold for: what the rules know of them, and what decides."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardrail.calibration.profile import Guarantee
from guardrail.policy.decide import decide, explain
from guardrail.policy.evidence import Evidence
from guardrail.policy.load import load_policy
from guardrail.policy.model import Policy
from guardrail.policy.yaml_document import builtin_policies
from tests.support.policy_strategies import KNOWN, WHENS
from tests.support.policy_texts import check, rules

OUTSIDE = "the answer is from gpt-4o-mini, but the profile is for smollm2-135m"
SURE = Evidence(
    confidence=0.97,
    scores={"hybridgrad": 0.001, "tokens": 12.0},
    quantiles={"hybridgrad": 0.31},
    guarantees=frozenset(),
    finish_reason="stop",
)
STRICTNESS = {"pass": 0, "flag": 1, "escalate": 2, "abstain": 3}
ESCALATION = {"human": {"queue": "sqlite:///queue.db"}}
READY = {name: load_policy(f"builtin:{name}") for name in builtin_policies()}


def outcome(action, **fields):
    return {"action": action, **fields, **({"to": "human"} if action == "escalate" else {})}


def policy_of(*listed, **fields):
    values = {"version": 1, "name": "p", "rules": list(listed), "escalation": ESCALATION, **fields}
    return Policy.model_validate(values)


@st.composite
def policies(draw):
    whens = draw(st.lists(WHENS, min_size=1, max_size=4))
    listed = [
        {"id": f"r{at}", "when": when.model_dump(by_alias=True, exclude_none=True)} | outcome(draw(ACTIONS))
        for at, when in enumerate(whens)
    ]
    unknown = outcome(draw(st.sampled_from(["flag", "abstain", "escalate"])))
    return policy_of(*listed, {"id": "default", **outcome(draw(ACTIONS))}, on_uncalibrated=unknown)


ACTIONS = st.sampled_from([*STRICTNESS])


@settings(max_examples=500, deadline=None)
@given(policy=st.one_of(policies(), st.sampled_from([*READY.values()])), evidence=KNOWN)
def test_outside_of_the_domain_nothing_is_let_through_further_than_inside(policy, evidence):
    # The one ready policy that warns there withholds nothing inside either.
    outside = decide(policy, replace(evidence, outside_domain=OUTSIDE))
    inside = decide(policy, evidence)
    if policy.on_outside_domain.action == "flag":
        assert outside.action == "flag" or outside == inside
        assert not any(rule.action in ("abstain", "escalate") for rule in policy.rules)
    else:
        assert STRICTNESS[outside.action] >= STRICTNESS[inside.action]
    if outside.rule != "on_outside_domain":
        assert (outside.action, outside.rule) == (inside.action, inside.rule)


@settings(max_examples=200, deadline=None)
@given(
    policy=policies(),
    evidence=KNOWN,
    action=st.sampled_from(["flag", "abstain", "escalate"]),
    is_uncalibrated=st.booleans(),
)
def test_what_is_unknown_outside_is_never_passed(policy, evidence, action, is_uncalibrated):
    values = {**policy.as_plain(), "on_outside_domain": outcome(action)}
    policy = Policy.model_validate(values)
    decision = decide(policy, replace(evidence, outside_domain=OUTSIDE, is_uncalibrated=is_uncalibrated))
    if decision.rule.startswith("on_"):
        assert STRICTNESS[decision.action] >= STRICTNESS[action]
        assert OUTSIDE in decision.reason
        if is_uncalibrated:
            # Without a profile, the model's own answers would meet on_uncalibrated.
            assert STRICTNESS[decision.action] >= STRICTNESS[policy.on_uncalibrated.action]


@pytest.mark.parametrize("name", READY)
@pytest.mark.parametrize("confidence", [0.01, 0.22, 0.55, 0.99])
@pytest.mark.parametrize("is_uncalibrated", [True, False])
def test_no_ready_policy_passes_what_another_model_answered(name, confidence, is_uncalibrated):
    evidence = replace(SURE, confidence=confidence, outside_domain=OUTSIDE, is_uncalibrated=is_uncalibrated)
    decision = decide(READY[name], evidence)
    assert decision.action == {"lenient": "flag"}.get(name, decision.action)
    assert decision.action in ("abstain", "escalate") or name == "lenient"
    assert OUTSIDE in decision.reason


def test_no_number_of_the_profile_is_told_of_an_answer_that_it_does_not_hold_for():
    message = "{confidence:.2f} {quantile_hybridgrad:.2f} {hybridgrad:.3f}"
    listed = (
        {"id": "a", "when": {"confidence": {"lt": 0.5}}, "action": "pass"},
        {"id": "b", "when": {"quantile": {"hybridgrad": {"gt": 0.9}}}, "action": "pass"},
        {"id": "default", "action": "flag", "message": message},
    )
    policy = policy_of(*listed, on_outside_domain={"action": "flag", "message": message})
    evidence = replace(SURE, outside_domain=OUTSIDE, call_confidences=(("send", 0.97),))
    decision = decide(policy, evidence)
    assert decision.message == "unknown unknown 0.001"
    told = decision.reason + repr(explain(policy, evidence))
    assert "0.97" not in told
    assert "0.31" not in told
    # A default that hangs on nothing still may not tell it.
    decision = decide(policy_of(listed[-1]), evidence)
    assert (decision.rule, decision.message) == ("default", "unknown unknown 0.001")


@pytest.mark.parametrize(
    ("when", "evidence"),
    [
        ({"tags": ["public"]}, replace(SURE, tags=frozenset({"public"}))),
        ({"tool_call": ["send_*"]}, replace(SURE, tool_calls=("send_mail",))),
        ({"uncertainty": {"hybridgrad": {"lt": 0.01}}}, SURE),
        ({"finish_reason": ["stop"]}, SURE),
        ({"any": [{"confidence": {"gte": 0.9}}, {"uncertainty": {"tokens": {"lt": 50}}}]}, SURE),
    ],
    ids=["tags", "tools", "score", "finish reason", "any"],
)
@pytest.mark.parametrize("action", STRICTNESS)
def test_a_rule_that_does_not_hang_on_the_profile_decides_as_ever(when, evidence, action):
    policy = policy_of({"id": "a", "when": when, **outcome(action)}, {"id": "default", "action": "abstain"})
    for outside in ("", OUTSIDE):
        decision = decide(policy, replace(evidence, outside_domain=outside))
        assert (decision.action, decision.rule) == (action, "a")


@pytest.mark.parametrize("action", ["flag", "abstain", "escalate"])
def test_the_policy_says_what_becomes_of_an_answer_outside_of_the_domain(action):
    unsure = {"id": "unsure", "when": {"confidence": {"gte": 0.5}}, "action": "pass"}
    policy = policy_of(
        unsure,
        {"id": "default", "action": "abstain"},
        on_uncalibrated="flag",
        on_outside_domain=outcome(action, message="by {rule}"),
    )
    decision = decide(policy, replace(SURE, outside_domain=OUTSIDE))
    assert (decision.action, decision.rule, decision.message) == (
        action,
        "on_outside_domain",
        "by on_outside_domain",
    )
    assert decision.to == ("human" if action == "escalate" else None)
    assert decide(policy, replace(SURE, confidence=None)).rule == "on_uncalibrated"


@pytest.mark.parametrize(
    ("uncalibrated", "outside", "decides"),
    [
        ("flag", "abstain", ("abstain", "on_outside_domain")),
        ("abstain", "flag", ("abstain", "on_uncalibrated")),
        ("flag", "flag", ("flag", "on_outside_domain")),
        ("escalate", "flag", ("escalate", "on_uncalibrated")),
    ],
)
def test_without_a_profile_the_stricter_of_the_two_decides_on_anothers_answer(uncalibrated, outside, decides):
    policy = policy_of(
        {"id": "sure", "when": {"confidence": {"gte": 0.5}}, "action": "pass"},
        {"id": "default", "action": "abstain"},
        on_uncalibrated=outcome(uncalibrated),
        on_outside_domain=outcome(outside),
    )
    evidence = Evidence(scores={"tokens": 3.0}, outside_domain=OUTSIDE, is_uncalibrated=True)
    decision = decide(policy, evidence)
    assert (decision.action, decision.rule) == decides


@pytest.mark.parametrize("odd", [None, 1, b"x", ["x"], True])
def test_a_reason_that_is_no_text_is_no_evidence(odd):
    policy = policy_of({"id": "default", "action": "pass"})
    assert decide(policy, replace(SURE, outside_domain=odd)).rule == "on_error"


def test_a_policy_that_extends_another_inherits_what_decides_outside():
    base = check("version: 1\nname: p\nextends: builtin:lenient\n").policy
    assert base.on_outside_domain.action == "flag"
    child = check("version: 1\nname: p\nextends: builtin:lenient\non_outside_domain: abstain\n").policy
    assert child.on_outside_domain.message is None
    assert child.on_outside_domain.action == "abstain"


def test_what_decides_outside_is_part_of_what_a_policy_is():
    plain = check(rules("{id: a, action: abstain}")).policy
    assert json.loads(json.dumps(plain.as_plain()))["on_outside_domain"] == {"action": "abstain"}
    other = check(rules("{id: a, action: abstain}", on_outside_domain="flag")).policy
    assert other.digest != plain.digest


@pytest.mark.parametrize("familiar", ["untried", "familiar", "unlike", None])
def test_a_rule_may_go_by_whether_the_questions_are_like_those_of_the_profile(familiar):
    policy = policy_of(
        {"id": "new", "when": {"familiar": ["untried", "unlike"]}, "action": "flag"},
        {"id": "all", "action": "pass"},
    )
    decision = decide(policy, replace(SURE, familiar=familiar))
    expected = {"familiar": ("pass", "all"), None: ("abstain", "on_uncalibrated")}
    assert (decision.action, decision.rule) == expected.get(familiar, ("flag", "new"))
    assert familiar == "familiar" or "the profile" in decision.reason


def test_what_is_not_certified_is_no_guarantee_and_the_reason_stays_to_the_end():
    certified = {"id": "c", "when": {"certified": {"max_error": 0.1, "confidence": 0.9}}, "action": "pass"}
    known = replace(SURE, guarantees=frozenset({Guarantee(0.1, 0.9)}))
    policy = policy_of(certified, {"id": "rest", "action": "flag"})
    assert decide(policy, known).rule == "c"
    decision = decide(policy, replace(known, uncertified="the profile is a general one"))
    assert decision.rule == "rest"
    assert "nothing is certified: the profile is a general one" in decision.reason
