"""Whether conditions hold for an answer: true, false, or unknown (Kleene's strong three-valued logic)."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from math import isclose
from typing import NamedTuple

from guardrail.policy.boxes import patterns_of
from guardrail.policy.conditions import Bounds, Certified, When
from guardrail.policy.evidence import Evidence

__all__ = ["Verdict", "evaluate"]

_TEXTS: Mapping[str, tuple[str, Callable[[float, float], bool]]] = {
    "gte": ("at least", lambda value, bound: value >= bound),
    "gt": ("more than", lambda value, bound: value > bound),
    "lte": ("at most", lambda value, bound: value <= bound),
    "lt": ("less than", lambda value, bound: value < bound),
}


class Verdict(NamedTuple):
    """What became of conditions.

    Attributes:
        holds: True, False, or None where that hangs on something unknown.
        why: In words.
    """

    holds: bool | None
    why: str


class _Confidence(NamedTuple):
    """The confidence that a rule goes by.

    Attributes:
        name: Whose it is, in words.
        value: The confidence; None where it is unknown.
        is_bound: Whether it may also be less.
    """

    name: str
    value: float | None
    is_bound: bool


def evaluate(when: When, evidence: Evidence) -> Verdict:
    """Say whether all conditions hold. The evidence has been checked by ``doubt_of``.

    Where they name tools, the confidence that they ask for is the least of the answer's and of those of the
    calls that fit one of the names, wherever in the conditions these stand.
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


def _evaluated(when: When, evidence: Evidence, confidence: _Confidence) -> Verdict:
    parts: list[Verdict] = []
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
        # In words the contrary is the same: what holds there is what keeps this from holding.
        parts.append(Verdict(None if inner.holds is None else not inner.holds, inner.why))
    return _all(parts)


def _number(name: str, value: float | None, bounds: Bounds) -> Iterable[Verdict]:
    if value is None:
        yield Verdict(None, f"{name} is unknown")
        return
    for key in _bounds(bounds):
        words, holds = _TEXTS[key]
        bound = getattr(bounds, key)
        held = holds(float(value), bound)
        yield Verdict(held, f"{name} {float(value):.4g} is {'' if held else 'not '}{words} {bound:g}")


def _bounds(bounds: Bounds) -> list[str]:
    return [key for key in _TEXTS if getattr(bounds, key) is not None]


def _at_most(verdict: Verdict, bound: str) -> Verdict:
    """What is left of a verdict on a number that may also be less."""
    stays = verdict.holds is (bound in ("lt", "lte"))
    return verdict if stays else Verdict(None, "the confidence of a call is unknown")


def _certified(wanted: Certified, evidence: Evidence) -> Verdict:
    said = f"at most {wanted.max_error:.3g} wrong with confidence {wanted.confidence:.3g}"
    if evidence.guarantees is None:
        return Verdict(None, f"whether it is certified ({said}) is unknown")
    held = any(
        isclose(one[0], wanted.max_error) and isclose(one[1], wanted.confidence)
        for one in evidence.guarantees
    )
    return Verdict(held, f"it is {'' if held else 'not '}certified: {said}")


def _finish_reason(wanted: Sequence[str], reason: str | None) -> Verdict:
    if reason is None:
        return Verdict(None, "why the answer ended is unknown")
    held = reason in wanted
    return Verdict(held, f"the answer ended by {reason[:40]}{'' if held else f', not {_or(wanted)}'}")


def _named(has: str, what: str, names: Iterable[str], patterns: Sequence[str]) -> Verdict:
    fitting = sorted({name for name in names for pattern in patterns if fnmatchcase(name, pattern)})
    if fitting:
        return Verdict(True, f"{has} the {what} {', '.join(fitting)[:80]}")
    return Verdict(False, f"{has} no {what}" + ("" if "*" in patterns else f" that fits {_or(patterns)}"))


def _called(names: Sequence[str], patterns: Sequence[str]) -> Verdict:
    called = _named("the answer calls", "tool", names, patterns)
    if called.holds and not any(name and fnmatchcase(name, one) for name in names for one in patterns):
        return Verdict(True, "the answer calls a tool, and which is unknown")
    # A call without a name may be of any tool, so also of one that a rule is there to stop.
    return (
        Verdict(None, "which tool the answer calls is unknown")
        if not called.holds and "" in names
        else called
    )


def _all(parts: Sequence[Verdict]) -> Verdict:
    for decisive in (False, None):
        if some := [part for part in parts if part.holds is decisive]:
            return Verdict(decisive, _joined(some))
    return Verdict(True, _joined(parts))


def _any(parts: Sequence[Verdict]) -> Verdict:
    for decisive in (True, None):
        if some := [part for part in parts if part.holds is decisive]:
            return Verdict(decisive, _joined(some))
    return Verdict(False, _joined(parts))


def _joined(parts: Iterable[Verdict]) -> str:
    return " and ".join(dict.fromkeys(part.why for part in parts))


def _or(names: Iterable[str]) -> str:
    return " or ".join(names)[:80]
