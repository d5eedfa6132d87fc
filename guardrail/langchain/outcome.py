"""From the calls of a chain to what becomes of its output."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

from guardrail.escalation.case import Answered
from guardrail.guard.words import DEFAULT_MESSAGES
from guardrail.langchain.seals import sealed

if TYPE_CHECKING:
    from guardrail.guard.answer import GuardedAnswer
    from guardrail.langchain.answer_parts import AnswerParts

__all__ = ["Outcome", "Verdict", "combined"]

# By how much an action takes away of what the chain gave.
_STRICTNESS = {"pass": 0, "flag": 1, "escalate": 2, "abstain": 3}
_WITHHOLDING = ("escalate", "abstain")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided on one call of a model.

    Attributes:
        plain: The verdict, plain values for JSON.
        run_id: Of the call; of the chain, where no call was seen.
        answer: The guard's answer; None where the model has a guard of its own, which acted already.
        said: What it was decided on.
    """

    plain: Mapping[str, Any]
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

    def with_run_id(self) -> dict[str, Any]:
        """The verdict, as whoever listens is told of it."""
        return sealed({**self.plain, "run_id": str(self.run_id)}, said=self.said)

    @property
    def answered_by(self) -> str | None:
        """What answered in place of the model, if something did."""
        escalation = self.plain.get("escalation")
        source = escalation.get("source") if isinstance(escalation, Mapping) else None
        return source if isinstance(source, str) and source else None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of a chain's output.

    Attributes:
        verdict: The verdict that decided.
        verdicts: The verdicts of all calls that were looked at.
        text: What stands in the output's place; None where the output stays.
        withheld: Whether nothing answers: ``text`` is then the policy's message.
    """

    verdict: Verdict
    verdicts: Sequence[Verdict]
    text: str | None = field(default=None, repr=False)
    withheld: bool = False

    def with_turns_left_out(self, count: int) -> "Outcome":
        """The same, where turns were left out before a guard was asked."""
        if not count:
            return self

        def told(verdict: Verdict) -> Verdict:
            known = verdict.plain.get("turns_left_out") or 0
            return replace(verdict, plain={**verdict.plain, "turns_left_out": known + count})

        return replace(self, verdict=told(self.verdict), verdicts=[told(one) for one in self.verdicts])


def combined(verdicts: Sequence[Verdict], how: Literal["last", "worst"]) -> Outcome:
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
        return Outcome(decisive, verdicts)
    if decisive.answer is None:
        return _acted_already(decisive, verdicts)
    reply = decisive.answer.escalation.reply if decisive.answer.escalation else None
    if not isinstance(reply, Answered):
        return Outcome(decisive, verdicts, decisive.answer.text, withheld=True)
    if decisive is last:
        return Outcome(decisive, verdicts, decisive.answer.text)
    # It is an answer to a step on the way, and not to what the chain was asked.
    return Outcome(decisive, verdicts, DEFAULT_MESSAGES["abstain"], withheld=True)


def _acted_already(verdict: Verdict, verdicts: Sequence[Verdict]) -> Outcome:
    """Where the model has its own guard: what it let through in the draft's place went into the chain."""
    if verdict.plain["action"] == "escalate" and verdict.answered_by:
        return Outcome(verdict, verdicts)
    message = verdict.plain.get("message")
    words = message if isinstance(message, str) and message else DEFAULT_MESSAGES["abstain"]
    return Outcome(verdict, verdicts, words, withheld=True)
