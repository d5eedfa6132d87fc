"""Text as words that can be compared: without case, accents, punctuation, and the many ways of one number."""

import re
from collections.abc import Sequence
from typing import NamedTuple
from unicodedata import normalize

from guardrail.calibration.judges.numbers import join_numbers, plain_number

__all__ = ["ARTICLES", "Word", "phrase", "places", "words_of"]

ARTICLES = frozenset({"a", "an"})
_GROUPING = re.compile(r"(?<=\d)[,'\u2019\u00a0\u2009\u202f](?=\d{3}(?!\d))")
_DECIMAL_COMMA = re.compile(r"(?<![\d,.])(\d+),(\d{1,2})(?![\d,])")
_ACCENTS = re.compile("[\u0300-\u036f]")
# Written without spaces: each character is a word.
_UNSPACED = "\u0e00-\u0eff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff"
_TOKEN = re.compile(
    rf"""
      (?P<number>(?:(?<!\w)[-\u2212])?\d+(?:\.\d+)?(?![^\W_]))
    | (?P<initials>(?:[^\W\d_]\.){{2,}}(?:[^\W\d_](?![^\W_]))?)
    | (?P<unspaced>[{_UNSPACED}])
    | (?P<word>[^\W_{_UNSPACED}]+(?:['\u2019][^\W_{_UNSPACED}]+)*(?:\+\+|\#)?)
    | (?P<percent>%)
    | (?P<clause>[.,;:!?()\[\]\n\u2026\u2013\u2014\u3001\u3002"]|\s-\s)
    """,
    re.VERBOSE,
)


class Word(NamedTuple):
    """A word of a text, and which of its clauses it stands in."""

    text: str
    clause: int


def words_of(text: str) -> list[Word]:
    """The words of a text, without "the".

    Compatibility forms are made one (NFKC), accents and case are dropped, singular and plural are the same,
    numbers are in digits ("seven" is 7, 1,000 is 1000, 3.0 is 3, 5 million is 5000000).
    """
    text = normalize("NFKC", _DECIMAL_COMMA.sub(r"\1.\2", _GROUPING.sub("", text)))
    text = normalize("NFC", _ACCENTS.sub("", normalize("NFKD", text))).casefold()
    found: list[Word] = []
    clause = 0
    for match in _TOKEN.finditer(text):
        if match.lastgroup == "clause":
            clause += 1
        elif match.lastgroup is not None and (word := _plain(match.lastgroup, match[0])) != "the":
            clause += word == "but"
            found.append(Word(word, clause))
    joined = join_numbers([word.text for word in found])
    return [Word(_singular(text), found[at].clause) for at, text in joined]


def phrase(text: str) -> tuple[str, ...]:
    """The words of an accepted answer, without an article at its beginning."""
    words = tuple(word.text for word in words_of(text))
    return words[1:] if len(words) > 1 and words[0] in ARTICLES else words


def places(wanted: Sequence[str], words: Sequence[Word]) -> list[int]:
    """Where in a text the wanted words stand together."""
    size, wanted = len(wanted), tuple(wanted)
    if not size:
        return []
    texts = [word.text for word in words]
    return [at for at in range(len(texts) - size + 1) if tuple(texts[at : at + size]) == wanted]


def _plain(kind: str, text: str) -> str:
    if kind == "number":
        return plain_number(text)
    if kind == "percent":
        return "percent"
    text = re.sub("['\u2019]s$", "", text)
    return re.sub("[.'\u2019]", "", text)


def _singular(word: str) -> str:
    """A word without its plural's ending; the same for both is enough, it need not be a word."""
    if len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return f"{word[:-3]}y"
    return word[:-2] if word.endswith(("shes", "ches", "sses", "xes", "zes")) else word[:-1]
