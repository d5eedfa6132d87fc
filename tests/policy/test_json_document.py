"""A policy that json.dumps wrote reads as what it was written from, whatever characters it holds."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardrail.policy.load import check_text
from guardrail.policy.yaml_document import read_text
from tests.support.policy_texts import mistakes

EMOJI = (
    '{"version": 1, "name": "e", "rules": [{"id": "d", "action": "flag", '
    '"message": "Please check \\ud83d\\ude00"}]}'
)
# Texts of a policy; a dollar sign is written twice, and braces have a meaning of their own in messages.
_TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="{}$"), min_size=1, max_size=20)


def _policy(message="m", description="", arguments=None):
    return {
        "version": 1,
        "name": "p",
        "description": description,
        "rules": [
            {"id": "a", "when": {"tags": [message]}, "action": "escalate", "to": "strong"},
            {"id": "d", "action": "flag", "message": message},
        ],
        "escalation": {"strong": {"chat_model": "openai:x", "arguments": arguments or {}}},
    }


@pytest.mark.parametrize("head", ["", "\n \t", "# a comment makes it YAML\n"])
def test_an_emoji_that_json_writes_as_two_escapes_is_one_character(head):
    assert check_text(head + EMOJI).policy.rules[0].message == "Please check 😀"


@pytest.mark.parametrize("half", ["\\ud83d", "\\ude00", "\\ude00\\ud83d", "\\ud83dx\\ude00"])
@pytest.mark.parametrize("head", ["", "# a comment makes it YAML\n"])
def test_half_of_such_a_character_is_a_mistake_at_its_place(head, half):
    (said,) = mistakes(head + EMOJI.replace("\\ud83d\\ude00", half))
    line = 2 if head else 1
    assert said.startswith(f"p.yaml:{line}:80 rules[0].message: contains half a surrogate pair")
    found = mistakes(head + '{"version": 1, "na' + half + '": "e", "rules": []}')
    assert any(said.startswith(f"p.yaml:{line}:16 ") and "half a surrogate" in said for said in found)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a":\t"x",\n\t"b":1}', {"a": "x", "b": 1}),
        (r'{"a": "x\/y\b\f"}', {"a": "x/y\b\f"}),
        ('{"a"\n:\n1}', {"a": 1}),
        ('{"' + "k" * 2000 + '": 1}', {"k" * 2000: 1}),
        ('{"a": "\x7f\x85\u2028"}', {"a": "\x7f\x85\u2028"}),
        ('{"a": 1E5, "b": -0.5e-3, "c": 123456789012345678901234567890}', None),
        ('{"a": "yes", "b": "010", "c": "null", "d": "2024-01-01"}', None),
    ],
)
def test_what_json_allows_is_read_as_json_reads_it(text, value):
    read = read_text(text, "p.json")
    assert read.mistakes == ()
    assert read.root.plain() == json.loads(text)
    assert value is None or read.root.plain() == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1,\n "a": 2}', "p.json:2:2 a: duplicate key; it is already in line 1"),
        ('{"a": [1, {"b": null}]}', "p.json:1:17 a[1].b: has no value"),
        ('{"a": 1e400}', "p.json:1:7 a: is a number too large"),
        ('{"a": ' + "9" * 400 + "}", "p.json:1:7 a: is a number too large"),
        ('{"a": ' + "[" * 60 + "]" * 60 + "}", "p.json:1:47 yaml: more than 40 levels"),
        ('{"a": [' + "1," * 20_001 + "1]}", "yaml: contains more than 20,000 values"),
        ('a: "\\UFFFFFFFF"', "p.json:1:7 yaml: there is an escape with \\ here that is not a character"),
    ],
)
def test_what_is_wrong_in_json_has_its_place(text, said):
    assert said in str(read_text(text, "p.json").mistakes[0])


@settings(max_examples=100, deadline=None)
@given(
    message=_TEXTS,
    description=_TEXTS,
    arguments=st.dictionaries(
        _TEXTS,
        st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False) | _TEXTS,
        max_size=2,
    ),
    style=st.sampled_from([{}, {"ensure_ascii": False}, {"indent": 2}, {"indent": "\t"}, {"indent": 0}]),
)
def test_a_policy_that_json_wrote_reads_as_itself(message, description, arguments, style):
    given_ = _policy(message, description, arguments)
    policy = check_text(json.dumps(given_, **style)).policy
    if policy is None:  # an argument may be named like a secret; nothing else keeps it from being one
        assert any(one.path.endswith("arguments") for one in check_text(json.dumps(given_)).mistakes)
        return
    assert policy.rules[1].message == message
    assert policy.description == description
    assert policy.escalation["strong"].arguments == arguments
    again = check_text(json.dumps(policy.as_plain(), **style)).policy
    assert (again, again.digest) == (policy, policy.digest)
