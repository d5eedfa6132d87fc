"""What a profile knows of the answers that it was made from, and what it says of others."""

from dataclasses import replace

import pytest

from guardrail.calibration.domain import Domain
from guardrail.labelling.answer_facts import AnswerFacts, facts_of

PLAIN = AnswerFacts(prompt_tokens=40, answer_tokens=60)
SINGLE = Domain.of([PLAIN] * 100)


def names(domain: Domain, facts: AnswerFacts) -> list[str]:
    return [one.fact for one in domain.differences(facts)]


@pytest.mark.parametrize(
    ("changed", "fact", "words"),
    [
        ({"turns": 4}, "turns", "the profile is of single questions, this is turn 4"),
        ({"system": "ab"}, "system", "the profile is of answers under none, this has a system message"),
        (
            {"tools": True},
            "tools",
            "answers of a model without tools, this is one of answers of a model with",
        ),
        ({"form": "json"}, "form", "the profile is of answers in text, this is one of answers in JSON"),
        ({"form": "call"}, "form", "this is one of calls of tools"),
        ({"reasoning": True}, "reasoning", "this is one of answers after reasoning"),
        ({"script": "cyrillic"}, "script", "questions in latin script, this is cyrillic"),
        ({"prompt_tokens": 900}, "prompt_tokens", "the prompt has 900 tokens, those of the profile 40"),
        ({"answer_tokens": 400}, "answer_tokens", "the answer has 400 tokens, those of the profile 60"),
        ({"cut_off": True}, "cut_off", "the profile is of answers that were not cut off, this one was"),
    ],
)
def test_a_difference_is_named_and_said_in_words(changed, fact, words):
    assert SINGLE.differences(PLAIN) == []
    (difference,) = SINGLE.differences(replace(PLAIN, **changed))
    assert difference.fact == fact
    assert words in difference.words


def test_what_is_not_known_of_an_answer_is_no_difference():
    assert names(SINGLE, replace(PLAIN, prompt_tokens=None, answer_tokens=None, script="")) == []


def test_lengths_may_be_half_or_twice_those_that_were_seen():
    domain = Domain.of([replace(PLAIN, prompt_tokens=tokens) for tokens in range(20, 101)])
    assert [
        tokens for tokens in (9, 10, 200, 201) if names(domain, replace(PLAIN, prompt_tokens=tokens))
    ] == [
        9,
        201,
    ]


def test_one_answer_does_not_vouch_for_its_kind():
    stray = [replace(PLAIN, turns=30), replace(PLAIN, form="json"), replace(PLAIN, script="cyrillic")]
    domain = Domain.of([PLAIN] * 200 + stray)
    assert [names(domain, one) for one in stray] == [["turns"], ["form"], ["script"]]
    enough = Domain.of([PLAIN] * 200 + stray * 10)
    assert [names(enough, one) for one in stray] == [[], [], []]


def test_many_system_messages_speak_for_others_and_few_for_themselves():
    few = Domain.of([replace(PLAIN, system=f"{at % 2}") for at in range(100)])
    assert [names(few, replace(PLAIN, system=one)) for one in ("0", "1", "2", "")] == [
        [],
        [],
        ["system"],
        ["system"],
    ]
    many = Domain.of([replace(PLAIN, system=f"{at % 20}") for at in range(100)])
    assert names(many, replace(PLAIN, system="another")) == []
    assert names(many, PLAIN) == ["system"]
    # Nineteen others beside one that nearly all answers had do not.
    # Twenty different ones, but a twentieth of the answers.
    rare = Domain.of([replace(PLAIN, system=f"{at}" if at < 20 else "") for at in range(400)])
    assert names(rare, replace(PLAIN, system="another")) == ["system"]
    assert names(rare, PLAIN) == []
    lopsided = Domain.of([replace(PLAIN, system=f"{max(0, at - 80)}") for at in range(100)])
    assert names(lopsided, replace(PLAIN, system="another")) == ["system"]


def test_an_answer_cut_off_much_earlier_than_those_of_the_profile_is_unlike_them():
    domain = Domain.of([PLAIN] * 90 + [replace(PLAIN, answer_tokens=128, cut_off=True)] * 10)
    assert names(domain, replace(PLAIN, answer_tokens=128, cut_off=True)) == []
    assert names(domain, replace(PLAIN, answer_tokens=63, cut_off=True)) == ["cut_off"]


def test_the_facts_of_an_answer_are_read_from_its_conversation():
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi!"},
        {"role": "assistant", "content": "Hello."},
        {"role": "tool", "content": "12"},
        {"role": "user", "content": [{"type": "text", "text": "\u041a\u0442\u043e \u044d\u0442\u043e?"}]},
    ]
    facts = facts_of(messages, ' {"answer": "Faust"} ', prompt_tokens=9, answer_tokens=4)
    assert (facts.turns, facts.tools, facts.form, facts.script) == (2, True, "json", "cyrillic")
    assert facts.system == facts_of([messages[0], {"role": "user", "content": "a"}], "").system != ""
    assert facts_of([{"role": "user", "content": "12 + 3?"}], "15").script == ""
    assert facts_of([{"role": "user", "content": "\u4eca\u65e5\u306f\uff1f"}], "15").script == "cjk"


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ('{"a": 1}', "json"),
        ("```json\n[1, 2]\n```", "json"),
        ("{not json}", "text"),
        ("12", "text"),
        ("[" * 100_000, "text"),
        ("", "text"),
    ],
)
def test_json_is_what_reads_as_an_object_or_a_list(text, form):
    assert facts_of([{"role": "user", "content": "?"}], text).form == form
