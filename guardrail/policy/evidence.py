"""What a policy decides on, and what it decides: plain values, the same in a test and in traffic."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    # Not at run time: a policy is checked without building what a profile is made of.
    from guardrail.calibration.profile import Guarantee

__all__ = ["Action", "Decision", "Evidence"]

Action = Literal["pass", "flag", "abstain", "escalate"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known of one answer.

    Attributes:
        confidence: Probability of being correct, 0 to 1; None where no profile gives one.
        scores: Uncertainty scores by name, as ``Uncertainty.scores()`` gives them.
        quantiles: Share of the profile's reference below each score, 0 to 1, by the score's name.
        guarantees: Those that this answer is let through by; None where no profile can tell.
        finish_reason: Why the answer ended: ``stop``, ``length``, ``reasoning_length`` (in its reasoning:
            there is no answer), or None where it is not known.
        tags: What the caller says of the request.
        tool_calls: Names of the tools that the answer calls.
        call_confidences: Calls that were judged by themselves: the tool's name, and the probability that the
            call is correct, None where it is unknown. For tools that are not here the answer's stands.
        repeats: The message of the policy that the answer repeats, as it stands in the policy; empty where it
            repeats none. Such an answer is an abstention, whatever else is known of it.
        error: Why the answer could not be scored or judged, or empty. Nothing else counts then.
        outside_domain: Why the profile does not hold for this answer (somebody else gave it), in words; empty
            where it holds. Confidence, quantiles and guarantees are then unknown, whatever stands here of
            them, and ``on_outside_domain`` decides where a rule hangs on what is unknown.
        is_uncalibrated: Whether there is no profile at all. Outside of a domain, ``on_uncalibrated`` decides
            then too: the stricter of the two.
    """

    confidence: float | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    quantiles: Mapping[str, float] = field(default_factory=dict)
    guarantees: "frozenset[Guarantee] | None" = None
    finish_reason: str | None = None
    tags: frozenset[str] = frozenset()
    tool_calls: tuple[str, ...] = ()
    call_confidences: tuple[tuple[str, float | None], ...] = ()
    repeats: str = ""
    error: str = ""
    outside_domain: str = ""
    is_uncalibrated: bool = False

    def within_domain(self) -> "Evidence":
        """The same without what a profile says of answers that it does not hold for."""
        if not self.outside_domain:
            return self
        calls = tuple((name, None) for name, _ in self.call_confidences)
        return replace(self, confidence=None, quantiles={}, guarantees=None, call_confidences=calls)


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to be done with one answer, and why.

    Attributes:
        action: What the policy decided.
        rule: Id of the rule that decided; ``on_error``, ``on_uncalibrated`` or ``on_outside_domain`` where
            one of these did, and ``own_message`` where the answer repeats a message of the policy.
        reason: Why, in words for a person.
        message: What to show with the answer (flag) or in its place (abstain, or while a person decides),
            its placeholders filled in; None where the policy gives none. There is no ticket yet.
        awaiting_ticket: The message with ``{ticket}`` alone left to be filled in; None where it names none.
        to: Name of the escalation target, where the action is ``escalate``.
        enforced: False where the policy only observes: the answer is then shown whatever the action.
    """

    action: Action
    rule: str
    reason: str
    message: str | None = None
    to: str | None = None
    enforced: bool = True
    awaiting_ticket: str | None = None
