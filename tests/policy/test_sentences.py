"""``streaming: sentences``: what a policy that decides on sentences cannot have."""

import json

import pytest
from pydantic import ValidationError

from guardrail.policy.conditions import OF_WHOLE_ANSWERS
from guardrail.policy.model import Policy
from tests.support.policy_texts import mistakes, rules

DEFAULT = "{id: default, action: abstain}"
CONDITIONS = {
    "certified": {"certified": {"max_error": 0.1, "confidence": 0.9}},
    "familiar": {"familiar": "unlike"},
    "finish_reason": {"any": [{"finish_reason": "stop"}, {"tags": "a"}]},
    "tool_call": {"not": {"tool_call": True}},
    "uncertainty.tokens": {"all": [{"uncertainty": {"tokens": {"gte": 9}}}]},
    "quantile.tokens": {"quantile": {"tokens": {"gte": 0.9}}},
}
ESCALATED = {
    "rules[0].action": {"rule": "{id: a, action: escalate, to: t}"},
    "on_error.action": {"on_error": "{action: escalate, to: t}"},
    "on_uncalibrated.action": {"on_uncalibrated": "{action: escalate, to: t}"},
    "on_outside_domain.action": {"on_outside_domain": "{action: escalate, to: t}"},
}


def mistakes_of(*lines, **keys):
    return mistakes(rules(*lines, streaming="sentences", **keys))


def test_every_condition_on_whole_answers_is_tried_here():
    assert CONDITIONS.keys() == OF_WHOLE_ANSWERS.keys()


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_condition_on_the_whole_answer_is_refused_where_it_stands(name):
    when = CONDITIONS[name]
    line = f"{{id: a, when: {json.dumps(when)}, action: flag}}"
    (found,) = [one for one in mistakes_of(line, DEFAULT) if "is no condition" in one]
    assert f"is no condition for streaming: sentences: {OF_WHOLE_ANSWERS[name]}" in found
    assert found.startswith("p.yaml:4:")
    ruled = [{"id": "a", "when": when, "action": "flag"}, {"id": "default", "action": "abstain"}]
    values = {"version": 1, "name": "p", "profile": "./a.json", "rules": ruled}
    assert Policy.model_validate(values)
    with pytest.raises(ValidationError, match="streaming: sentences has no"):
        Policy.model_validate({**values, "streaming": "sentences"})


@pytest.mark.parametrize("place", ESCALATED)
def test_nobody_else_answers_what_was_answered_in_part(place):
    keys = dict(ESCALATED[place])
    lines = [keys.pop("rule")] if "rule" in keys else [DEFAULT]
    found = mistakes_of(*lines, escalation="{t: {callable: 'a:b'}}", **keys)
    assert any(f"{place}: is escalate, but streaming: sentences has no escalate" in one for one in found)


def test_a_profile_of_sentences_has_to_be_named():
    for keys in ({}, {"profile": "auto"}):
        found = mistakes_of(DEFAULT, **keys)
        assert any("streaming: is sentences, which needs a profile of sentences" in one for one in found)
    rule = {"id": "a", "action": "abstain"}
    with pytest.raises(ValidationError, match="needs a profile of sentences"):
        Policy.model_validate({"version": 1, "name": "p", "rules": [rule], "streaming": "sentences"})
