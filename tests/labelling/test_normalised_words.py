import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardrail.labelling.matching import join_numbers, phrase, places, words_of


def texts(text):
    return [word.text for word in words_of(text)]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("PARIS.", "paris"),
        ("the Sun", "sun"),
        ("São Paulo", "sao paulo"),
        ("Straße", "STRASSE"),
        ("U.S.A.", "USA"),
        ("Jean-Paul", "jean paul"),
        ("Darwin’s", "Darwin"),
        ("don't", "don’t"),
        ("CO₂", "CO2"),
        ("**bold** _and_ plain", "bold and plain"),
        ("blood vessels", "blood vessel"),
        ("bodies", "body"),
        ("boxes", "box"),
        ("1,000,000", "1000000"),
        ("1\u00a0000", "1000"),
        ("1’000", "1000"),
        ("12,5", "12.5"),
        ("3.0", "3"),
        ("007", "7"),
        ("-4", "−4"),
        ("50%", "fifty percent"),
        ("seven", "7"),
        ("twenty-one", "21"),
        ("one hundred and five", "105"),
        ("two thousand and twelve", "2012"),
        ("seven hundred thousand", "700,000"),
        ("one million two hundred thousand and five", "1200005"),
        ("5 million", "5,000,000"),
        ("1.5 million", "1500000"),
        ("a hundred", "a 100"),
    ],
)
def test_two_ways_of_writing_one_thing_are_the_same_words(one, other):
    assert texts(one) == texts(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("14", "4"),
        ("3.14", "3"),
        ("-4", "4"),
        ("vitamin A", "vitamin"),
        ("C++", "C#"),
        ("19th", "19"),
        ("princess", "princes"),
        ("1.000001", "1"),
    ],
)
def test_what_is_different_stays_different(one, other):
    assert texts(one) != texts(other)


def test_two_numbers_in_a_row_stay_two():
    assert texts("two hundred and three hundred") == ["200", "and", "300"]
    assert texts("ten to twelve") == ["10", "to", "12"]
    assert texts("thousand thousand") == ["1000", "1000"]


def test_a_lone_one_stays_a_word():
    assert texts("one of them") == ["one", "of", "them"]


def test_writing_without_spaces_is_compared_by_the_character():
    assert places(phrase("北京"), words_of("北京是首都")) == [0]


def test_only_an_article_at_the_beginning_is_dropped():
    assert phrase("an apple") == ("apple",)
    assert phrase("A") == ("a",)


SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
ROUND = "twenty thirty forty fifty sixty seventy eighty ninety"
UNITS, TENS = SMALL.split(), ROUND.split()


def in_words(number):
    if number < 20:
        return UNITS[number]
    if number < 100:
        return TENS[number // 10 - 2] + (f" {UNITS[number % 10]}" if number % 10 else "")
    for size, name in ((10**9, "billion"), (10**6, "million"), (1000, "thousand"), (100, "hundred")):
        if number >= size:
            rest = f" {in_words(number % size)}" if number % size else ""
            return f"{in_words(number // size)} {name}{rest}"
    raise AssertionError


@given(st.integers(0, 10**12 - 1).filter(lambda number: number != 1))
def test_a_number_in_words_is_the_number_in_digits(number):
    assert [word for _, word in join_numbers(in_words(number).split())] == [str(number)]


@given(st.text())
def test_any_text_has_words(text):
    assert all(word.text and not word.text.isspace() for word in words_of(text))
