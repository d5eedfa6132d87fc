import json
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardrail.utils.json_lines import as_json, json_object, plain_json
from tests.support.hostile import HOSTILE, Colour, Order, Point, circle, deep, swelling


def read_back(value):
    text = json.dumps({"value": plain_json(value)}, allow_nan=False, ensure_ascii=False)
    text.encode()
    return json_object(text)["value"]


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
def test_anything_becomes_json_that_our_own_reader_reads(value):
    assert read_back(value) is not None
    assert read_back({"arguments": [value]})["arguments"]


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (float("nan"), "NaN"),
        (float("-inf"), "-Infinity"),
        (HOSTILE["date"], "2026-01-31"),
        (HOSTILE["datetime"], "2026-01-31T12:00:00+00:00"),
        (Decimal("1.10"), "1.10"),
        (b"abc", "abc"),
        (b"\xff\x00", "ff00"),
        ({"b", "a"}, ["a", "b"]),
        ((1, (2,)), [1, [2]]),
        (Colour.RED, "red"),
        (Point(0.5, {1}), {"x": 0.5, "y": [1]}),
        ({1: "a", "1": "b", None: "c"}, {"1": "a", "1'": "b", "null": "c"}),
        ("a\ud800b", "a\ufffdb"),
        ("\ud83d\ude00", "😀"),
        (10**20, 10**20),
        (10**400, str(10**400)),
        (HOSTILE["array"], [0, 1, 2]),
    ],
)
def test_a_value_is_what_a_person_would_write(value, plain):
    assert plain_json(value) == plain


def test_a_model_is_what_it_would_write_itself_without_its_secrets():
    assert plain_json(Order(amount=Decimal("2.50"))) == {"amount": "2.50", "secret": "**********"}


def test_what_is_within_itself_or_too_deep_or_too_much_is_said_to_be():
    assert plain_json(circle()) == {"a": [1, "<circular dict>"]}
    assert "nested too deeply" in json.dumps(plain_json(deep()))
    assert len(json.dumps(plain_json(swelling(50)))) < 10_000_000


@settings(max_examples=30)
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**70), 2**70)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda some: st.lists(some) | st.dictionaries(st.text(), some),
    )
)
def test_what_is_plain_stays_as_it_is(value):
    assert plain_json(value) == value


@settings(max_examples=30)
@given(
    st.recursive(
        st.floats() | st.binary() | st.characters(),
        lambda some: st.lists(some) | st.dictionaries(st.integers() | st.tuples(st.floats()), some),
    )
)
def test_whatever_it_is_it_can_be_written_and_read(value):
    json_object(as_json({"value": plain_json(value)}))
