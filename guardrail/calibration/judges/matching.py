"""Judges that compare words: the answer is one of the accepted, holds one, or shares enough with one."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from guardrail.calibration.judges.judge import Verdict
from guardrail.calibration.judges.words import ARTICLES, Word, phrase, places, words_of
from guardrail.errors import OptionError
from guardrail.models.reasoning import answer_of

__all__ = ["ContainsJudge", "ExactJudge", "F1Judge", "check_threshold"]

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
    """The whole answer is an accepted one, but for case, accents, punctuation, articles and numerals."""

    name: str = "exact"
    needs_answers: bool = True
    at_once: int = 1

    def __call__(self, question: str, response: str, accepted: Sequence[str]) -> Verdict:
        """Judge one answer."""
        response = answer_of(response)
        for answer in accepted:
            if _same(response, answer):
                return Verdict(True, f"The answer is “{answer}”.")
        return Verdict(False, "The answer is none of the accepted ones.")


@dataclass(frozen=True, slots=True)
class ContainsJudge:
    """The answer holds an accepted one, word by word.

    An accepted answer that the question holds already does not count: repeating the question would be enough.
    Where that leaves none, the judge cannot tell. "yes" and "no" count only as the first word. What is denied
    in the same clause does not count: "not Paris", "instead of Paris", "Paris is not". An answer that names
    several possibilities counts if one of them is right: where that matters, let a model judge.
    """

    name: str = "contains"
    needs_answers: bool = True
    at_once: int = 1

    def __call__(self, question: str, response: str, accepted: Sequence[str]) -> Verdict:
        """Judge one answer."""
        response = answer_of(response)
        asked, said = words_of(question), words_of(response)
        usable = [answer for answer in accepted if not _holds(asked, question, answer)]
        if not usable:
            return Verdict(None, "The question holds every accepted answer already.")
        for answer in usable:
            if _asserts(said, response, answer):
                return Verdict(True, f"The answer holds “{answer}”.")
        return Verdict(False, "The answer holds none of the accepted ones.")


@dataclass(frozen=True, slots=True)
class F1Judge:
    """The words shared with an accepted answer, as F1 (Rajpurkar et al., 2016), reach a threshold.

    Attributes:
        threshold: Least F1 of a right answer, above 0 and up to 1.
    """

    threshold: float = 0.5
    needs_answers: bool = True
    at_once: int = 1

    def __post_init__(self) -> None:
        check_threshold("f1", self.threshold)

    @property
    def name(self) -> str:
        """With the threshold, since it decides."""
        return f"f1:{self.threshold:g}"

    def __call__(self, question: str, response: str, accepted: Sequence[str]) -> Verdict:
        """Judge one answer."""
        response = answer_of(response)
        best = max((_f1(response, answer) for answer in accepted), default=0.0)
        return Verdict(best >= self.threshold, f"F1 is {best:.2f}, and {self.threshold:g} is right.")


def check_threshold(judge: str, threshold: float) -> None:
    """Make sure that a threshold is one.

    Raises:
        OptionError: It is not above 0 and up to 1.
    """
    if not isfinite(threshold) or not 0 < threshold <= 1:
        raise OptionError(
            f"The threshold of the judge {judge} is {threshold:g}; give one above 0 and up to 1."
        )


def _same(response: str, answer: str) -> bool:
    wanted = phrase(answer)
    return wanted == phrase(response) if wanted else answer.strip() == response.strip()


def _holds(words: Sequence[Word], text: str, answer: str) -> bool:
    wanted = phrase(answer)
    # Signs alone, such as "+", are no words.
    return bool(places(wanted, words)) if wanted else answer.strip() in text


def _asserts(words: Sequence[Word], text: str, answer: str) -> bool:
    wanted = phrase(answer)
    if wanted in _YES_OR_NO:
        return bool(words) and words[0].text == wanted[0]
    if wanted and all(word in ARTICLES for word in wanted):
        # A blood group or a grade, and an article wherever it stands.
        return _same(text, answer)
    if not wanted:
        return _holds(words, text, answer)
    return any(not _denied(words, at, at + len(wanted)) for at in places(wanted, words))


def _denied(words: Sequence[Word], start: int, end: int) -> bool:
    """Whether what stands here is denied in its own clause."""
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
    if not said or not wanted:
        return float(_same(response, answer))
    shared = (said & wanted).total()
    return 2 * shared / (said.total() + wanted.total())
