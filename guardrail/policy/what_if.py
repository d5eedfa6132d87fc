"""What a policy would do to answers that are known already: no model runs, and nobody is shown anything."""

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

__all__ = ["KnownAnswer", "LetThrough", "WhatIf", "known_answers", "what_if"]


@dataclass(frozen=True, slots=True)
class KnownAnswer:
    """An answer that was given before.

    Attributes:
        evidence: All that is known of it.
        correct: Whether it was right; None where nobody judged it.
    """

    evidence: Evidence
    correct: bool | None = None


@dataclass(frozen=True, slots=True)
class LetThrough:
    """The answers that some actions let through.

    Attributes:
        count: How many they are.
        coverage: Share of all answers, with its exact 95 % binomial interval.
        error: Share of wrong ones among those of them that were judged, likewise; ``n`` is how many were.
    """

    count: int
    coverage: "Figure"
    error: "Figure"


@dataclass(frozen=True, slots=True)
class WhatIf:
    """What a policy would do.

    It is an estimate of traffic only where nothing was fitted or certified on the answers, and where traffic
    is like them.

    Attributes:
        decisions: One an answer, in their order.
        actions: How many answers each action gets, all four of them.
        rules: How many answers each rule decides, in the policy's order, those that decide none among them;
            then ``on_uncalibrated``, ``on_outside_domain`` and ``on_error``, where these decide.
        passed: The answers that are shown without a word.
        shown: Those that are passed or flagged.
    """

    decisions: tuple[Decision, ...]
    actions: Mapping[Action, int]
    rules: Mapping[str, int]
    passed: LetThrough
    shown: LetThrough


def what_if(policy: "Policy", answers: Sequence[KnownAnswer]) -> WhatIf:
    """Let a policy decide answers that are known.

    A policy that only observes is taken by what it would do if it were enforced.
    """
    decisions = tuple(decide(policy, answer.evidence) for answer in answers)
    taken = Counter(decision.action for decision in decisions)
    by_rule = Counter(decision.rule for decision in decisions)
    return WhatIf(
        decisions=decisions,
        actions={action: taken[action] for action in get_args(Action)},
        rules={rule.id: by_rule.pop(rule.id, 0) for rule in policy.rules}
        | dict(sorted(by_rule.items())[::-1]),
        passed=_let_through(answers, decisions, ("pass",)),
        shown=_let_through(answers, decisions, ("pass", "flag")),
    )


def known_answers(profile: "Profile", held_out: Iterable["HeldOutAnswer"]) -> tuple[KnownAnswer, ...]:
    """Held-out answers of a profile, as a policy sees answers like them in traffic."""
    return tuple(_known(profile, answer) for answer in held_out)


def _known(profile: "Profile", answer: "HeldOutAnswer") -> KnownAnswer:
    if not answer.response.strip():
        return KnownAnswer(Evidence(error="the answer shows nothing"), answer.correct)
    assessment = profile.assess_score(answer.confidence_score, answer.scores)
    evidence = Evidence(
        confidence=assessment.confidence,
        scores=answer.scores,
        quantiles=assessment.quantiles,
        guarantees=frozenset(assessment.guarantees),
        finish_reason=answer.finish_reason,
    )
    return KnownAnswer(evidence, answer.correct)


def _let_through(
    answers: Sequence[KnownAnswer], decisions: Sequence[Decision], actions: tuple[Action, ...]
) -> LetThrough:
    # Not at the top: policies are checked without numpy and scipy.
    from guardrail.metrics.intervals import share

    let = [decision.action in actions for decision in decisions]
    wrong = [
        not answer.correct
        for answer, passed in zip(answers, let, strict=True)
        if passed and answer.correct is not None
    ]
    return LetThrough(
        count=sum(let),
        coverage=share(let),
        error=share(wrong, none="none of the answers that are let through was judged"),
    )
