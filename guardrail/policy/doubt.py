"""Evidence that is no evidence: what cannot be true of any answer must not decide on one."""

from collections.abc import Mapping, Sequence, Set
from math import isfinite
from numbers import Real
from typing import TYPE_CHECKING, Any

from guardrail.policy.ranges import SHARE, Range, range_of

if TYPE_CHECKING:
    from guardrail.policy.evidence import Evidence

__all__ = ["doubt_of"]

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
