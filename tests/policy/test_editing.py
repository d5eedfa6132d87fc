"""Thresholds of a policy's text are changed where they stand, and nothing else of it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.policy.editing import bounds_of, with_bound
from guardrail.policy.load import check_text
from guardrail.policy.yaml_document import builtin_policies

_TEXT = """version: 1   # of the schema
name: test
rules:
  - id: sure
    when: {confidence: {gte: 0.90, lt: 1}}   # very
    action: pass
  - id: odd
    when:
      any:
        - quantile: {hybridgrad: {gt: .95}}
        - not: {confidence: {lte: 1e-1}}
    action: flag
  - {id: default, action: abstain}
"""


def test_every_bound_of_a_confidence_or_quantile_is_found_with_its_rule():
    found = [(bound.rule, bound.of, bound.kind, bound.value) for bound in bounds_of(_TEXT)]
    assert found == [
        ("sure", "confidence", "gte", 0.9),
        ("sure", "confidence", "lt", 1.0),
        ("odd", "hybridgrad", "gt", 0.95),
        ("odd", "confidence", "lte", 0.1),
    ]


@given(at=st.integers(0, 3), value=st.floats(0, 1))
def test_a_bound_is_changed_and_every_other_character_stays(at, value):
    bound = bounds_of(_TEXT)[at]
    changed = with_bound(_TEXT, bound, value)
    after = bounds_of(changed)
    assert after[at].value == pytest.approx(value, abs=1e-6)
    assert [one.value for one in after if one.path != bound.path] == [
        one.value for one in bounds_of(_TEXT) if one.path != bound.path
    ]
    before_lines, lines = _TEXT.split("\n"), changed.split("\n")
    assert [line for line in lines if line not in before_lines] in ([], [lines[bound.place.line - 1]])
    assert (
        lines[bound.place.line - 1].partition("#")[2] == before_lines[bound.place.line - 1].partition("#")[2]
    )


@pytest.mark.parametrize("name", builtin_policies())
def test_a_ready_policy_stays_a_policy(name):
    text = builtin_policies()[name].read_text()
    for bound in bounds_of(text):
        assert check_text(with_bound(text, bound, 0.61)).policy is not None


@pytest.mark.parametrize("text", ["", "{", "rules: 3", "rules: [{id: a, when: {confidence: {gte: high}}}]"])
def test_a_text_without_bounds_has_none(text):
    assert bounds_of(text) == ()


def test_a_bound_that_does_not_stand_there_any_more_changes_nothing():
    bound = bounds_of(_TEXT)[0]
    assert with_bound("version: 1\n", bound, 0.5) == "version: 1\n"
    assert with_bound(_TEXT.replace("0.90", "0.80"), bound, 0.5) == _TEXT.replace("0.90", "0.80")
