"""Two hundred broken policies, each refused with its place."""

import re

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.broken_policies import BROKEN
from tests.support.policy_texts import GOOD, check, mistakes, rules

PLACE = re.compile(r"p\.yaml:\d+:\d+ [^ ].*?: \S")


@pytest.mark.parametrize(("text", "begins"), BROKEN.values(), ids=BROKEN)
def test_what_is_wrong_is_said_with_its_place(text, begins):
    found = mistakes(text)
    assert found
    assert all(PLACE.match(one) for one in found)
    assert any(one.startswith(begins) for one in found), "\n".join(found)


def _keys_and_values():
    """Every key of the good policy, with its place, and every scalar that no other could stand for."""
    nodes = [yaml.compose(GOOD, yaml.SafeLoader)]
    keys, values = [], []
    while nodes:
        node = nodes.pop()
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                keys.append(key)
                # An argument of a chat model may be anything.
                if key.value != "arguments":
                    nodes.append(value)
        elif isinstance(node, yaml.SequenceNode):
            nodes += node.value
        else:
            values.append(node)
    return keys, values


KEYS, VALUES = _keys_and_values()


def _replaced(node, text: str) -> str:
    return GOOD[: node.start_mark.index] + text + GOOD[node.end_mark.index :]


def _named(node) -> str:
    return f"{node.value[:20]} in line {node.start_mark.line + 1}"


@pytest.mark.parametrize("key", KEYS, ids=_named)
def test_a_misspelt_key_is_named_where_it_stands(key):
    found = mistakes(_replaced(key, f"{key.value}x"))
    is_target = key.value in ("human", "strong", "expert")
    where = "p.yaml:" if is_target else f"p.yaml:{key.start_mark.line + 1}:{key.start_mark.column + 1} "
    assert any(one.startswith(where) and f"{key.value}" in one for one in found), "\n".join(found)


@pytest.mark.parametrize("value", VALUES, ids=_named)
def test_a_value_of_the_wrong_type_is_named_where_it_stands(value):
    found = mistakes(_replaced(value, "[[1]]"))
    line = value.start_mark.line + 1
    assert any(re.match(rf"p\.yaml:{line}:\d+ ", one) for one in found), "\n".join(found)


@settings(max_examples=150, deadline=None)
@given(
    start=st.integers(0, len(GOOD)),
    length=st.integers(0, 30),
    put=st.text(alphabet="{}[]:,\n \t-#&*!|>'\"%@`$0a\x00\u2028", max_size=4),
)
def test_whatever_is_typed_is_a_policy_or_a_list_of_places(start, length, put):
    found = mistakes(GOOD[:start] + put + GOOD[start + length :])
    assert all(PLACE.match(one) for one in found)


def test_there_are_two_hundred_broken_policies():
    assert len(BROKEN) + len(KEYS) + len(VALUES) >= 200


def test_the_policy_that_they_are_made_of_is_good():
    checked = check(GOOD)
    assert checked.mistakes == ()
    assert [warning.path for warning in checked.warnings] == ["rules[2].when.certified"]
    assert checked.policy is not None


def test_every_mistake_is_reported_at_once_in_the_order_of_the_file():
    text = (
        rules("{id: a, when: {p_corect: 1, tags: []}, action: pas}", "{id: a, action: escalate}")
        + "mod: x\nlog: {}\nlog: {}\non_error: ${NO}\n"
    )
    places = [one.split(" ")[0] for one in mistakes(text)]
    assert places == sorted(places, key=lambda place: [int(part) for part in place.split(":")[1:]])
    paths = {one.split(" ")[1] for one in mistakes(text)}
    assert paths == {
        "rules[0].when.p_corect:",
        "rules[0].when.tags:",
        "rules[0].action:",
        "rules[1].to:",
        "rules[1].id:",
        "mod:",
        "log.file:",
        "log:",
        "on_error:",
    }
