"""Where sentences begin, and which tokens they are made of."""

from bisect import bisect_right
from itertools import accumulate, pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from guardrail.scoring.segments import sentence_starts, token_spans

# What rules are about comes up often, so that they meet.
PIECES = st.one_of(
    st.sampled_from([*".!? \nab”。3", "...", "\n\n", "```", "- ", "1.", "Dr", "Be"]),
    st.text(max_size=5),
)


def sentences(text):
    starts = sentence_starts(text)
    return [text[low:high].rstrip() for low, high in pairwise([*starts, len(text)])]


@pytest.mark.parametrize(
    "expected",
    [
        ["Paris is big.", "It is old!", "Really?!", "Yes."],
        ["It costs $3.50.", "That is 1.5 times as much (or 2.)", "More."],
        ["Dr. Smith, e.g. J. K. Rowling vs. Mr. King, left at 5 p.m. on Jan. 3 (Fig. 3, No. 5).", "Ok."],
        ["He said “Go.”", "Then he left...", "Alone.", "**Bold.**", "Next."],
        ["He waited... and left.", "“Why?” he asked."],
        ["東京は首都です。", "人口は多い！", "「そう。」", "はい"],
        ["क्या है।", "हाँ।"],
        ["See https://example.org/a.b.html for it.", "Version 2.0.1 is out."],
    ],
    ids=lambda sentences: sentences[0],
)
def test_sentences_on_one_line(expected):
    space = "" if "。" in expected[0] else " "
    assert sentences(space.join(expected)) == expected


@pytest.mark.parametrize(
    "expected",
    [
        ["Three things:", "1. One thing.", "It is.", "2. Two", "- a", "* b", "a. c", "The end."],
        ["# Title", "Text that goes on\nin a small letter.", "More."],
        ["Code:", "```py\nx = 1. \nY.  Z\n\nA!\n```", "Done."],
        ["Unfinished:", "~~~\nx. Y. Z"],
    ],
    ids=lambda sentences: sentences[0],
)
def test_lines_lists_and_code(expected):
    assert sentences("\n".join(expected)) == expected


def test_an_empty_line_ends_a_sentence_whatever_follows():
    assert sentences("so it is\n\nand more") == ["so it is", "and more"]


@given(st.lists(PIECES, max_size=40))
def test_spans_cover_all_tokens_without_overlap(tokens):
    spans = token_spans(tokens)
    assert [index for span in spans for index in range(*span)] == list(range(len(tokens)))
    assert all(start < end for start, end in spans)


@given(st.lists(PIECES, max_size=40))
@example(["0\n0", " ", "."])  # a sentence begins within a token, which belongs to the one before
def test_tokens_stand_together_when_their_first_characters_are_of_one_sentence(tokens):
    starts = sentence_starts("".join(tokens))
    assert starts == sorted(set(starts))
    ends = accumulate(map(len, tokens))
    firsts = [
        end - len(token.lstrip()) if token.strip() else None for token, end in zip(tokens, ends, strict=True)
    ]
    found = [
        {bisect_right(starts, first) for first in firsts[start:end] if first is not None}
        for start, end in token_spans(tokens)
    ]
    if starts:
        assert found == [{sentence} for sentence in sorted(set().union(*found))]


@given(st.lists(PIECES, max_size=40).map("".join))
def test_tokens_of_one_character_give_the_very_sentences(text):
    spans = token_spans(list(text))
    assert [span.start for span in spans[1:]] == sentence_starts(text)[1:]


def test_a_character_over_several_tokens_stands_in_one_sentence():
    assert token_spans(["It", ".", " ", "", "", "É", "t"]) == [(0, 3), (3, 7)]
    assert token_spans(["A", "", ""]) == [(0, 3)]
    assert token_spans([]) == []


@pytest.mark.parametrize("odd", [".", ".*", "```\n", "a.", "\n ", "*", "。”", "A. ", "It is. "])
def test_odd_texts_are_read_in_no_time(odd):
    assert sentence_starts(20_000 * odd + "X")
