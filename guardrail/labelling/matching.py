"""Judges that compare normalised words: exact match, contains and F1; words, plurals, accents, numbers."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from string import punctuation
from typing import NamedTuple
from unicodedata import normalize

from guardrail.errors import OptionError
from guardrail.labelling.judge import Ruling
from guardrail.labelling.questions import last_asked
from guardrail.models.reasoning import answer_of

__all__ = [
    "ARTICLES",
    "ContainsJudge",
    "ExactJudge",
    "F1Judge",
    "Word",
    "check_threshold",
    "join_numbers",
    "overlap",
    "phrase",
    "places",
    "plain_number",
    "squad_normalized",
    "words_of",
]


_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
_ROUND = "twenty thirty forty fifty sixty seventy eighty ninety"
_UNITS = {word: value for value, word in enumerate(_SMALL.split())}
_TENS = {word: 10 * value for value, word in enumerate(_ROUND.split(), start=2)}
_HUNDRED = 100
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_MULTIPLIERS = {"hundred": _HUNDRED, **_SCALES}


def plain_number(digits: str) -> str:
    """A number in digits without superfluous zeros, the minus sign in front."""
    sign = "-" if digits[0] in "-\N{MINUS SIGN}" else ""
    whole, _, fraction = digits.lstrip("-\N{MINUS SIGN}").partition(".")
    fraction = fraction.rstrip("0")
    return sign + (whole.lstrip("0") or "0") + (f".{fraction}" if fraction else "")


def join_numbers(words: Sequence[str]) -> list[tuple[int, str]]:
    """Convert numbers in words to digits.

    A lone "one" stays a word: it is as often a pronoun as a number.

    Args:
        words: Lower-case words; numbers in digits as written by :func:`plain_number`.

    Returns:
        The remaining words, each with the position of the first word it was made from.
    """
    joined: list[tuple[int, str]] = []
    at = 0
    while at < len(words):
        value, end = _number(words, at)
        if end > at + 1 or (end > at and words[at] != "one"):
            joined.append((at, value))
        else:
            end = at + 1
            joined.append((at, words[at]))
        at = end
    return joined


def _number(words: Sequence[str], at: int) -> tuple[str, int]:
    """The number that begins here and its end; the end is the start if there is none."""
    if words[at].replace(".", "", 1).isdecimal():
        multiplier = _MULTIPLIERS.get(_word(words, at + 1))
        return (words[at], at + 1) if multiplier is None else (_scaled(words[at], multiplier), at + 2)
    total, end, smaller_than = 0, at, 10**15
    while True:
        value, after = _group(words, end + 1 if end > at and _word(words, end) == "and" else end)
        scale = _SCALES.get(_word(words, after), 1)
        # "a million": a scale without a number, only at the start.
        if value is None and (scale == 1 or end > at):
            return str(total), end
        if scale >= smaller_than or (end > at and scale == 1 and (value or 0) >= smaller_than):
            return str(total), end
        total += (1 if value is None else value) * scale
        end = after + (scale > 1)
        smaller_than = scale
        if scale == 1:
            return str(total), end


def _group(words: Sequence[str], at: int) -> tuple[int | None, int]:
    """A number below a thousand in words, and its end."""
    value, end = _below_hundred(words, at)
    if _word(words, end) != "hundred" or (value or 1) >= _HUNDRED:
        return value, end
    hundreds, end = (1 if value is None else value) * _HUNDRED, end + 1
    rest, after = _below_hundred(words, end + (_word(words, end) == "and"))
    # "two hundred and three hundred" are two numbers.
    if rest is None or _word(words, after) == "hundred":
        return hundreds, end
    return hundreds + rest, after


def _below_hundred(words: Sequence[str], at: int) -> tuple[int | None, int]:
    word = _word(words, at)
    if word in _UNITS:
        return _UNITS[word], at + 1
    if word not in _TENS:
        return None, at
    unit = _UNITS.get(_word(words, at + 1), 0)
    return (_TENS[word] + unit, at + 2) if 0 < unit < 10 else (_TENS[word], at + 1)


def _scaled(digits: str, multiplier: int) -> str:
    whole, _, fraction = digits.partition(".")
    zeros = len(str(multiplier)) - 1
    return plain_number(f"{whole}{fraction[:zeros].ljust(zeros, '0')}.{fraction[zeros:]}")


def _word(words: Sequence[str], at: int) -> str:
    return words[at] if at < len(words) else ""


ARTICLES = frozenset({"a", "an"})
_GROUPING = re.compile(r"(?<=\d)[,'\u2019\u00a0\u2009\u202f](?=\d{3}(?!\d))")
_DECIMAL_COMMA = re.compile(r"(?<![\d,.])(\d+),(\d{1,2})(?![\d,])")
_ACCENTS = re.compile("[\u0300-\u036f]")
# Scripts without spaces: each character counts as a word.
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
    """A word of a text, and the clause it is in."""

    text: str
    clause: int


def words_of(text: str) -> list[Word]:
    """The words of a text, without "the".

    Compatibility forms are unified (NFKC), accents and case dropped, plurals reduced to the singular, and
    numbers written in digits ("seven" is 7, 1,000 is 1000, 3.0 is 3, 5 million is 5000000).
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
    """The words of an accepted answer, without a leading article."""
    words = tuple(word.text for word in words_of(text))
    return words[1:] if len(words) > 1 and words[0] in ARTICLES else words


def places(wanted: Sequence[str], words: Sequence[Word]) -> list[int]:
    """Positions where the wanted words occur together in a text."""
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
    """A word without its plural ending; it only has to be the same for both forms, not a real word."""
    if len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return f"{word[:-3]}y"
    return word[:-2] if word.endswith(("shes", "ches", "sses", "xes", "zes")) else word[:-1]


_PUNCTUATION = str.maketrans("", "", punctuation)
_SQUAD_ARTICLES = re.compile(r"\b(?:a|an|the)\b")


def squad_normalized(text: str) -> str:
    """SQuAD's answer normalisation: lower case, no ASCII punctuation, no articles, single spaces."""
    return " ".join(_SQUAD_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


_YES_OR_NO = {("yes",), ("no",)}
_DENYING = (
    "not never neither nor without except instead cannot cant isnt wasnt arent werent dont doesnt didnt"
)
_FILLING = "a an in at of on by from to actually really always necessarily called named known as considered"
_DENIALS, _FILLERS = frozenset(_DENYING.split()), frozenset(_FILLING.split())
_BE = frozenset({"is", "was", "are", "were"})
_DENIED_AFTER = frozenset({"isnt", "wasnt", "arent", "werent"})


@dataclass(frozen=True, slots=True)
class ExactJudge:
    """Right if the answer is an accepted one but for case, accents, punctuation, articles and numerals."""

    name: str = "exact"
    needs_answers: bool = True
    at_once: int = 1

    def __call__(self, question: str, response: str, accepted: Sequence[str]) -> Ruling:
        """Judge one answer."""
        response = answer_of(response)
        for answer in accepted:
            if _same(response, answer):
                return Ruling(True, f"The answer is “{answer}”.")
        return Ruling(False, "The answer is not an accepted one.")


@dataclass(frozen=True, slots=True)
class ContainsJudge:
    """Right if the answer contains an accepted one, word for word.

    An accepted answer that is already in the question does not count, since repeating the question would
    suffice; if none is left, the judge cannot tell. Of a conversation, only the user's last message is the
    question: what was said before may well hold the answer, as a passage does. "yes" and "no" count only as
    the first word. Negations in the same clause do not count: "not Paris", "instead of Paris", "Paris is
    not". An answer that names several possibilities is right if one of them is: if that matters, use a model
    as the judge.
    """

    name: str = "contains"
    needs_answers: bool = True
    at_once: int = 1

    def __call__(self, question: str, response: str, accepted: Sequence[str]) -> Ruling:
        """Judge one answer."""
        response, question = answer_of(response), last_asked(question)
        asked, said = words_of(question), words_of(response)
        usable = [answer for answer in accepted if not _holds(asked, question, answer)]
        if not usable:
            return Ruling(None, "The question already contains every accepted answer.")
        for answer in usable:
            if _asserts(said, response, answer):
                return Ruling(True, f"The answer contains “{answer}”.")
        return Ruling(False, "The answer contains no accepted one.")


@dataclass(frozen=True, slots=True)
class F1Judge:
    """Right if the F1 of words shared with an accepted answer (Rajpurkar et al., 2016) reaches a threshold.

    Attributes:
        threshold: Minimum F1 of a right answer, above 0 and up to 1.
    """

    threshold: float = 0.5
    needs_answers: bool = True
    at_once: int = 1

    def __post_init__(self) -> None:
        check_threshold("f1", self.threshold)

    @property
    def name(self) -> str:
        """The name includes the threshold, which decides."""
        return f"f1:{self.threshold:g}"

    def __call__(self, question: str, response: str, accepted: Sequence[str]) -> Ruling:
        """Judge one answer."""
        response = answer_of(response)
        best = max((_f1(response, answer) for answer in accepted), default=0.0)
        return Ruling(best >= self.threshold, f"F1 is {best:.2f}; right from {self.threshold:g}.")


def check_threshold(judge: str, threshold: float) -> None:
    """Check a threshold.

    Raises:
        OptionError: It is not above 0 and up to 1.
    """
    if not isfinite(threshold) or not 0 < threshold <= 1:
        raise OptionError(
            f"The threshold of the judge {judge} is {threshold:g}; it must be above 0 and up to 1."
        )


def _same(response: str, answer: str) -> bool:
    wanted = phrase(answer)
    return wanted == phrase(response) if wanted else answer.strip() == response.strip()


def _holds(words: Sequence[Word], text: str, answer: str) -> bool:
    wanted = phrase(answer)
    # Signs alone, such as "+", have no words.
    return bool(places(wanted, words)) if wanted else answer.strip() in text


def _asserts(words: Sequence[Word], text: str, answer: str) -> bool:
    wanted = phrase(answer)
    if wanted in _YES_OR_NO:
        return bool(words) and words[0].text == wanted[0]
    if wanted and all(word in ARTICLES for word in wanted):
        # A blood group or a grade, which elsewhere would be an article.
        return _same(text, answer)
    if not wanted:
        return _holds(words, text, answer)
    return any(not _denied(words, at, at + len(wanted)) for at in places(wanted, words))


def _denied(words: Sequence[Word], start: int, end: int) -> bool:
    """Whether what is at this position is negated in its clause."""
    before = [word.text for word in words[:start] if word.clause == words[start].clause]
    after = [word.text for word in words[end:] if word.clause == words[end - 1].clause]
    while before and before[-1] in _FILLERS:
        before.pop()
    if before and (before[-1] in _DENIALS or before[-2:] in (["rather", "than"], ["other", "than"])):
        return True
    if after[:1] and after[0] in _DENIED_AFTER:
        return True
    return after[1:2] == ["not"] and after[0] in _BE and after[2:3] != ["only"]


def _f1(response: str, answer: str) -> float:
    said, wanted = (
        Counter(word.text for word in words_of(text) if word.text not in ARTICLES)
        for text in (response, answer)
    )
    return overlap(said, wanted) if said and wanted else float(_same(response, answer))


def overlap(said: Counter[str], wanted: Counter[str]) -> float:
    """The F1 of two bags of words."""
    return 2 * (said & wanted).total() / (said.total() + wanted.total())
