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


# Actions ranked by how much of the chain's output they take away.
_STRICTNESS = {"pass": 0, "flag": 1, "escalate": 2, "abstain": 3}
_WITHHOLDING = ("escalate", "abstain")


@dataclass(frozen=True, slots=True)
class CallDecision:
    """The decision on one model call.

    Attributes:
        plain: Verdict as plain values for JSON.
        run_id: Run id of the call, or of the chain if no call was seen.
        answer: Answer of the guard; None if the model has its own guard, which has acted already.
        said: Answer that was decided on.
    """

    plain: Verdict
    run_id: UUID
    answer: "GuardedAnswer | None" = field(default=None, repr=False)
    said: "AnswerParts | None" = field(default=None, repr=False)

    @property
    def takes_away(self) -> int:
        """Rank of the enforced action, from 0 (``pass``) to 3 (``abstain``); 0 if it is not enforced."""
        return _STRICTNESS[self.plain["action"]] if self.plain["enforced"] else 0

    @property
    def strictness(self) -> tuple[int, int, float]:
        """Sort key, larger for stricter: enforced action, then action if it were enforced, then doubt."""
        action = _STRICTNESS[self.plain["action"]]
        confidence = self.plain.get("confidence")
        # An unknown confidence ranks below even the lowest known one.
        doubt = 1 - confidence if isinstance(confidence, int | float) else 2.0
        return (self.takes_away, action, doubt)

    def with_run_id(self) -> CarriedVerdict:
        """Return the sealed verdict with its run id, as handlers receive it."""
        told: CarriedVerdict = {**unsealed(self.plain), "run_id": str(self.run_id)}
        return sealed(told, said=self.said)

    @property
    def answered_by(self) -> str | None:
        """Escalation target that answered in place of the model, if any."""
        escalation = self.plain.get("escalation")
        source = escalation.get("source") if isinstance(escalation, Mapping) else None
        return source if isinstance(source, str) and source else None


@dataclass(frozen=True, slots=True)
class ChainOutcome:
    """What happens to a chain's output.

    Attributes:
        verdict: Decisive verdict.
        verdicts: Verdicts on all calls that were considered.
        text: Text that replaces the output; None if the output stays.
        withheld: Whether the output is withheld and nothing answers in its place; ``text`` is then a message.
    """

    verdict: CallDecision
    verdicts: Sequence[CallDecision]
    text: str | None = field(default=None, repr=False)
    withheld: bool = False

    def with_turns_left_out(self, count: int) -> "ChainOutcome":
        """Add to every verdict the number of turns that were left out before the guard was asked."""
        if not count:
            return self

        def told(verdict: CallDecision) -> CallDecision:
            known = verdict.plain.get("turns_left_out") or 0
            return replace(verdict, plain={**verdict.plain, "turns_left_out": known + count})

        return replace(self, verdict=told(self.verdict), verdicts=[told(one) for one in self.verdicts])


def combined(verdicts: Sequence[CallDecision], how: Literal["last", "worst"]) -> ChainOutcome:
    """Choose the decisive verdict and the outcome that follows from it.

    ``last`` takes the verdict on the call that ended last. ``worst`` takes the strictest action; ties go to
    the lowest confidence, where unknown is lowest, and then to the last call.

    Args:
        verdicts: One or more decisions in the order in which the calls ended.
        how: Rule that chooses the decisive verdict.
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
    # The target answered an intermediate step, and not the question that the chain was asked.
    return ChainOutcome(decisive, verdicts, DEFAULT_MESSAGES["abstain"], withheld=True)


def _acted_already(verdict: CallDecision, verdicts: Sequence[CallDecision]) -> ChainOutcome:
    """Make the outcome for a model with its own guard; the chain has already used any replacement answer."""
    if verdict.plain["action"] == "escalate" and verdict.answered_by:
        return ChainOutcome(verdict, verdicts)
    message = verdict.plain.get("message")
    words = message if isinstance(message, str) and message else DEFAULT_MESSAGES["abstain"]
    return ChainOutcome(verdict, verdicts, words, withheld=True)


ChainOnAbstain = Literal["message", "raise"]


class ChainResult(Protocol):
    """The result of a chain."""

    def kept(self, verdict: Verdict) -> Any:
        """Return the result, with the verdict attached if it can carry one."""
        ...

    def replaced(self, text: str, verdict: Verdict, asked: Any) -> Any:
        """Return a result of the same form with a text in its place.

        Args:
            text: Text that replaces the result.
            verdict: Verdict to attach.
            asked: Input of the chain; its messages are kept if the result is a state with messages.

        Raises:
            NoPlaceError: A text cannot take the place of this result.
        """
        ...


@dataclass(frozen=True, slots=True)
class Whole:
    """A result that is not streamed."""

    output: Any = field(default=None, repr=False)

    def kept(self, verdict: Verdict) -> Any:
        """As in :class:`ChainResult`."""
        return with_verdict(self.output, verdict)

    def replaced(self, text: str, verdict: Verdict, asked: Any) -> Any:
        """As in :class:`ChainResult`."""
        return in_place_of(self.output, text, verdict, asked)


@dataclass(frozen=True, slots=True)
class Chunks:
    """A stream of which nothing has been released."""

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
    """A stream of which everything but the last chunk has been released; it may be empty."""

    chunks: Sequence[Any] = field(default=(), repr=False)

    def kept(self, verdict: Verdict) -> list[Any]:
        """As in :class:`ChainResult`."""
        return [with_verdict(chunk, verdict) for chunk in self.chunks]

    def replaced(self, text: str, verdict: Verdict, asked: Any) -> list[Any]:
        """Raise :class:`NoPlaceError`, because the answer has been streamed already."""
        raise NoPlaceError("The answer was streamed before it could be decided on (streaming: annotate).")


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ends.

    Attributes:
        given: Output of the run.
        error: Error that the run raises instead.
        reveals: Whether surrounding handlers may receive the events of the run in full.
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
    """Determine how a run ends.

    Args:
        outcome: Outcome of the verdicts; None if the chain failed before any model gave an answer.
        result: Result of the chain.
        error: Error that the chain raised instead.
        on_abstain: What to return or raise in place of a withheld answer.
        asked: Input of the chain.
    """
    if outcome is None:
        return Ending(error=error, reveals=True)
    verdict = outcome.verdict
    # A replacement from the model's own guard may already have been streamed, since it is not a draft.
    was_shown = isinstance(result, LastChunk) and verdict.answer is None and on_abstain == "message"
    if outcome.text is None or was_shown:
        return Ending(None if error else result.kept(verdict.plain), error, reveals=True)
    if error is not None:
        # The error may quote the answer: a parser's error, for example, contains the text it could not parse.
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
    """Add up all chunks; one that cannot be added replaces those before it, as in LangChain."""
    whole = None
    for chunk in chunks:
        try:
            whole = chunk if whole is None else whole + chunk
        except TypeError:
            whole = chunk
    return whole
