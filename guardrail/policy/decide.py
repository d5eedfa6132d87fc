"""The decision on one answer: the first rule that does not fail, and never a guess.

A rule that hangs on something unknown is not skipped: it might have withheld the answer. ``on_uncalibrated``
decides there, and ``on_outside_domain`` where the profile does not hold for the answer. What cannot be
believed at all goes to ``on_error``.
"""

from typing import Literal, NamedTuple

from guardrail.policy.doubt import doubt_of
from guardrail.policy.evaluation import Verdict, evaluate
from guardrail.policy.evidence import Decision, Evidence
from guardrail.policy.messages import names_ticket, render_message, rendered_but_for_ticket
from guardrail.policy.model import OnError, OnOutsideDomain, OnUncalibrated, Policy, Rule

__all__ = ["OWN_MESSAGE", "Explanation", "decide", "explain"]

# What decides on an answer that is a message of the policy itself.
OWN_MESSAGE = "own_message"

# By how much an action takes away of an answer.
_STRICTNESS = {"pass": 0, "flag": 1, "escalate": 2, "abstain": 3}
_ALWAYS = Verdict(True, "no rule above holds")


class Explanation(NamedTuple):
    """What one rule says of an answer.

    Attributes:
        rule: Its id; ``on_error`` where nothing can be decided.
        outcome: Whether it holds.
        why: In words.
    """

    rule: str
    outcome: Literal["true", "false", "unknown"]
    why: str


def decide(policy: Policy, evidence: Evidence) -> Decision:
    """Decide on one answer. Raises nothing, and never passes what could not be scored or decided."""
    try:
        doubt = doubt_of(evidence)
        if doubt:
            return _failed(policy, doubt)
        if evidence.repeats:
            return _repeating(policy, evidence)
        return _decided(policy, evidence.within_domain())
    except Exception as error:  # noqa: BLE001  (whatever the evidence is: an answer without a decision is shown to nobody)
        return _failed(policy, f"the evidence cannot be read ({type(error).__name__})")


def explain(policy: Policy, evidence: Evidence) -> list[Explanation]:
    """Say of every rule whether it holds for an answer, and why."""
    try:
        doubt = doubt_of(evidence)
        if doubt:
            return [Explanation("on_error", "true", doubt)]
        if evidence.repeats:
            return [Explanation(OWN_MESSAGE, "true", _repetition(evidence))]
        known = evidence.within_domain()
        return [_explained(rule, _verdict(rule, known)) for rule in policy.rules]
    except Exception as error:  # noqa: BLE001  (as above)
        return [Explanation("on_error", "true", f"the evidence cannot be read ({type(error).__name__})")]


def _decided(policy: Policy, evidence: Evidence) -> Decision:
    for rule in policy.rules:
        verdict = _verdict(rule, evidence)
        if verdict.holds is None:
            return _undecided(policy, rule, verdict, evidence)
        if verdict.holds:
            return _decision(policy, rule, rule.id, verdict.why, evidence)
    return _failed(policy, "no rule holds")


def _undecided(policy: Policy, rule: Rule, verdict: Verdict, evidence: Evidence) -> Decision:
    reason = f"rule {rule.id} cannot be decided: {verdict.why}"
    uncalibrated, outside = policy.on_uncalibrated, policy.on_outside_domain
    if not evidence.outside_domain:
        return _decision(policy, uncalibrated, "on_uncalibrated", reason, evidence)
    reason = f"{reason} ({evidence.outside_domain})"
    # Without a profile the model's own answers are undecided too: nobody else's have it easier.
    if evidence.is_uncalibrated and _STRICTNESS[uncalibrated.action] > _STRICTNESS[outside.action]:
        return _decision(policy, uncalibrated, "on_uncalibrated", reason, evidence)
    return _decision(policy, outside, "on_outside_domain", reason, evidence)


def _repeating(policy: Policy, evidence: Evidence) -> Decision:
    """The model says what a policy says where nothing answers; so nothing does."""
    reason, default = _repetition(evidence), policy.rules[-1]
    if default.action in ("abstain", "escalate"):
        # Its numbers are those of a sentence that was read a moment ago.
        return _decision(policy, default, OWN_MESSAGE, reason, None)
    return Decision("abstain", OWN_MESSAGE, reason, enforced=policy.mode == "enforce")


def _repetition(evidence: Evidence) -> str:
    return f"the answer repeats a message of the policy ({evidence.repeats!r}), and answers nothing"


def _failed(policy: Policy, reason: str) -> Decision:
    # Without the evidence: what made it unbelievable must not be shown as if it were a number.
    return _decision(policy, policy.on_error, "on_error", reason, None)


def _verdict(rule: Rule, evidence: Evidence) -> Verdict:
    return _ALWAYS if rule.when is None else evaluate(rule.when, evidence)


def _decision(
    policy: Policy,
    outcome: Rule | OnError | OnUncalibrated | OnOutsideDomain,
    rule: str,
    reason: str,
    evidence: Evidence | None,
) -> Decision:
    message, values = outcome.message, _values(rule, evidence)
    return Decision(
        action=outcome.action,
        rule=rule,
        reason=reason,
        message=None if message is None else render_message(message, values),
        to=outcome.to,
        enforced=policy.mode == "enforce",
        awaiting_ticket=rendered_but_for_ticket(message, values)
        if message is not None and names_ticket(message)
        else None,
    )


def _values(rule: str, evidence: Evidence | None) -> dict[str, float | str | None]:
    if evidence is None:
        return {"rule": rule}
    numbers = {
        **evidence.scores,
        **{f"quantile_{name}": value for name, value in evidence.quantiles.items()},
    }
    return {
        **{name: float(value) for name, value in numbers.items()},
        "confidence": None if evidence.confidence is None else float(evidence.confidence),
        "rule": rule,
        "finish_reason": evidence.finish_reason,
    }


def _explained(rule: Rule, verdict: Verdict) -> Explanation:
    outcome: Literal["true", "false", "unknown"] = "unknown"
    if verdict.holds is not None:
        outcome = "true" if verdict.holds else "false"
    return Explanation(rule.id, outcome, verdict.why)
