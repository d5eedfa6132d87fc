"""Evidence and decision as plain values; evidence that no real answer can have is rejected."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from math import isfinite
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal

from guardrail.policy.conditions import SHARE, Range, range_of

if TYPE_CHECKING:
    from guardrail.calibration.profile import Guarantee

__all__ = ["Action", "Decision", "Evidence", "doubt_of"]


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


# A sum of many small terms may end a little outside of what it is bound by.
_ROUNDING = 1e-6


def doubt_of(evidence: "Evidence") -> str:
    """Why nothing can be decided on this; empty where it can."""
    if evidence.error or not isinstance(evidence.error, str):
        return str(evidence.error) or "the error is no text"
    if evidence.confidence is not None and not _is_within(evidence.confidence, SHARE, 0):
        return f"the confidence is {_shown(evidence.confidence)}, and no number from 0 to 1"
    return (
        _doubt_of_scores(evidence.scores)
        or _doubt_of_quantiles(evidence.quantiles)
        or _doubt_of_facts(evidence)
        or _doubt_of_nothing(evidence)
    )


def _doubt_of_scores(scores: Mapping[str, Any]) -> str:
    if not isinstance(scores, Mapping):
        return "the scores are no map of names to numbers"
    for name, value in scores.items():
        if not isinstance(name, str) or not _is_within(value, range_of(name), _ROUNDING):
            return f"{_shown(name)} is {_shown(value)}, which no answer has"
    return "the answer is empty" if scores.get("tokens") == 0 else ""


def _doubt_of_quantiles(quantiles: Mapping[str, Any]) -> str:
    if not isinstance(quantiles, Mapping):
        return "the quantiles are no map of names to numbers"
    for name, value in quantiles.items():
        if not isinstance(name, str) or not _is_within(value, SHARE, 0):
            return f"the quantile of {_shown(name)} is {_shown(value)}, and no number from 0 to 1"
    return ""


def _doubt_of_facts(evidence: "Evidence") -> str:
    guarantees: Any = evidence.guarantees
    if guarantees is not None and not (
        isinstance(guarantees, Set)
        and all(
            isinstance(one, tuple) and len(one) == 2 and all(_is_within(part, SHARE, 0) for part in one)
            for one in guarantees
        )
    ):
        return "the guarantees are no set of pairs of shares"
    if evidence.finish_reason is not None and not isinstance(evidence.finish_reason, str):
        return f"the finish reason is {_shown(evidence.finish_reason)}"
    if not isinstance(evidence.repeats, str):
        return "what the answer repeats is no text"
    for what, names in (("tags", evidence.tags), ("tool calls", evidence.tool_calls)):
        is_list = isinstance(names, Sequence | Set) and not isinstance(names, str | bytes)
        if not is_list or not all(isinstance(name, str) for name in names):
            return f"the {what} are no list of names"
    if not isinstance(evidence.outside_domain, str):
        return f"why it is outside of the domain is {_shown(evidence.outside_domain)}, and no text"
    calls: Any = evidence.call_confidences
    if not isinstance(calls, Sequence) or not all(map(_is_call, calls)):
        return "the confidences of calls are no pairs of a name and a share"
    return ""


def _is_call(value: Any) -> bool:
    is_pair = isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str)
    return is_pair and (value[1] is None or _is_within(value[1], SHARE, 0))


def _doubt_of_nothing(evidence: "Evidence") -> str:
    if evidence.confidence is None and not evidence.scores and not evidence.quantiles:
        return "the answer was not scored"
    return ""


def _is_within(value: Any, within: Range, slack: float) -> bool:
    # A bool is a number to Python, and never a score.
    is_number = isinstance(value, float) or (isinstance(value, Real) and not isinstance(value, bool))
    if not is_number:
        return False
    number = float(value)
    return isfinite(number) and within.low - slack <= number <= within.high + slack


def _shown(value: Any) -> str:
    return repr(value)[:60]
