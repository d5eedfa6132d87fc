from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.guard.answer import BANDS, confidence_in_words, confidence_percent


@pytest.mark.parametrize(
    ("confidence", "words", "percent"),
    [
        (1.0, "very likely right", "> 99 %"),
        (0.946, "very likely right", "95 %"),
        (0.944, "likely right", "94 %"),
        (0.82, "likely right", "82 %"),
        (0.6, "more likely right than wrong", "60 %"),
        (0.5, "as likely right as wrong", "50 %"),
        (0.3, "more likely wrong than right", "30 %"),
        (0.1, "likely wrong", "10 %"),
        (0.012, "very likely wrong", "1 %"),
        (0.0, "very likely wrong", "< 1 %"),
    ],
)
def test_a_probability_has_the_words_of_the_number_beside_them(confidence, words, percent):
    assert (confidence_in_words(confidence), confidence_percent(confidence)) == (words, percent)


@given(st.floats(0, 1))
def test_every_probability_has_words_and_none_is_shown_as_certain(confidence):
    assert confidence_in_words(confidence) in [words for _, words in BANDS]
    assert confidence_percent(confidence) not in ("0 %", "100 %")


def test_the_bands_go_down_to_nothing():
    assert all(a[0] > b[0] for a, b in pairwise(BANDS))
    assert BANDS[-1][0] == 0
