import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.models.decoding import has_stop, response_text, token_texts
from guardrail.scoring.segments import token_spans
from tests.support.tiny import SPECIALS, byte_fallback_tokenizer, tiny_tokenizer

TOKENIZER = tiny_tokenizer(words=("assistant", "Hello", " world"))
SINGLE_BYTES = byte_fallback_tokenizer(words=("assistant", "Hello", "world"))
BOTH = pytest.mark.parametrize("tokenizer", [TOKENIZER, SINGLE_BYTES], ids=["byte-level", "byte-fallback"])


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


@BOTH
@given(st.text(max_size=20))
def test_token_texts_spell_any_text_of_any_tokenizer(tokenizer, text):
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert "".join(token_texts(tokenizer, ids)) == response_text(tokenizer, ids) == text


@BOTH
@given(st.data())
def test_token_texts_spell_whatever_tokens_there_are(tokenizer, data):
    ids = data.draw(st.lists(st.integers(len(SPECIALS) + 1, len(tokenizer) - 1), max_size=12))
    assert "".join(token_texts(tokenizer, ids)) == response_text(tokenizer, ids)


@BOTH
@given(text=st.text(alphabet="ab é漢😀", min_size=1, max_size=8).map("x".__add__), left=st.integers(1, 3))
def test_a_character_that_is_cut_is_left_out_and_no_other(tokenizer, text, left):
    whole = tokenizer(text, add_special_tokens=False)["input_ids"]
    ids = whole[:-left]
    shown = response_text(tokenizer, ids)
    assert text.startswith(shown)
    # A token may be a space and a letter.
    assert len(text) - len(shown) <= 2 * left
    assert "".join(token_texts(tokenizer, ids)) == shown


@BOTH
@given(st.data())
def test_what_follows_never_changes_a_text(tokenizer, data):
    ids = data.draw(st.lists(st.integers(len(SPECIALS) + 1, len(tokenizer) - 1), max_size=10))
    said = ""
    for end in range(1, len(ids) + 1):
        longer = response_text(tokenizer, ids[:end])
        assert longer.startswith(said)
        said = longer


def test_single_bytes_stand_with_the_last_of_their_character():
    ids = SINGLE_BYTES("Hello你好.")["input_ids"]
    assert token_texts(SINGLE_BYTES, ids) == ["Hello", "", "", "你", "", "", "好", "."]
    assert token_spans(token_texts(SINGLE_BYTES, ids)) == [(0, 8)]


def test_a_byte_that_is_none_takes_no_character_along():
    broken, letter = SINGLE_BYTES.convert_tokens_to_ids(["<0xA0>", "a"])
    ids = [*SINGLE_BYTES("你")["input_ids"], broken, letter]
    assert response_text(SINGLE_BYTES, ids) == "你\N{REPLACEMENT CHARACTER}a"
    assert response_text(SINGLE_BYTES, ids, ("\N{REPLACEMENT CHARACTER}",)) == "你"


def test_a_stop_string_is_found_in_single_bytes():
    ids = SINGLE_BYTES("你好😀")["input_ids"]
    assert has_stop(SINGLE_BYTES, ids, ("好",))
    assert has_stop(SINGLE_BYTES, ids[:-1], ("好",))
    assert not has_stop(SINGLE_BYTES, ids[:-1], ("😀",))
    assert response_text(SINGLE_BYTES, ids, ("好",)) == "你"


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
