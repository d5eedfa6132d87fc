"""What the content of a message says."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.errors import PromptError
from guardrail.labelling.questions import parse_questions
from guardrail.models.chat_template import content_text, with_text
from guardrail.models.prompt import encode_prompt
from tests.support.guards import ASKED, PASS, SHORT, guard_of
from tests.support.tiny import CHATML, tiny_tokenizer

IMAGE = {"type": "image_url", "image_url": {"url": "https://x/y.png"}}


@pytest.mark.parametrize(
    ("part", "text"),
    [
        ("Who?", "Who?"),
        ({"type": "text", "text": "Who?"}, "Who?"),
        ({"type": "text", "text": ""}, ""),
        ({"type": "input_text", "text": "Who?"}, "Who?"),
        ({"type": "output_text", "text": "Goethe.", "annotations": []}, "Goethe."),
        ({"type": "refusal", "refusal": "No."}, "No."),
        ({"type": "text-plain", "text": "Faust is a play.", "mime_type": "text/plain"}, "Faust is a play."),
        ({"type": "text-plain", "title": "Faust", "text": "A play."}, "Faust\nA play."),
    ],
)
def test_a_part_that_is_text_is_read(part, text):
    assert content_text([part], "Message 1") == text
    assert content_text(["a", part, "b"], "Message 1") == f"a{text}b"


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        (IMAGE, "image_url"),
        ({"type": "input_image", "image_url": "x"}, "input_image"),
        ({"type": "text-plain", "url": "https://x/y.txt"}, "text-plain"),
        ({"type": "text-plain", "base64": "eA=="}, "text-plain"),
        ({"type": "text", "text": None}, "text"),
        ({"type": "text", "text": ["a"]}, "text"),
        ({"type": "file", "file_id": "1"}, "file"),
        ({"text": "untyped"}, "a part without a type"),
        (None, "None"),
        (7, "7"),
    ],
)
def test_a_part_that_is_no_text_is_refused_by_its_kind_and_place(part, kind):
    with pytest.raises(PromptError, match=f"Message 2 holds '{kind}'"):
        with_text([{"role": "user", "content": "Hm?"}, {"role": "user", "content": ["a", part]}])


def test_a_conversation_in_parts_is_the_same_as_one_of_texts():
    tokenizer = tiny_tokenizer(CHATML)
    parts = [
        {"role": "user", "content": [{"type": "text", "text": "Who "}, {"type": "text", "text": "is it?"}]}
    ]
    assert encode_prompt(tokenizer, parts) == encode_prompt(tokenizer, "Who is it?")
    with pytest.raises(PromptError, match="holds 'image_url'"):
        encode_prompt(tokenizer, [{"role": "user", "content": [IMAGE]}])


@given(st.lists(st.text(max_size=9), max_size=5))
def test_parts_that_are_texts_are_joined_as_they_are(texts):
    whole = [{"type": "text", "text": text} for text in texts]
    assert content_text(texts, "") == content_text(whole, "") == "".join(texts)


PARTS = st.recursive(
    st.none() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3)
)


@given(PARTS)
def test_whatever_a_content_is_it_is_a_text_a_sentence_or_left_to_be_refused(content):
    message = {"role": "user", "content": content}
    if isinstance(content, list) and not all(isinstance(part, str) for part in content):
        with pytest.raises(PromptError, match="Message 1 holds "):
            with_text([message])
        return
    (read,) = with_text([message])
    assert isinstance(read["content"], str) or read == message


def test_a_turn_that_only_calls_tools_says_nothing():
    call = {"type": "function", "function": {"name": "add", "arguments": {}}}
    assert with_text([{"role": "assistant", "content": None, "tool_calls": [call]}])[0]["content"] == ""


def line(content):
    return json.dumps(
        {"messages": [{"role": "user", "content": content}], "response": "Ann.", "correct": True}
    )


def test_every_way_in_reads_parts_as_it_reads_a_text():
    parts = [{"type": "text", "text": "Who wrote "}, {"type": "input_text", "text": "Faust?"}]
    guard = guard_of(PASS)
    asked = [[{"role": "user", "content": content}] for content in (parts, ASKED)]
    answers = [guard.ask(messages, SHORT) for messages in asked]
    assert answers[0].text == answers[1].text
    assert (
        guard.judge(asked[0], "Ann.").uncertainty.scores()
        == guard.judge(asked[1], "Ann.").uncertainty.scores()
    )
    (question,), (same,) = (parse_questions([line(content)]).usable for content in (parts, ASKED))
    assert (question.text, question.prompt, question.digest) == (ASKED, same.prompt, same.digest)


def test_every_way_in_refuses_what_is_no_text():
    content = ["Who is on it?", IMAGE]
    with pytest.raises(PromptError, match="Message 1 holds 'image_url'"):
        guard_of(PASS).ask([{"role": "user", "content": content}], SHORT)
    (refused,) = parse_questions([line(content)]).refused
    assert "Message 1 holds 'image_url'" in refused.reason
