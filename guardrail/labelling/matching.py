"""Judges that compare normalised words: exact match, contains and F1, and SQuAD's exact match and F1."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from guardrail.errors import OptionError
from guardrail.labelling.answer_normalization import (
    ARTICLES,
    Word,
    phrase,
    places,
    squad_normalized,
    words_of,
)
from guardrail.labelling.judge import Ruling
from guardrail.labelling.transcript import last_asked
from guardrail.models.reasoning import answer_of

__all__ = ["ContainsJudge", "ExactJudge", "F1Judge", "SquadExactJudge", "SquadF1Judge", "check_threshold"]


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
    return _overlap(said, wanted) if said and wanted else float(_same(response, answer))


def _overlap(said: Counter[str], wanted: Counter[str]) -> float:
    return 2 * (said & wanted).total() / (said.total() + wanted.total())


@dataclass(frozen=True, slots=True)
class SquadExactJudge:
    """SQuAD's exact match (Rajpurkar et al., 2016): right if the normalised answer is an accepted one.

    It makes figures comparable with papers; :class:`ExactJudge` also unifies numerals, plurals and accents.
    An accepted answer that the normalisation leaves nothing of, such as "A", does not count: any other such
    answer would equal it. If there is no other, the judge cannot tell.
    """

    name: str = "squad-exact"
    needs_answers: bool = True
    at_once: int = 1

    def __call__(self, question: str, response: str, accepted: Sequence[str]) -> Ruling:
        """Judge one answer."""
        wanted = _squad_answers(accepted)
        if not wanted:
            return _NOTHING_LEFT
        said = squad_normalized(answer_of(response))
        return Ruling(said in wanted, f"The normalised answer is “{said}”.")


@dataclass(frozen=True, slots=True)
class SquadF1Judge:
    """SQuAD's F1 (Rajpurkar et al., 2016): right if it reaches a threshold for an accepted answer.

    Normalisation and accepted answers without words are as for :class:`SquadExactJudge`.

    Attributes:
        threshold: Minimum F1 of a right answer, above 0 and up to 1. Papers report the mean F1 instead.
    """

    threshold: float = 0.5
    needs_answers: bool = True
    at_once: int = 1

    def __post_init__(self) -> None:
        check_threshold("squad-f1", self.threshold)

    @property
    def name(self) -> str:
        """The name includes the threshold, which decides."""
        return f"squad-f1:{self.threshold:g}"

    def __call__(self, question: str, response: str, accepted: Sequence[str]) -> Ruling:
        """Judge one answer."""
        wanted = _squad_answers(accepted)
        if not wanted:
            return _NOTHING_LEFT
        said = Counter(squad_normalized(answer_of(response)).split())
        best = max(_overlap(said, Counter(one.split())) for one in wanted)
        return Ruling(best >= self.threshold, f"F1 is {best:.2f}; right from {self.threshold:g}.")


_NOTHING_LEFT = Ruling(None, "Normalisation leaves nothing of any accepted answer.")


def _squad_answers(accepted: Sequence[str]) -> list[str]:
    return [one for one in map(squad_normalized, accepted) if one]
