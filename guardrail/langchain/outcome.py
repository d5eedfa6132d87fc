"""Combine the decisions on a chain's model calls into one outcome, and end the run with it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol
from uuid import UUID

from guardrail.errors import AbstainedError
from guardrail.escalation.case import Answered
from guardrail.escalation.verdict import Verdict
from guardrail.guard.answer import DEFAULT_MESSAGES
from guardrail.langchain.message_conversion import (
    NoPlaceError,
    in_place_of,
    in_place_of_chunks,
    with_verdict,
    without_verdict,
)
from guardrail.langchain.verdicts import CarriedVerdict, sealed, unsealed

if TYPE_CHECKING:
    from guardrail.guard.answer import GuardedAnswer
    from guardrail.langchain.answer_parts import AnswerParts

__all__ = [
    "CallDecision",
    "ChainOnAbstain",
    "ChainOutcome",
    "ChainResult",
    "Chunks",
    "Ending",
    "LastChunk",
    "Whole",
    "combined",
    "ending_of",
    "joined",
]


# By how much an action takes away of what the chain gave.
_STRICTNESS = {"pass": 0, "flag": 1, "escalate": 2, "abstain": 3}
_WITHHOLDING = ("escalate", "abstain")


@dataclass(frozen=True, slots=True)
class CallDecision:
    """What was decided on one call of a model.

    Attributes:
        plain: The verdict, plain values for JSON.
        run_id: Of the call; of the chain, where no call was seen.
        answer: The guard's answer; None where the model has a guard of its own, which acted already.
        said: What it was decided on.
    """

    plain: Verdict
    run_id: UUID
    answer: "GuardedAnswer | None" = field(default=None, repr=False)
    said: "AnswerParts | None" = field(default=None, repr=False)

    @property
    def takes_away(self) -> int:
        """By how much it takes away of the answer."""
        return _STRICTNESS[self.plain["action"]] if self.plain["enforced"] else 0

    @property
    def strictness(self) -> tuple[int, int, float]:
        """Larger is stricter: by what is done, by what would be if it were enforced, by confidence."""
        action = _STRICTNESS[self.plain["action"]]
        confidence = self.plain.get("confidence")
        # What nothing is known of is worse than what is known to be bad.
        doubt = 1 - confidence if isinstance(confidence, int | float) else 2.0
        return (self.takes_away, action, doubt)

    def with_run_id(self) -> CarriedVerdict:
        """The verdict, as whoever listens is told of it."""
        told: CarriedVerdict = {**unsealed(self.plain), "run_id": str(self.run_id)}
        return sealed(told, said=self.said)

    @property
    def answered_by(self) -> str | None:
        """What answered in place of the model, if something did."""
        escalation = self.plain.get("escalation")
        source = escalation.get("source") if isinstance(escalation, Mapping) else None
        return source if isinstance(source, str) and source else None


@dataclass(frozen=True, slots=True)
class ChainOutcome:
    """What becomes of a chain's output.

    Attributes:
        verdict: The verdict that decided.
        verdicts: The verdicts of all calls that were looked at.
        text: What stands in the output's place; None where the output stays.
        withheld: Whether nothing answers: ``text`` is then the policy's message.
    """

    verdict: CallDecision
    verdicts: Sequence[CallDecision]
    text: str | None = field(default=None, repr=False)
    withheld: bool = False

    def with_turns_left_out(self, count: int) -> "ChainOutcome":
        """The same, where turns were left out before a guard was asked."""
        if not count:
            return self

        def told(verdict: CallDecision) -> CallDecision:
            known = verdict.plain.get("turns_left_out") or 0
            return replace(verdict, plain={**verdict.plain, "turns_left_out": known + count})

        return replace(self, verdict=told(self.verdict), verdicts=[told(one) for one in self.verdicts])


def combined(verdicts: Sequence[CallDecision], how: Literal["last", "worst"]) -> ChainOutcome:
    """Let one of several verdicts decide.

    ``last``: that of the call which ended last. ``worst``: the strictest action, of these the one with the
    lowest confidence (an unknown one is lower), and of these the last.

    Args:
        verdicts: At least one, in the order in which the calls ended.
        how: Which decides.
    """
    last = verdicts[-1]
    decisive = last
    if how == "worst":
        for verdict in reversed(verdicts):
            if verdict.strictness > decisive.strictness:
                decisive = verdict
    if not decisive.plain["enforced"] or decisive.plain["action"] not in _WITHHOLDING:
        return ChainOutcome(decisive, verdicts)
    if decisive.answer is None:
        return _acted_already(decisive, verdicts)
    reply = decisive.answer.escalation.reply if decisive.answer.escalation else None
    if not isinstance(reply, Answered):
        return ChainOutcome(decisive, verdicts, decisive.answer.text, withheld=True)
    if decisive is last:
        return ChainOutcome(decisive, verdicts, decisive.answer.text)
    # It is an answer to a step on the way, and not to what the chain was asked.
    return ChainOutcome(decisive, verdicts, DEFAULT_MESSAGES["abstain"], withheld=True)


def _acted_already(verdict: CallDecision, verdicts: Sequence[CallDecision]) -> ChainOutcome:
    """Where the model has its own guard: what it let through in the draft's place went into the chain."""
    if verdict.plain["action"] == "escalate" and verdict.answered_by:
        return ChainOutcome(verdict, verdicts)
    message = verdict.plain.get("message")
    words = message if isinstance(message, str) and message else DEFAULT_MESSAGES["abstain"]
    return ChainOutcome(verdict, verdicts, words, withheld=True)


ChainOnAbstain = Literal["message", "raise"]


class ChainResult(Protocol):
    """What a chain gave."""

    def kept(self, verdict: Verdict) -> Any:
        """It, with the verdict where it has a place for it."""
        ...

    def replaced(self, text: str, verdict: Verdict, asked: Any) -> Any:
        """A text in its place.

        Args:
            text: The text.
            verdict: What was decided.
            asked: The chain's input: a state that holds messages goes on to hold these.

        Raises:
            NoPlaceError: It has none.
        """
        ...


@dataclass(frozen=True, slots=True)
class Whole:
    """An output."""

    output: Any = field(default=None, repr=False)

    def kept(self, verdict: Verdict) -> Any:
        """As in :class:`ChainResult`."""
        return with_verdict(self.output, verdict)

    def replaced(self, text: str, verdict: Verdict, asked: Any) -> Any:
        """As in :class:`ChainResult`."""
        return in_place_of(self.output, text, verdict, asked)


@dataclass(frozen=True, slots=True)
class Chunks:
    """A stream of which nothing was seen."""

    chunks: Sequence[Any] = field(default=(), repr=False)

    def kept(self, verdict: Verdict) -> list[Any]:
        """As in :class:`ChainResult`."""
        *first, last = self.chunks or [None]
        whole = joined(self.chunks)
        return [*map(without_verdict, first), with_verdict(last, verdict, whole)] if self.chunks else []

    def replaced(self, text: str, verdict: Verdict, asked: Any) -> list[Any]:
        """As in :class:`ChainResult`."""
        return in_place_of_chunks(self.chunks, text, verdict, asked)


@dataclass(frozen=True, slots=True)
class LastChunk:
    """A stream of which all was seen but the last chunk, or that had none."""

    chunks: Sequence[Any] = field(default=(), repr=False)

    def kept(self, verdict: Verdict) -> list[Any]:
        """As in :class:`ChainResult`."""
        return [with_verdict(chunk, verdict) for chunk in self.chunks]

    def replaced(self, text: str, verdict: Verdict, asked: Any) -> list[Any]:
        """As in :class:`ChainResult`; never."""
        raise NoPlaceError("The answer was streamed before it could be decided on (streaming: annotate).")


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ends.

    Attributes:
        given: What it gives.
        error: What it raises instead.
        reveals: Whether those around may learn what happened within.
    """

    given: Any = field(default=None, repr=False)
    error: BaseException | None = None
    reveals: bool = False


def ending_of(
    outcome: ChainOutcome | None,
    result: ChainResult,
    error: Exception | None,
    on_abstain: ChainOnAbstain,
    asked: Any = None,
) -> Ending:
    """End a run.

    Args:
        outcome: What was decided; None where no model gave an answer before the chain failed.
        result: What the chain gave.
        error: What it raised instead.
        on_abstain: What to do in place of an answer that is withheld.
        asked: What it was given.
    """
    if outcome is None:
        return Ending(error=error, reveals=True)
    verdict = outcome.verdict
    # What a model's own guard put in the draft's place may have been streamed: it is no draft.
    was_shown = isinstance(result, LastChunk) and verdict.answer is None and on_abstain == "message"
    if outcome.text is None or was_shown:
        return Ending(None if error else result.kept(verdict.plain), error, reveals=True)
    if error is not None:
        # A parser's error, for one, has all that it could not read in it.
        why = f"The chain failed as well ({type(error).__name__}); its error may tell of the answer."
        return Ending(error=_abstained(outcome, why))
    if outcome.withheld and on_abstain == "raise":
        return Ending(error=_abstained(outcome))
    try:
        return Ending(result.replaced(outcome.text, verdict.plain, asked))
    except NoPlaceError as problem:
        why = str(problem)
    return Ending(error=_abstained(outcome, why))


def _abstained(outcome: ChainOutcome, why: str = "") -> AbstainedError:
    verdict = outcome.verdict.plain
    parts = [f"The policy withheld the answer ({verdict['action']}, rule {verdict['rule']})."]
    if verdict.get("reason"):
        parts.append(f"Why: {verdict['reason']}.")
    if outcome.withheld:
        parts.append(f"It says: {outcome.text}")
    return AbstainedError(" ".join(filter(None, [*parts, why])), verdict)


def joined(chunks: Sequence[Any]) -> Any:
    """All chunks as one; the last where they cannot be added, as LangChain does it."""
    whole = None
    for chunk in chunks:
        try:
            whole = chunk if whole is None else whole + chunk
        except TypeError:
            whole = chunk
    return whole
