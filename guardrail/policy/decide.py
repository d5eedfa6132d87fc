"""The decision on an answer: the first rule that does not fail, in Kleene's three-valued logic."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from math import isclose
from typing import Literal, NamedTuple

from guardrail.policy.answer_boxes import patterns_of
from guardrail.policy.conditions import Bounds, Certified, When
from guardrail.policy.evidence import Decision, Evidence, doubt_of
from guardrail.policy.messages import names_ticket, render_message, rendered_but_for_ticket
from guardrail.policy.model import OnError, OnOutsideDomain, OnUncalibrated, Policy, Rule

__all__ = ["OWN_MESSAGE", "Explanation", "Truth", "decide", "evaluate", "explain"]


_TEXTS: Mapping[str, tuple[str, Callable[[float, float], bool]]] = {
    "gte": ("at least", lambda value, bound: value >= bound),
    "gt": ("more than", lambda value, bound: value > bound),
    "lte": ("at most", lambda value, bound: value <= bound),
    "lt": ("less than", lambda value, bound: value < bound),
}


class Truth(NamedTuple):
    """The truth value of conditions.

    Attributes:
        holds: True, False, or None if it depends on something unknown.
        why: The reason in words.
    """

    holds: bool | None
    why: str


class _Confidence(NamedTuple):
    """The confidence that a rule uses.

    Attributes:
        name: What it is the confidence of, in words.
        value: The confidence; None if unknown.
        is_bound: Whether the true value may also be lower.
    """

    name: str
    value: float | None
    is_bound: bool


def evaluate(when: When, evidence: Evidence) -> Truth:
    """Evaluate conditions on evidence that ``doubt_of`` has accepted.

    If they name tools anywhere, their confidence is the lowest among that of the answer and those of the
    matching calls.
    """
    return _evaluated(when, evidence, _confidence(when, evidence))


def _confidence(when: When, evidence: Evidence) -> _Confidence:
    patterns = patterns_of([when])["tool_call"]
    fitting = [
        confidence
        for name, confidence in evidence.call_confidences
        if any(fnmatchcase(name, pattern) for pattern in patterns)
    ]
    known = [one for one in (evidence.confidence, *fitting) if one is not None]
    least = min(known, default=None)
    name = "confidence" if least == evidence.confidence else "confidence of the call"
    return _Confidence(name, least, is_bound=None in (evidence.confidence, *fitting))


def _evaluated(when: When, evidence: Evidence, confidence: _Confidence) -> Truth:
    parts: list[Truth] = []
    if when.confidence is not None:
        held = _number(confidence.name, confidence.value, when.confidence)
        is_bound = confidence.is_bound and confidence.value is not None
        parts += map(_at_most, held, _bounds(when.confidence)) if is_bound else held
    for name, bounds in (when.uncertainty or {}).items():
        parts += _number(name, evidence.scores.get(name), bounds)
    for name, share in (when.quantile or {}).items():
        parts += _number(f"quantile of {name}", evidence.quantiles.get(name), share)
    if when.certified is not None:
        parts.append(_certified(when.certified, evidence))
    if when.finish_reason is not None:
        parts.append(_finish_reason(when.finish_reason, evidence.finish_reason))
    if when.familiar is not None:
        parts.append(_familiar(when.familiar, evidence.familiar))
    if when.tags is not None:
        parts.append(_named("the request has", "tag", evidence.tags, when.tags))
    if when.tool_call is not None:
        parts.append(_called(evidence.tool_calls, when.tool_call))
    if when.all_ is not None:
        parts.append(_all([_evaluated(one, evidence, confidence) for one in when.all_]))
    if when.any_ is not None:
        parts.append(_any([_evaluated(one, evidence, confidence) for one in when.any_]))
    if when.not_ is not None:
        inner = _evaluated(when.not_, evidence, confidence)
        # The explanation stays: what makes the inner condition hold is what makes the negation fail.
        parts.append(Truth(None if inner.holds is None else not inner.holds, inner.why))
    return _all(parts)


def _number(name: str, value: float | None, bounds: Bounds) -> Iterable[Truth]:
    if value is None:
        yield Truth(None, f"{name} is unknown")
        return
    for key in _bounds(bounds):
        words, holds = _TEXTS[key]
        bound = getattr(bounds, key)
        held = holds(float(value), bound)
        yield Truth(held, f"{name} {float(value):.4g} is {'' if held else 'not '}{words} {bound:g}")


def _bounds(bounds: Bounds) -> list[str]:
    return [key for key in _TEXTS if getattr(bounds, key) is not None]


def _at_most(verdict: Truth, bound: str) -> Truth:
    """The truth of a bound if the number may also be lower."""
    stays = verdict.holds is (bound in ("lt", "lte"))
    return verdict if stays else Truth(None, "the confidence of a call is unknown")


def _certified(wanted: Certified, evidence: Evidence) -> Truth:
    said = f"at most {100 * wanted.max_error:.3g} % wrong, with {100 * wanted.confidence:.3g} % confidence"
    if evidence.guarantees is None:
        return Truth(None, f"whether the guarantee is met is unknown ({said})")
    if evidence.uncertified:
        return Truth(False, f"{_NOTHING_CERTIFIED}{evidence.uncertified} (would promise {said})")
    held = any(
        isclose(one[0], wanted.max_error) and isclose(one[1], wanted.confidence)
        for one in evidence.guarantees
    )
    return Truth(held, f"guarantee met ({said})" if held else f"guarantee not met (would promise {said})")


def _familiar(wanted: Sequence[str], familiar: str | None) -> Truth:
    if familiar is None:
        return Truth(None, "whether the questions are like those of the profile is unknown")
    held = familiar in wanted
    said = f"the questions so far are {_FAMILIAR[familiar]}"
    return Truth(held, said if held else f"{said}, not {_or(wanted)}")


_FAMILIAR = {
    "untried": "too few to compare with those of the profile",
    "familiar": "like those of the profile",
    "unlike": "unlike those of the profile",
}


def _finish_reason(wanted: Sequence[str], reason: str | None) -> Truth:
    if reason is None:
        return Truth(None, "why the answer ended is unknown")
    held = reason in wanted
    return Truth(held, f"the answer ended by {reason[:40]}{'' if held else f', not {_or(wanted)}'}")


def _named(has: str, what: str, names: Iterable[str], patterns: Sequence[str]) -> Truth:
    given = [*names]
    fitting = [one for one in dict.fromkeys(patterns) if any(fnmatchcase(name, one) for name in given)]
    if fitting:
        # In the policy's words: a name was written by a model or a client, and may be any text.
        is_exact = not any(set("*?[") & set(one) for one in fitting)
        return Truth(True, f"{has} {f'the {what}' if is_exact else f'a {what} that matches'} {_or(fitting)}")
    return Truth(False, f"{has} no {what}" + ("" if "*" in patterns else f" that matches {_or(patterns)}"))


def _called(names: Sequence[str], patterns: Sequence[str]) -> Truth:
    called = _named("the answer calls", "tool", names, patterns)
    if called.holds and not any(name and fnmatchcase(name, one) for name in names for one in patterns):
        return Truth(True, "the answer calls an unknown tool")
    # A call without a name could be of any tool, including one that a rule is meant to stop.
    return (
        Truth(None, "which tool the answer calls is unknown") if not called.holds and "" in names else called
    )


def _all(parts: Sequence[Truth]) -> Truth:
    for decisive in (False, None):
        if some := [part for part in parts if part.holds is decisive]:
            return Truth(decisive, _joined(some))
    return Truth(True, _joined(parts))


def _any(parts: Sequence[Truth]) -> Truth:
    for decisive in (True, None):
        if some := [part for part in parts if part.holds is decisive]:
            return Truth(decisive, _joined(some))
    return Truth(False, _joined(parts))


def _joined(parts: Iterable[Truth]) -> str:
    return " and ".join(dict.fromkeys(part.why for part in parts))


def _or(names: Iterable[str]) -> str:
    return " or ".join(names)[:80]


# The rule that decides on an answer which is itself a message of the policy.
OWN_MESSAGE = "own_message"

# How much of an answer an action withholds.
_STRICTNESS = {"pass": 0, "flag": 1, "escalate": 2, "abstain": 3}
_ALWAYS = Truth(True, "no earlier rule applies")
_NOTHING_CERTIFIED = "nothing is certified: "


class Explanation(NamedTuple):
    """What a rule says about an answer.

    Attributes:
        rule: The rule's id; ``on_error`` if nothing can be decided.
        outcome: Whether the rule holds.
        why: The reason in words.
    """

    rule: str
    outcome: Literal["true", "false", "unknown"]
    why: str


def decide(policy: Policy, evidence: Evidence) -> Decision:
    """Decide on an answer. Never raises, and never passes what could not be scored or decided."""
    try:
        doubt = doubt_of(evidence)
        if doubt:
            return _failed(policy, doubt)
        if evidence.repeats:
            return _repeating(policy, evidence)
        return _decided(policy, evidence.within_domain())
    except Exception as error:  # noqa: BLE001  (evidence may be anything; an undecided answer is never shown)
        return _failed(policy, f"the evidence cannot be read ({type(error).__name__})")


def explain(policy: Policy, evidence: Evidence) -> list[Explanation]:
    """Say for every rule whether it holds for an answer, and why."""
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
    uncertified = ""
    for rule in policy.rules:
        verdict = _verdict(rule, evidence)
        if verdict.holds is None:
            return _undecided(policy, rule, verdict, evidence)
        if verdict.holds:
            why = f"{verdict.why}{uncertified}" if rule.when is None else verdict.why
            return _decision(policy, rule, rule.id, why, evidence)
        if evidence.uncertified and verdict.why.startswith(_NOTHING_CERTIFIED):
            uncertified = f"; {_NOTHING_CERTIFIED}{evidence.uncertified}"
    return _failed(policy, "no rule holds")


def _undecided(policy: Policy, rule: Rule, verdict: Truth, evidence: Evidence) -> Decision:
    reason = f"rule {rule.id} cannot be decided: {verdict.why}"
    uncalibrated, outside = policy.on_uncalibrated, policy.on_outside_domain
    if not evidence.outside_domain:
        return _decision(policy, uncalibrated, "on_uncalibrated", reason, evidence)
    reason = f"{reason} ({evidence.outside_domain})"
    # Without a profile the model's own answers are undecided too; another model's must not fare better.
    if evidence.is_uncalibrated and _STRICTNESS[uncalibrated.action] > _STRICTNESS[outside.action]:
        return _decision(policy, uncalibrated, "on_uncalibrated", reason, evidence)
    return _decision(policy, outside, "on_outside_domain", reason, evidence)


def _repeating(policy: Policy, evidence: Evidence) -> Decision:
    """Abstain: the model repeats what the policy says when it gives no answer."""
    reason, default = _repetition(evidence), policy.rules[-1]
    if default.action in ("abstain", "escalate"):
        # Without the evidence: its numbers would describe the repeated sentence.
        return _decision(policy, default, OWN_MESSAGE, reason, None)
    return Decision("abstain", OWN_MESSAGE, reason, enforced=policy.mode == "enforce")


def _repetition(evidence: Evidence) -> str:
    return f"the answer only repeats a message of the policy ({evidence.repeats!r})"


def _failed(policy: Policy, reason: str) -> Decision:
    # Without the evidence: an implausible number must not appear in the message.
    return _decision(policy, policy.on_error, "on_error", reason, None)


def _verdict(rule: Rule, evidence: Evidence) -> Truth:
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


def _explained(rule: Rule, verdict: Truth) -> Explanation:
    outcome: Literal["true", "false", "unknown"] = "unknown"
    if verdict.holds is not None:
        outcome = "true" if verdict.holds else "false"
    return Explanation(rule.id, outcome, verdict.why)
