"""Arguments of a chat template."""

from types import SimpleNamespace

import pytest

from guardrail.errors import ForeignProfileError, OptionError
from guardrail.models.chat_template import check_chat_template_kwargs, parse_chat_template_kwargs
from guardrail.models.decoding import GenerationControls
from guardrail.models.fingerprint import fingerprint_model
from guardrail.scoring.options import ScoringOptions, fingerprint_scorer
from tests.support.chat import tiny_chat_model
from tests.support.guards import profile_of
from tests.support.reasoning import family

pytestmark = pytest.mark.usefixtures("one_thread")

OFF = {"enable_thinking": False}


def test_arguments_change_the_prompt_wherever_they_are_given():
    model = family("qwen3")
    plain = model.encode_prompt("Hi").ids
    off = model.with_chat_template_kwargs(OFF)
    assert off.encode_prompt("Hi").ids == model.encode_prompt("Hi", chat_template_kwargs=OFF).ids != plain
    assert off.read("Hi", "Yes.").prompt_ids == model.read("Hi", "Yes.", chat_template_kwargs=OFF).prompt_ids
    (trace,) = model.generate_batch(["Hi"], controls=GenerationControls(chat_template_kwargs=OFF))
    assert trace.prompt_ids == off.encode_prompt("Hi").ids
    assert off.with_chat_template_kwargs({"enable_thinking": True}).encode_prompt("Hi").ids == plain
    assert model.with_chat_template_kwargs({}) is model
    assert off.model is model.model


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"enable_thinkin": False}, "does not read enable_thinkin; did you mean enable_thinking"),
        ({"a": 1, "b": 2}, "does not read a, b; it reads .*enable_thinking"),
        ({"messages": []}, "cannot set messages"),
        ({"tools": []}, "cannot set tools"),
        ({"add_generation_prompt": False}, "cannot set add_generation_prompt"),
        ({"tokenize": True}, "cannot set tokenize"),
        ({"continue_final_message": True}, "cannot set continue_final_message"),
        ({"bos_token": "x"}, "cannot set bos_token"),
        ({"enable_thinking": {1, 2}}, "no JSON"),
        ({"enable_thinking": float("nan")}, "no JSON"),
        ("enable_thinking", "give a dict"),
        ({1: 2}, "give a dict"),
    ],
)
def test_what_the_template_does_not_read_or_must_not_is_refused_by_name(given, said):
    with pytest.raises(OptionError, match=said):
        check_chat_template_kwargs(family("qwen3").tokenizer, given)


def test_a_model_without_a_template_or_with_one_that_reads_nothing_takes_none():
    tokenizer = tiny_chat_model().tokenizer
    with pytest.raises(OptionError, match="does not read enable_thinking; it reads no arguments"):
        check_chat_template_kwargs(tokenizer, OFF)
    tokenizer.chat_template = None
    with pytest.raises(OptionError, match="no chat template"):
        check_chat_template_kwargs(tokenizer, OFF)


def test_what_a_template_reads_within_loops_and_tags_is_found():
    template = (
        "{% for m in messages %}{% generation %}{{ m.x ~ effort }}{% endgeneration %}{% break %}{% endfor %}"
    )
    tokenizer = SimpleNamespace(chat_template=template, special_tokens_map={})
    assert check_chat_template_kwargs(tokenizer, {"effort": "low"}) == {"effort": "low"}
    with pytest.raises(OptionError, match="does not read m"):
        check_chat_template_kwargs(tokenizer, {"m": 1})


@pytest.mark.parametrize("text", ["", "{", "[]", "1", '"a"', "enable_thinking=false"])
def test_a_command_line_takes_a_json_object(text):
    with pytest.raises(OptionError, match="--chat-template-kwargs"):
        parse_chat_template_kwargs(text)
    assert parse_chat_template_kwargs('{"enable_thinking": false}') == OFF
    assert parse_chat_template_kwargs(None) == {}


def test_arguments_are_a_part_of_the_fingerprint_and_a_profile_of_others_is_refused():
    model = family("qwen3")
    off = model.with_chat_template_kwargs(OFF)
    plain, other = fingerprint_model(model), fingerprint_model(off)
    assert plain.chat_template is not None
    assert len(plain.chat_template) == 64
    assert other.chat_template == f'{plain.chat_template} {{"enable_thinking":false}}'
    scorer = fingerprint_scorer(ScoringOptions())
    for profile, fingerprint in ((profile_of(model), other), (profile_of(off), plain)):
        with pytest.raises(ForeignProfileError, match=r"model\.chat_template"):
            profile.check(fingerprint, scorer)
    profile_of(off).check(fingerprint_model(model.with_chat_template_kwargs(OFF)), scorer)
