"""The effect of a policy on known answers, without running a model."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from guardrail.policy.decide import decide
from guardrail.policy.evidence import Action, Decision, Evidence

if TYPE_CHECKING:
    from guardrail.calibration.held_out import HeldOutAnswer
    from guardrail.calibration.profile import Profile
    from guardrail.metrics.figure import Figure
    from guardrail.policy.model import Policy

__all__ = ["Accepted", "KnownAnswer", "WhatIf", "known_answers", "what_if"]


@dataclass(frozen=True, slots=True)
class KnownAnswer:
    """An answer given earlier.

    Attributes:
        evidence: Everything known about it.
        correct: Whether it was right; None if it was not judged.
    """

    evidence: Evidence
    correct: bool | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """The answers accepted by some actions.

    Attributes:
        count: How many.
        coverage: Their share of all answers, with its exact 95 % binomial interval.
        error: Share of wrong ones among those that were judged, with its interval and their number ``n``.
    """

    count: int
    coverage: "Figure"
    error: "Figure"


@dataclass(frozen=True, slots=True)
class WhatIf:
    """The effect of a policy on known answers.

    It estimates traffic only if nothing was fitted or certified on the answers and traffic is like them.

    Attributes:
        decisions: One per answer, in order.
        actions: Number of answers per action, all four included.
        rules: Number of answers per rule in the policy's order, zeros included; then ``on_uncalibrated``,
            ``on_outside_domain`` and ``on_error``, if they decided any.
        passed: The answers passed without a warning.
        shown: The answers passed or flagged.
    """

    decisions: tuple[Decision, ...]
    actions: Mapping[Action, int]
    rules: Mapping[str, int]
    passed: Accepted
    shown: Accepted


def what_if(policy: "Policy", answers: Sequence[KnownAnswer]) -> WhatIf:
    """Decide known answers by a policy.

    For a policy that only observes, the result is what it would do if enforced.
    """
    decisions = tuple(decide(policy, answer.evidence) for answer in answers)
    taken = Counter(decision.action for decision in decisions)
    by_rule = Counter(decision.rule for decision in decisions)
    return WhatIf(
        decisions=decisions,
        actions={action: taken[action] for action in get_args(Action)},
        rules={rule.id: by_rule.pop(rule.id, 0) for rule in policy.rules}
        | dict(sorted(by_rule.items())[::-1]),
        passed=_accepted(answers, decisions, ("pass",)),
        shown=_accepted(answers, decisions, ("pass", "flag")),
    )


def known_answers(profile: "Profile", held_out: Iterable["HeldOutAnswer"]) -> tuple[KnownAnswer, ...]:
    """A profile's held-out answers as a policy would see them in traffic."""
    return tuple(_known(profile, answer) for answer in held_out)


def _known(profile: "Profile", answer: "HeldOutAnswer") -> KnownAnswer:
    if not answer.response.strip():
        return KnownAnswer(Evidence(error="the answer has no text"), answer.correct)
    assessment = profile.assess_score(answer.confidence_score, answer.scores)
    evidence = Evidence(
        confidence=assessment.confidence,
        scores=answer.scores,
        quantiles=assessment.quantiles,
        guarantees=frozenset(assessment.guarantees),
        finish_reason=answer.finish_reason,
    )
    return KnownAnswer(evidence, answer.correct)


def _accepted(
    answers: Sequence[KnownAnswer], decisions: Sequence[Decision], actions: tuple[Action, ...]
) -> Accepted:
    # Imported late: checking a policy loads no NumPy.
    from guardrail.metrics.intervals import share

    accepted = [decision.action in actions for decision in decisions]
    wrong = [
        not answer.correct
        for answer, is_accepted in zip(answers, accepted, strict=True)
        if is_accepted and answer.correct is not None
    ]
    return Accepted(
        count=sum(accepted),
        coverage=share(accepted),
        error=share(wrong, none="none of the accepted answers was judged"),
    )
