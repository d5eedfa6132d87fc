"""The domain of a profile: what its answers were like, and how another answer differs from them.

A profile is made of answers to one kind of prompt, given in one way. What an app sends may be different: a
later turn of a conversation, another system message, a document before the question, JSON. Facts of an
answer (:class:`AnswerFacts`) are compared with those that the profile's answers had (:class:`Domain`); which
differences matter was measured (docs/explanation/domain.md).

Plain data: no torch, no NumPy.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from guardrail.labelling.answer_facts import AnswerFacts
from guardrail.utils.record_store import FrozenModel

__all__ = ["Difference", "Domain", "Span", "Unit", "wrong_unit"]

# What a profile is made of.
Unit = Literal["answer", "sentence"]

# A value that fewer answers had than this share is outside: too few to say how sure the model is with it.
_LEAST_SHARE = 0.02
# From so many different system messages on, none of which most answers had, any other counts as one of them,
# where the answers under one are this share of all: a few say nothing of system messages in general.
_VARIED = 10
_VARIED_SHARE = 0.2
# A prompt or an answer may be so much longer or shorter than any that was seen.
_SLACK = 2.0
_MOST_VALUES = 64


class Difference(NamedTuple):
    """How an answer differs from those of a profile.

    Attributes:
        fact: Name of the fact, as in :class:`~guardrail.labelling.answer_facts.AnswerFacts` or
            :class:`~guardrail.models.sampling.Sampling`.
        words: The difference in words.
    """

    fact: str
    words: str


class Span(FrozenModel):
    """Smallest and largest value of a fact among the answers of a profile, both included."""

    low: Annotated[int, Field(ge=0)]
    high: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _is_ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"{self.low} is more than {self.high}")
        return self

    def __str__(self) -> str:
        return str(self.low) if self.low == self.high else f"{self.low} to {self.high}"


Counts = Mapping[str, Annotated[int, Field(gt=0)]]


class Domain(FrozenModel):
    """What the answers of a profile were like.

    Attributes:
        answers: Number of answers behind it.
        turns: User messages up to the answer.
        system: Answers by SHA-256 of their system message (empty for none); the 64 most common.
        systems: Number of different system messages.
        tools: Answers by whether tools were shown: ``yes``, ``no``.
        form: Answers by form.
        reasoning: Answers by whether the model reasoned: ``yes``, ``no``.
        script: Answers by the script of the question.
        prompt_tokens: Lengths of the prompts; None if unknown.
        answer_tokens: Lengths of the answers; None if unknown.
        cut_off: Lengths of the answers that were cut off; None if none was.
    """

    answers: Annotated[int, Field(gt=0)]
    turns: Span
    system: Counts
    systems: Annotated[int, Field(ge=0)]
    tools: Counts
    form: Counts
    reasoning: Counts
    script: Counts
    prompt_tokens: Span | None = None
    answer_tokens: Span | None = None
    cut_off: Span | None = None

    @classmethod
    def of(cls, facts: Sequence[AnswerFacts]) -> Self:
        """The domain of a profile made from answers with these facts; at least one."""
        turns = sorted(one.turns for one in facts)
        # Without the rarest ends, so that a single conversation of thirty turns does not vouch for others.
        aside = ceil(_LEAST_SHARE * len(turns)) - 1
        systems = Counter(one.system for one in facts)
        return cls(
            answers=len(facts),
            turns=Span(low=turns[aside], high=turns[-1 - aside]),
            system=dict(systems.most_common(_MOST_VALUES)),
            systems=len(systems.keys() - {""}),
            tools=_counts(_yes_no(one.tools) for one in facts),
            form=_counts(one.form for one in facts),
            reasoning=_counts(_yes_no(one.reasoning) for one in facts),
            script=_counts(one.script for one in facts),
            prompt_tokens=_span(one.prompt_tokens for one in facts),
            answer_tokens=_span(one.answer_tokens for one in facts),
            cut_off=_span(one.answer_tokens for one in facts if one.cut_off),
        )

    def differences(self, facts: AnswerFacts) -> list[Difference]:
        """How an answer differs from those of the profile; empty if it does not."""
        found = [
            self._turns(facts.turns),
            self._system(facts.system),
            self._value("tools", _yes_no(facts.tools), _TOOLS),
            self._value("form", facts.form, _FORMS),
            self._value("reasoning", _yes_no(facts.reasoning), _REASONING),
            self._value("script", facts.script, {}) if facts.script else None,
            _length("prompt_tokens", "the prompt has", facts.prompt_tokens, self.prompt_tokens),
            _length("answer_tokens", "the answer has", facts.answer_tokens, self.answer_tokens),
            self._cut_off(facts),
        ]
        return [one for one in found if one is not None]

    def _turns(self, turns: int) -> Difference | None:
        if self.turns.low <= turns <= self.turns.high:
            return None
        many = "single questions" if self.turns.high == 1 else f"conversations of {self.turns} turns"
        return Difference("turns", f"the profile is of {many}, this is turn {turns}")

    def _system(self, system: str) -> Difference | None:
        if self._is_common(self.system.get(system, 0)):
            return None
        under_one = self.answers - self.system.get("", 0)
        most = max((count for name, count in self.system.items() if name), default=0)
        is_varied = self.systems >= _VARIED and under_one >= _VARIED_SHARE * self.answers
        if system and is_varied and 2 * most < under_one:
            return None
        if not system:
            return Difference("system", "the profile is of answers under a system message, here is none")
        others = "another" if self.systems == 1 else "others"
        without = "none" if not self.systems else others
        return Difference("system", f"the profile is of answers under {without}, this has a system message")

    def _value(self, fact: str, value: str, words: Mapping[str, str]) -> Difference | None:
        counts: Mapping[str, int] = getattr(self, fact)
        if self._is_common(counts.get(value, 0)):
            return None
        usual = max(counts, key=lambda known: counts[known])
        if words:
            return Difference(fact, f"the profile is of {words[usual]}, this is one of {words[value]}")
        return Difference(fact, f"the profile is of questions in {usual or 'no'} script, this is {value}")

    def _cut_off(self, facts: AnswerFacts) -> Difference | None:
        if not facts.cut_off or facts.answer_tokens is None:
            return None
        if self.cut_off is None:
            # None was cut off, so any length at which this one was is shorter than they were given.
            said = "the profile is of answers that were not cut off, this one was"
            return Difference("cut_off", said)
        if facts.answer_tokens * _SLACK < self.cut_off.low:
            said = f"the answer was cut off after {facts.answer_tokens} tokens, those of the profile later"
            return Difference("cut_off", said)
        return None

    def _is_common(self, count: int) -> bool:
        return count > 0 and count >= _LEAST_SHARE * self.answers


_TOOLS = {"yes": "answers of a model with tools", "no": "answers of a model without tools"}
_FORMS = {"text": "answers in text", "json": "answers in JSON", "call": "calls of tools"}
_REASONING = {"yes": "answers after reasoning", "no": "answers without reasoning"}


def _length(fact: str, words: str, tokens: int | None, span: Span | None) -> Difference | None:
    if tokens is None or span is None or span.low / _SLACK <= tokens <= span.high * _SLACK:
        return None
    return Difference(fact, f"{words} {tokens:,} tokens, those of the profile {span}")


def _counts(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _span(values: Iterable[int | None]) -> Span | None:
    known = [value for value in values if value is not None]
    return Span(low=min(known), high=max(known)) if known else None


def _yes_no(value: bool) -> str:
    return "yes" if value else "no"


def wrong_unit(unit: Unit) -> str:
    """What to say of a profile that is made of something else than what is to be assessed."""
    if unit == "sentence":
        return (
            "The profile is made of sentences: it says nothing of whole answers, and is only for a policy "
            "with streaming: sentences."
        )
    return (
        "The profile is made of whole answers, which says nothing of a sentence: streaming: sentences needs "
        "one that guardrail calibrate --sentences made."
    )
