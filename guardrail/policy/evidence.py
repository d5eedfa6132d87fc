"""Evidence about an answer and the decision on it; impossible evidence is rejected."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from math import isfinite
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal, get_args

from guardrail.policy.conditions import SHARE, Familiar, Range, range_of

if TYPE_CHECKING:
    from guardrail.calibration.profile import Guarantee

__all__ = ["Action", "Decision", "Evidence", "doubt_of"]


Action = Literal["pass", "flag", "abstain", "escalate"]


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything known about an answer.

    Attributes:
        confidence: Probability of being correct, 0 to 1; None without a profile that gives one.
        scores: Uncertainty scores by name, as returned by ``Uncertainty.scores()``.
        quantiles: Share of the profile's reference answers below each score, 0 to 1, by score.
        guarantees: Guarantees that accept the answer; None without a profile that can tell.
        finish_reason: Why the answer ended: ``stop``, ``length``, ``reasoning_length`` (during its reasoning,
            so there is no answer), or None if unknown.
        tags: Tags of the request, given by the caller.
        tool_calls: Names of the tools that the answer calls.
        call_confidences: Name and probability of being correct for each call that was assessed by itself;
            None if unknown. The answer's confidence applies to all other calls.
        repeats: The message of the policy that the answer repeats, as written there; empty if none. Such an
            answer is an abstention, whatever else is known about it.
        error: Why the answer could not be scored or assessed; empty if it could. Nothing else counts then.
        outside_domain: Why the profile does not hold for this answer (another model gave it); empty if it
            does. Confidence, quantiles and guarantees are then treated as unknown, and ``on_outside_domain``
            decides where a rule depends on them.
        familiar: Whether the questions of the deployment so far are like those of the profile: ``untried``,
            ``familiar`` or ``unlike``; None without a profile that can tell.
        uncertified: Why no guarantee holds for this answer whatever its confidence, such as a general
            profile; empty if they do. ``guarantees`` is then empty.
        is_uncalibrated: Whether there is no profile at all. Outside the domain the stricter of
            ``on_uncalibrated`` and ``on_outside_domain`` then decides.
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
    familiar: Familiar | None = None
    uncertified: str = ""
    is_uncalibrated: bool = False

    def within_domain(self) -> "Evidence":
        """The evidence without what the profile says about answers that it does not hold for."""
        if not self.outside_domain:
            return self
        calls = tuple((name, None) for name, _ in self.call_confidences)
        return replace(
            self, confidence=None, quantiles={}, guarantees=None, call_confidences=calls, uncertified=""
        )


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do with an answer, and why.

    Attributes:
        action: The action.
        rule: Id of the rule that decided; ``on_error``, ``on_uncalibrated`` or ``on_outside_domain`` if one
            of these did; ``own_message`` if the answer repeats a message of the policy.
        reason: The reason in words.
        message: The rendered message to show with the answer (flag) or instead of it (abstain, or while a
            person decides), before there is a ticket; None if the policy has none.
        awaiting_ticket: The message with only ``{ticket}`` left to fill in; None if it has no such
            placeholder.
        to: Name of the escalation target, if the action is ``escalate``.
        enforced: False if the policy only observes: the answer is then shown whatever the action.
    """

    action: Action
    rule: str
    reason: str
    message: str | None = None
    to: str | None = None
    enforced: bool = True
    awaiting_ticket: str | None = None


# A sum of many small terms may slightly exceed its bounds.
_ROUNDING = 1e-6


def doubt_of(evidence: Evidence) -> str:
    """Why this evidence cannot be used; empty if it can."""
    if evidence.error or not isinstance(evidence.error, str):
        return str(evidence.error) or "the error is not text"
    if evidence.confidence is not None and not _is_within(evidence.confidence, SHARE, 0):
        return f"the confidence is {_shown(evidence.confidence)}, which is not a number from 0 to 1"
    return (
        _doubt_of_scores(evidence.scores)
        or _doubt_of_quantiles(evidence.quantiles)
        or _doubt_of_facts(evidence)
        or _doubt_of_nothing(evidence)
    )


def _doubt_of_scores(scores: Mapping[str, Any]) -> str:
    if not isinstance(scores, Mapping):
        return "the scores are not a map of names to numbers"
    for name, value in scores.items():
        if not isinstance(name, str) or not _is_within(value, range_of(name), _ROUNDING):
            return f"{_shown(name)} is {_shown(value)}, which is impossible"
    return "the answer is empty" if scores.get("tokens") == 0 else ""


def _doubt_of_quantiles(quantiles: Mapping[str, Any]) -> str:
    if not isinstance(quantiles, Mapping):
        return "the quantiles are not a map of names to numbers"
    for name, value in quantiles.items():
        if not isinstance(name, str) or not _is_within(value, SHARE, 0):
            return f"the quantile of {_shown(name)} is {_shown(value)}, which is not a number from 0 to 1"
    return ""


def _doubt_of_facts(evidence: Evidence) -> str:
    guarantees: Any = evidence.guarantees
    if guarantees is not None and not (
        isinstance(guarantees, Set)
        and all(
            isinstance(one, tuple) and len(one) == 2 and all(_is_within(part, SHARE, 0) for part in one)
            for one in guarantees
        )
    ):
        return "the guarantees are not a set of pairs of shares"
    if evidence.finish_reason is not None and not isinstance(evidence.finish_reason, str):
        return f"the finish reason is {_shown(evidence.finish_reason)}"
    if not isinstance(evidence.repeats, str):
        return "what the answer repeats is not text"
    for what, names in (("tags", evidence.tags), ("tool calls", evidence.tool_calls)):
        is_list = isinstance(names, Sequence | Set) and not isinstance(names, str | bytes)
        if not is_list or not all(isinstance(name, str) for name in names):
            return f"the {what} are not a list of names"
    if not isinstance(evidence.outside_domain, str):
        return (
            f"the reason for being outside the domain is {_shown(evidence.outside_domain)}, which is not text"
        )
    if not isinstance(evidence.uncertified, str):
        return f"the reason for no guarantee is {_shown(evidence.uncertified)}, which is not text"
    if evidence.familiar is not None and evidence.familiar not in get_args(Familiar):
        return f"whether the traffic is familiar is {_shown(evidence.familiar)}"
    calls: Any = evidence.call_confidences
    if not isinstance(calls, Sequence) or not all(map(_is_call, calls)):
        return "the confidences of calls are not pairs of a name and a share"
    return ""


def _is_call(value: Any) -> bool:
    is_pair = isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str)
    return is_pair and (value[1] is None or _is_within(value[1], SHARE, 0))


def _doubt_of_nothing(evidence: Evidence) -> str:
    if evidence.confidence is None and not evidence.scores and not evidence.quantiles:
        return "the answer was not scored"
    return ""


def _is_within(value: Any, within: Range, slack: float) -> bool:
    # In Python a bool is a number, but it is never a score.
    is_number = isinstance(value, float) or (isinstance(value, Real) and not isinstance(value, bool))
    if not is_number:
        return False
    number = float(value)
    return isfinite(number) and within.low - slack <= number <= within.high + slack


def _shown(value: Any) -> str:
    return repr(value)[:60]
