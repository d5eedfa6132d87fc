"""However tangled a policy is, looking through it ends soon; where its claims end is said."""

import sys
from random import Random
from time import process_time

import pytest

from guardrail.policy.answer_boxes import Budget
from guardrail.policy.reachability import check_reach
from guardrail.policy.yaml_document import read_text
from tests.support.policy_texts import check, rules

DEFAULT = "{id: default, action: abstain}"
# Of processor time, which other programs take nothing of; a slow machine still has some of it left.
# Tracing, as for coverage, makes it three times as slow.
SECONDS = 8 if sys.gettrace() is None else 24


def _bounds(random, most):
    low, high = sorted(random.uniform(0, most) for _ in range(2))
    return f"{{gte: {low:.5f}, lt: {high:.5f}}}"


def _two_numbers(random, at):
    return f"{{confidence: {_bounds(random, 1)}, uncertainty: {{tokens: {_bounds(random, 300)}}}}}"


def _three_numbers(random, at):
    return (
        f"{{quantile: {{semgrad: {_bounds(random, 1)}}}, any: [{_two_numbers(random, at)}, {{tags: t{at}}}]}}"
    )


def _patterns(random, at):
    return f"{{tags: ['{'a*' * (at % 40)}{at}', '*{at}*'], not: {{tool_call: ['{'*b' * 30}', 't{at}']}}}}"


def _tangled(condition, number):
    random = Random(7)
    return rules(
        *(f"{{id: r{at}, when: {condition(random, at)}, action: flag}}" for at in range(number)), DEFAULT
    )


def _one_rule(when):
    return rules(f"{{id: a, when: {when}, action: flag}}", DEFAULT)


def _targets(last):
    named = (f"t{at}: {{callable: 'a:b', on_error: t{at + 1}}}" for at in range(2000))
    return rules(
        DEFAULT, escalation="{" + ", ".join(named) + f", t2000: {{callable: 'a:b', on_error: {last}}}}}"
    )


_TEXTS = {
    "two numbers": _tangled(_two_numbers, 400),
    "three numbers": _tangled(_three_numbers, 400),
    "patterns": _tangled(_patterns, 200),
    "any": _one_rule("{any: [" + "{confidence: {gt: 0.5}}, " * 4000 + "{tags: x}]}"),
    "tags": _one_rule("{tags: [" + ", ".join(f"'*{at}*'" for at in range(4000)) + "]}"),
    "long pattern": _one_rule(f"{{tags: '{'*a' * 100_000}'}}"),
    "a line of targets": _targets("nowhere"),
    "a circle of targets": _targets("t0"),
    "unknown keys": rules(DEFAULT) + "".join(f"unkown_{at}: 1\n" for at in range(2000)),
    "many values": "version: 1\nname: p\nrules: [" + "1," * 400_000 + "1]\n",
    "long text": f"version: 1\nname: '{'a ' * 400_000}'\n",
}


@pytest.mark.parametrize("name", _TEXTS)
def test_looking_through_a_policy_ends_soon(name):
    began = process_time()
    check(_TEXTS[name])
    assert process_time() - began < SECONDS


def test_where_claims_end_is_said_at_the_first_rule_of_which_nothing_is_known():
    checked = check(_tangled(_three_numbers, 400))
    (said,) = [one for one in checked.warnings if "it is unknown whether" in one.text]
    assert said.path.startswith("rules[")
    assert "below it can ever decide: there are too many conditions to compare" in said.text


def test_a_smaller_budget_claims_less_and_nothing_else():
    root = read_text(_tangled(_two_numbers, 60), "p.yaml").root
    all_of_it = {str(one) for one in check_reach(root)[0]}
    assert all_of_it
    assert check_reach(root)[1] == []
    before: set[str] = set()
    for steps in (0, 30, 300, 3_000, 30_000):
        mistakes, warnings = check_reach(root, Budget(steps))
        claimed = {str(one) for one in mistakes}
        # A rule that one alone takes all of may be said to be taken by all of them together.
        assert {one.partition(": ")[0] for one in claimed} <= {one.partition(": ")[0] for one in all_of_it}
        assert len(claimed) >= len(before)
        assert bool(warnings) == (len(claimed) < len(all_of_it)) or warnings
        before = claimed


def test_a_policy_of_few_rules_is_claimed_of_whole():
    text = rules(
        *(f"{{id: r{at}, when: {{confidence: {{gte: {at / 400}, lt: {(at + 1) / 400}}}}}, action: flag}}"
          for at in range(400)),
        "{id: late, when: {confidence: {gte: 0.5, lt: 0.7}}, action: pass}",
        DEFAULT,
    )  # fmt: skip
    checked = check(text)
    assert [str(one).partition(": ")[0] for one in checked.mistakes] == ["p.yaml:404:5 rules[400]"]
    assert checked.warnings == ()
