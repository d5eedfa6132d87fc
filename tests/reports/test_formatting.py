"""Numbers and foreign texts as they are shown."""

import pytest

from guardrail.metrics import Figure
from guardrail.reports.formatting import counted, decimal, interval, percent, promised, shown, visible


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0, "0 %"),
        (0.004, "0.4 %"),
        (0.05, "5 %"),
        (0.0512, "5.1 %"),
        (0.0996, "10 %"),
        (0.574, "57 %"),
        (0.95, "95 %"),
        (0.996, "99.6 %"),
        (1, "100 %"),
        (-0.042, "−4.2 %"),
    ],
)
def test_percents_have_a_tenth_where_it_matters(share, text):
    assert percent(share).replace("\N{NO-BREAK SPACE}", " ") == text


@pytest.mark.parametrize(
    ("share", "text"), [(0.07, "7 %"), (0.125, "12.5 %"), (0.975, "97.5 %"), (0.9999, "99.99 %")]
)
def test_a_promise_is_not_rounded(share, text):
    assert promised(share).replace("\N{NO-BREAK SPACE}", " ") == text


def test_intervals_name_both_ends_and_a_missing_one_is_a_dash():
    assert interval(Figure(value=0.5, low=0.4321, high=0.6, n=9)) == "0.432 to 0.600"
    assert interval(Figure(value=0.5, low=None, high=None, n=2, reason="few")) == "–"
    assert decimal(None) == "–"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"value": 0.71, "low": 0.6, "high": 0.8, "n": 9}, "0.710 (0.600 to 0.800)"),
        ({"max_tokens": 64, "stop": []}, "max_tokens 64, stop –"),
        ([1, 2.5, True, None], "1, 2.5, yes, –"),
        ("a\x1b[31mb", "a�[31mb"),
    ],
)
def test_any_plain_value_can_be_shown(value, text):
    assert shown(value) == text


def test_a_text_from_outside_gives_no_orders():
    assert visible("name\x1b]8;;\x07\u202egnp.exe\n") == "name�]8;;��gnp.exe�"


def test_one_thing_is_not_many():
    assert (counted(1, "answer"), counted(1200, "answer")) == ("1 answer", "1,200 answers")
