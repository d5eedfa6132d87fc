import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.evaluation.similarity import semantic_classes, token_similarities, without_each_token
from tests.support.similarity import ByFirstWord, ByWords


@pytest.mark.parametrize(
    ("texts", "classes"),
    [
        (["fox", "owl", "fox", "hen"], [0, 1, 0, 2]),
        (["fox runs", "fox sleeps"], [0, 0]),
        (["fox"], [0]),
        (["", "fox", ""], [0, 1, 0]),
    ],
)
def test_an_answer_joins_the_first_class_that_means_the_same(texts, classes):
    assert semantic_classes("Who?", texts, ByFirstWord()) == classes


@given(st.permutations(["fox runs", "fox", "owl", "owl sleeps", "hen", "fox"]))
def test_which_answers_share_a_class_does_not_hang_on_their_order(texts):
    classes = semantic_classes("Who?", texts, ByFirstWord())
    for first, of_first in zip(texts, classes, strict=True):
        for second, of_second in zip(texts, classes, strict=True):
            assert (of_first == of_second) == (first.split()[0] == second.split()[0])


@pytest.mark.parametrize(
    ("text", "tokens", "without"),
    [
        ("a fox", ["a", " f", "ox"], [" fox", "aox", "a f"]),
        ("a fox", ["a", " fox", "<|im_end|>"], [" fox", "a", "a fox"]),
        ("a", ["a", ". b", "STOP"], ["", "a", "a"]),
        # A character of two tokens stands with the last of them.
        ("é!", ["", "é", "!"], ["é!", "!", "é"]),
        ("ab", ["a", "<x>", "b"], ["<x>b", "ab", "a<x>"]),
        ("", ["<|im_end|>"], [""]),
    ],
)
def test_each_token_is_left_out_of_what_is_seen_of_the_answer(text, tokens, without):
    assert without_each_token(text, tokens) == without


def test_the_end_of_turn_does_not_matter_and_a_lone_token_is_all_that_does():
    answers = [("red fox", ("red", " fox", "<end>")), ("", ("<end>",)), ("fox", ("fox",))]
    long, none, lone = token_similarities("Who?", answers, ByWords())
    assert long[2] == 1 > max(long[:2])
    assert none == [0.0]
    assert lone == [0.5]
