import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.models.decoding import has_stop, response_text, token_texts
from tests.tiny import SPECIALS, tiny_tokenizer

TOKENIZER = tiny_tokenizer(words=("assistant", "Hello", " world"))


def ids_of(text):
    return TOKENIZER(text)["input_ids"]


@given(st.text(max_size=20))
def test_token_texts_spell_the_response(text):
    ids = ids_of(text)
    texts = token_texts(TOKENIZER, ids)
    assert len(texts) == len(ids)
    assert "".join(texts) == TOKENIZER.decode(ids) == text


def test_a_character_of_several_tokens_stands_with_the_last_of_them():
    assert token_texts(TOKENIZER, ids_of("é😀!")) == ["", "é", "", "", "", "😀", "!"]


def test_a_response_that_ends_within_a_character_is_spelled_as_it_is_decoded():
    ids = ids_of("a😀")[:-1]
    assert "".join(token_texts(TOKENIZER, ids)) == TOKENIZER.decode(ids)


@given(st.lists(st.integers(0, len(TOKENIZER) - 1), max_size=12))
def test_any_tokens_at_all_have_a_text_each(ids):
    texts = token_texts(TOKENIZER, ids)
    assert len(texts) == len(ids)


def test_broken_bytes_do_not_swallow_what_follows():
    byte = ids_of("😀")[1]
    texts = token_texts(TOKENIZER, [byte] * 6 + ids_of("ok"))
    assert texts[-1] == "k"
    assert "".join(texts) == "\N{REPLACEMENT CHARACTER}" * 6 + "ok"


def test_special_tokens_are_shown_token_by_token_and_not_in_the_text():
    ids = [*ids_of("Hello"), SPECIALS.index("<|im_end|>")]
    assert token_texts(TOKENIZER, ids)[-1] == "<|im_end|>"
    assert response_text(TOKENIZER, ids) == "Hello"


@pytest.mark.parametrize(
    ("stop", "expected"),
    [
        ((), "Hello world. Bye."),
        ((".",), "Hello world"),
        (("Bye", " wor"), "Hello"),
        (("none",), "Hello world. Bye."),
    ],
)
def test_the_text_is_cut_before_the_first_stop_string(stop, expected):
    assert response_text(TOKENIZER, ids_of("Hello world. Bye."), stop) == expected


def test_a_stop_string_may_be_a_special_token():
    ids = [*ids_of("Hello"), SPECIALS.index("<|im_end|>")]
    assert has_stop(TOKENIZER, ids, ("<|im_end|>",))
    assert has_stop(TOKENIZER, ids, ("ell",))
    assert not has_stop(TOKENIZER, ids, ("<|eot_id|>",))
    assert not has_stop(TOKENIZER, ids, ())
