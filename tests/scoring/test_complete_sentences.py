"""Sentences of a text that goes on: what is complete stays as it is, whatever follows."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from guardrail.scoring.segments import complete_spans, final_starts, sentence_starts, token_spans

PIECES = [
    *"abZ 3.!?\n`~*_\"'()[]-#|>",
    *("```", "~~~", "\n\n", "Dr.", "e.g.", "No.", "1. ", "- ", "...", "。", "」", "”", "é", "\t", "U.S. "),
]


def texts(pieces=PIECES):
    return st.lists(st.sampled_from(pieces), max_size=24)


@given(texts())
@settings(max_examples=150, deadline=None)
@example(["a.", "\n", "`", "`", "`", "b"])
@example(["a.", "\n", "`", "`", "b", " ", "Z"])
@example(["Z", "\n", "a", "b", ")", " ", "Z"])
@example(["```", "\n", "Z", "\n", "```", "Z", "\n", "Z"])
@example(["。", "」", "Z"])
def test_what_is_complete_in_a_beginning_is_so_in_the_whole(tokens):
    whole, spans = "".join(tokens), token_spans(tokens)
    starts = sentence_starts(whole)
    for end in range(len(tokens) + 1):
        begun = final_starts("".join(tokens[:end]))
        assert starts[: len(begun)] == begun
        complete = complete_spans(tokens[:end])
        assert spans[: len(complete)] == complete


def test_a_sentence_that_may_go_on_is_not_complete():
    for begun in ("Dr.", "Dr. ", "It costs 3.", "It ends. ", 'It ends." ', "It ends.\n``"):
        assert len(final_starts(begun)) < 2
    for begun in ("It ends. N", 'It ends." (N', "It ends.\n```py", "終わり。次"):
        assert len(final_starts(begun)) == 2
