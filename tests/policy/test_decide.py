from collections.abc import Mapping
from dataclasses import replace
from math import nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardrail.calibration.profile import Guarantee
from guardrail.policy.conditions import When
from guardrail.policy.decide import decide, evaluate, explain
from guardrail.policy.evidence import Decision, Evidence
from guardrail.policy.load import load_policy
from guardrail.policy.yaml_document import builtin_policies
from tests.support.policy_strategies import ANYTHING, KNOWN, NOT_FINITE, WHENS
from tests.support.policy_texts import GOOD, check, rules

POLICIES = {name: load_policy(f"builtin:{name}") for name in builtin_policies()}
POLICIES["everything"] = check(GOOD).policy
POLICIES["pass"] = check(rules("{id: default, action: pass}", on_uncalibrated="flag")).policy
POLICIES["sure"] = check(
    rules(
        "{id: sure, when: {not: {confidence: {lt: 0.5}}}, action: pass}",
        "{id: odd, when: {any: [{quantile: {hybridgrad: {lt: 0.9}}}, {tags: public}]}, action: pass}",
        "{id: default, action: flag}",
        on_uncalibrated="flag",
    )
).policy
SURE = Evidence(confidence=0.97, scores={"hybridgrad": 0.001, "tokens": 12}, guarantees=frozenset())
WITHHELD = ("abstain", "escalate")


def _rules(*lines, **keys):
    checked = check(rules(*lines, **keys))
    assert checked.policy is not None, checked.mistakes
    return checked.policy


@pytest.mark.parametrize(
    ("patterns", "why"),
    [
        (["wire_money"], "the answer calls the tool wire_money"),
        (["*"], "the answer calls a tool that matches *"),
        (["find", "wire_*", "*money"], "the answer calls a tool that matches wire_* or *money"),
    ],
)
def test_a_reason_names_no_tool_in_the_words_of_the_model(patterns, why):
    when = When(tool_call=patterns)
    assert evaluate(when, Evidence(tool_calls=("wire_money",))).why == why
    assert "Ouagadougou" not in evaluate(When(tool_call=["*"]), Evidence(tool_calls=("Ouagadougou",))).why


def test_a_reason_names_no_tag_in_the_words_of_a_client():
    assert evaluate(When(tags=["team:*"]), Evidence(tags={"team:blue"})).why == (
        "the request has a tag that matches team:*"
    )


@settings(max_examples=400, deadline=None)
@given(policy=st.sampled_from([*POLICIES.values()]), evidence=ANYTHING)
def test_every_evidence_is_decided_on_and_none_with_an_error_is_shown(policy, evidence):
    decision = decide(policy, evidence)
    assert isinstance(decision, Decision)
    if evidence.error != "" or decision.rule == "on_error":
        assert decision.rule == "on_error"
        assert decision.action in WITHHELD
    assert explain(policy, evidence)


@settings(max_examples=200, deadline=None)
@given(
    policy=st.sampled_from([*POLICIES.values()]),
    evidence=KNOWN,
    odd=st.one_of(NOT_FINITE, st.sampled_from([-0.1, 1.1, "1", True, [], 1j])),
    where=st.sampled_from(["confidence", "scores", "quantiles"]),
)
def test_a_number_that_is_none_lets_nothing_pass(policy, evidence, odd, where):
    value = odd if where == "confidence" else {"min_token_probability": odd}
    decision = decide(policy, replace(evidence, **{where: value}))
    assert decision.action in WITHHELD
    assert decision.rule == "on_error"


@pytest.mark.parametrize("evidence", [None, 3, "sure", object(), {}])
def test_what_is_no_evidence_at_all_lets_nothing_pass(evidence):
    assert decide(POLICIES["pass"], evidence).action == "abstain"


class _Treacherous(Mapping):
    def __getitem__(self, key):
        raise RuntimeError("gone")

    def __iter__(self):
        raise MemoryError

    def __len__(self):
        return 1


def test_evidence_that_cannot_be_read_lets_nothing_pass():
    decision = decide(POLICIES["pass"], replace(SURE, scores=_Treacherous()))
    assert (decision.action, decision.rule) == ("abstain", "on_error")
    assert "MemoryError" in decision.reason


@pytest.mark.parametrize(
    ("evidence", "reason"),
    [
        (Evidence(), "the answer was not scored"),
        (Evidence(tags=frozenset({"public"})), "the answer was not scored"),
        (replace(SURE, scores={"tokens": 0}), "the answer is empty"),
        (replace(SURE, error="out of memory"), "out of memory"),
        (replace(SURE, error=" "), " "),
        (replace(SURE, error=None), "None"),
        (replace(SURE, confidence=nan), "the confidence is nan, which is not a number from 0 to 1"),
        (
            replace(SURE, quantiles={"tokens": 2}),
            "the quantile of 'tokens' is 2, which is not a number from 0 to 1",
        ),
        (replace(SURE, scores={"log_likelihood": 1}), "'log_likelihood' is 1, which is impossible"),
        (replace(SURE, scores=None), "the scores are not a map of names to numbers"),
        (replace(SURE, tags="public"), "the tags are not a list of names"),
        (replace(SURE, finish_reason=7), "the finish reason is 7"),
        (replace(SURE, guarantees=frozenset({(nan, 1)})), "the guarantees are not a set of pairs of shares"),
    ],
)
def test_the_reason_says_what_is_wrong_with_the_evidence(evidence, reason):
    assert decide(POLICIES["pass"], evidence).reason == reason
    assert explain(POLICIES["pass"], evidence) == [("on_error", "true", reason)]


def test_a_little_rounding_is_no_error():
    assert decide(POLICIES["pass"], replace(SURE, scores={"mean_entropy": -1e-9})).action == "pass"


def test_numbers_of_numpy_are_numbers():
    evidence = Evidence(confidence=np.float32(0.75), scores={"tokens": np.int64(3)}, guarantees=frozenset())
    assert decide(POLICIES["default"], evidence).message == "Check before using: 75% likely to be right."


def test_the_first_rule_that_holds_decides():
    policy = _rules(
        "{id: a, when: {tags: x}, action: abstain}",
        "{id: b, when: {confidence: {gte: 0.9}}, action: pass}",
        "{id: c, when: {confidence: {gte: 0.5}}, action: flag}",
        "{id: d, action: abstain}",
    )
    decisions = [decide(policy, replace(SURE, confidence=value)) for value in (0.9, 0.6, 0.1)]
    assert [decision.rule for decision in decisions] == ["b", "c", "d"]
    assert decide(policy, replace(SURE, tags=frozenset({"x"}))).rule == "a"


def test_a_rule_that_hangs_on_the_unknown_is_not_skipped():
    policy = _rules(
        "{id: risky, when: {confidence: {lt: 0.1}}, action: abstain}",
        "{id: known, when: {tags: x}, action: pass}",
        "{id: default, action: pass}",
        on_uncalibrated="{action: flag, message: 'by {rule} at {confidence:.0%}'}",
    )
    decision = decide(policy, Evidence(scores={"tokens": 3}, tags=frozenset({"x"})))
    assert (decision.action, decision.rule) == ("flag", "on_uncalibrated")
    assert decision.message == "by on_uncalibrated at unknown"
    assert decision.reason == "rule risky cannot be decided: confidence is unknown"


def test_the_unknown_does_not_matter_where_it_decides_nothing():
    policy = _rules(
        "{id: a, when: {tags: x, confidence: {lt: 0.1}}, action: abstain}",
        "{id: b, when: {any: [{tool_call: true}, {quantile: {tokens: {lt: 0.1}}}]}, action: flag}",
        "{id: default, action: abstain}",
    )
    assert decide(policy, Evidence(scores={"tokens": 3}, tool_calls=("send",))).rule == "b"


@pytest.mark.parametrize(
    ("when", "evidence", "holds"),
    [
        ("{confidence: {gte: 0.97}}", SURE, True),
        ("{confidence: {gt: 0.97}}", SURE, False),
        ("{confidence: {lte: 0.97}}", SURE, True),
        ("{confidence: {lt: 0.97}}", SURE, False),
        ("{confidence: {gt: 0.9, lt: 0.95}}", SURE, False),
        ("{uncertainty: {hybridgrad: {lt: 1e-2}, tokens: {gte: 12}}}", SURE, True),
        ("{uncertainty: {exgrad: {lt: 1}}}", SURE, None),
        ("{quantile: {hybridgrad: {lt: 1}}}", SURE, None),
        ("{quantile: {confidence_score: {lt: 1}}}", replace(SURE, quantiles={"confidence_score": 0.5}), True),
        ("{certified: {max_error: 0.05, confidence: 0.95}}", SURE, False),
        ("{certified: {max_error: 0.05, confidence: 0.95}}", replace(SURE, guarantees=None), None),
        (
            "{certified: {max_error: 0.05, confidence: 0.95}}",
            replace(SURE, guarantees=frozenset({Guarantee(0.05, 1 - 0.05)})),
            True,
        ),
        ("{finish_reason: length}", SURE, None),
        ("{finish_reason: [stop, length]}", replace(SURE, finish_reason="stop"), True),
        ("{tags: in*}", replace(SURE, tags=frozenset({"Internal"})), False),
        ("{tags: [a, 'in*']}", replace(SURE, tags=frozenset({"internal"})), True),
        ("{tool_call: true}", SURE, False),
        ("{tool_call: 'send_*'}", replace(SURE, tool_calls=("read", "send_mail")), True),
        ("{not: {tool_call: true}}", SURE, True),
        ("{not: {quantile: {tokens: {lt: 1}}}}", SURE, None),
        ("{all: [{tags: a}, {quantile: {tokens: {lt: 1}}}]}", SURE, False),
        ("{any: [{tags: a}, {quantile: {tokens: {lt: 1}}}]}", SURE, None),
        ("{any: [{confidence: {gt: 0.5}}, {quantile: {tokens: {lt: 1}}}]}", SURE, True),
    ],
)
def test_conditions_hold_fail_or_are_unknown(when, evidence, holds):
    policy = _rules(f"{{id: a, when: {when}, action: flag}}", "{id: default, action: abstain}")
    outcome = {True: "true", False: "false", None: "unknown"}[holds]
    first, _ = explain(policy, evidence)
    assert (first.rule, first.outcome) == ("a", outcome)
    assert first.why
    assert decide(policy, evidence).rule == {True: "a", False: "default", None: "on_uncalibrated"}[holds]


@given(when=WHENS, evidence=KNOWN)
def test_what_is_known_is_never_unknown(when, evidence):
    assert evaluate(when, evidence).holds is not None


@given(when=WHENS, evidence=KNOWN)
def test_what_holds_or_fails_without_knowing_does_so_whatever_comes_to_be_known(when, evidence):
    partly = replace(evidence, confidence=None, quantiles={}, guarantees=None, finish_reason=None)
    before = evaluate(when, partly).holds
    assert before is None or evaluate(when, evidence).holds is before


def test_a_policy_that_observes_decides_the_same_and_enforces_nothing():
    enforcing, observing = POLICIES["default"], POLICIES["observe-only"]
    for confidence in (0.1, 0.6, 0.95, nan):
        evidence = replace(SURE, confidence=confidence)
        assert decide(observing, evidence) == replace(decide(enforcing, evidence), enforced=False)


def test_an_escalation_names_its_target():
    decision = decide(POLICIES["human-review"], replace(SURE, confidence=0.3))
    assert (decision.action, decision.to) == ("escalate", "human")
    assert "Somebody will look" in decision.message


@pytest.mark.parametrize("when", [{}, {"tags": None}, {"confidence": {"gte": None}}, {"not": {}}])
def test_conditions_that_ask_for_nothing_are_none(when):
    with pytest.raises(ValueError, match="has no"):
        When.model_validate(when)
