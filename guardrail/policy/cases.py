"""Cases for a policy, like unit tests: what is given of an answer, and what is to be decided.

    cases:
      - name: a sure answer passes
        given: {confidence: 0.97, certified: [{max_error: 0.05, confidence: 0.95}]}
        expect: pass
      - name: what could not be scored is withheld
        given: {error: out of memory}
        expect: {action: abstain, rule: on_error}

A file of them is read as strictly as a policy.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BeforeValidator, ConfigDict, Field, Strict

from guardrail.errors import PolicyError
from guardrail.policy.conditions import NUMBERS, QUANTILES, Certified
from guardrail.policy.decide import decide
from guardrail.policy.document import Mistake, Node, Place, in_order
from guardrail.policy.evidence import Action, Decision, Evidence
from guardrail.policy.load import fill_in
from guardrail.policy.model import Policy
from guardrail.policy.validation import validate
from guardrail.policy.yaml_document import read_file
from guardrail.utils.frozen_model import FrozenModel
from guardrail.utils.text import did_you_mean

__all__ = ["CaseResult", "Expected", "Given", "PolicyCase", "read_cases", "run_cases"]

_Number = Annotated[float, Strict()]


def _as_action(value: Any) -> Any:
    return {"action": value} if isinstance(value, str) else value


class Given(FrozenModel):
    """What is known of an answer.

    Attributes:
        confidence: Probability of being correct; without it, there is no calibrated profile.
        uncertainty: Scores by name.
        quantile: Their places among the profile's reference answers.
        certified: Guarantees that the answer is let through by; with a confidence and without any, none.
        finish_reason: Why it ended; ``unknown`` where that is not known.
        tags: Of the request.
        tool_call: Names of the tools it calls.
        error: Why it could not be scored.
        outside_domain: Why the profile does not hold for it, such as "it is another model's". Confidence,
            quantile and certified are then unknown to the rules, whatever is given of them.
    """

    # What is no number goes to on_error, and a case may want to see that.
    model_config = ConfigDict(allow_inf_nan=True)

    confidence: _Number | None = None
    uncertainty: Mapping[str, _Number] = Field(default_factory=dict)
    quantile: Mapping[str, _Number] = Field(default_factory=dict)
    certified: tuple[Certified, ...] | None = None
    finish_reason: Literal["stop", "length", "reasoning_length", "unknown"] = "stop"
    tags: tuple[str, ...] = ()
    tool_call: tuple[str, ...] = ()
    error: str = ""
    outside_domain: str = ""

    def evidence(self) -> Evidence:
        """The same as a policy sees it."""
        from guardrail.calibration.profile import Guarantee

        certified = self.certified
        if certified is None and self.confidence is not None:
            certified = ()
        return Evidence(
            confidence=self.confidence,
            scores=self.uncertainty,
            quantiles=self.quantile,
            guarantees=None
            if certified is None
            else frozenset(Guarantee(one.max_error, one.confidence) for one in certified),
            finish_reason=None if self.finish_reason == "unknown" else self.finish_reason,
            tags=frozenset(self.tags),
            tool_calls=self.tool_call,
            error=self.error,
            outside_domain=self.outside_domain,
        )


class Expected(FrozenModel):
    """What is to be decided; what is not named here may be anything."""

    action: Action | None = None
    rule: str | None = None
    message: str | None = None
    to: str | None = None
    enforced: Annotated[bool, Strict()] | None = None


class PolicyCase(FrozenModel):
    """One case."""

    name: Annotated[str, Field(min_length=1)]
    given: Given
    expect: Annotated[Expected, BeforeValidator(_as_action)]


class _Cases(FrozenModel):
    cases: Annotated[tuple[PolicyCase, ...], Field(min_length=1)]


class Placed(NamedTuple):
    """A case and where it stands."""

    case: PolicyCase
    place: Place


@dataclass(frozen=True, slots=True)
class CaseResult:
    """What became of a case.

    Attributes:
        name: Of the case.
        place: Where it stands.
        decision: What the policy decided.
        differences: Each field that is not as expected, as a line to read; none where the case holds.
    """

    name: str
    place: Place
    decision: Decision
    differences: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether all is as expected."""
        return not self.differences


def read_cases(file: str | Path) -> tuple[Placed, ...]:
    """Read a file of cases.

    Raises:
        PolicyError: It has mistakes; the error lists every one of them with its place.
    """
    read = read_file(Path(file), str(file))
    mistakes = list(read.mistakes)
    cases: _Cases | None = None
    root = read.root
    if root is not None:
        root, unset = fill_in(root, os.environ)
        cases, found = validate(_Cases, root)
        known = {(one.place, one.path) for one in [*mistakes, *unset]}
        mistakes += [*unset, *(one for one in [*found, *_check(root)] if (one.place, one.path) not in known)]
    if cases is None or root is None or mistakes:
        raise PolicyError([str(mistake) for mistake in in_order(mistakes, [str(file)])])
    listed = root.get("cases")
    places = [item.place for item in listed.items] if listed else []
    return tuple(Placed(case, place) for case, place in zip(cases.cases, places, strict=True))


def run_cases(policy: Policy, cases: tuple[Placed, ...]) -> tuple[CaseResult, ...]:
    """Let a policy decide each case."""
    results = []
    for case, place in cases:
        decision = decide(policy, case.given.evidence())
        results.append(CaseResult(case.name, place, decision, _differences(case.expect, decision)))
    return tuple(results)


def _differences(expected: Expected, decision: Decision) -> tuple[str, ...]:
    different = [
        f"{name}: expected {wanted!r}, got {getattr(decision, name)!r}"
        for name in type(expected).model_fields
        if (wanted := getattr(expected, name)) is not None and wanted != getattr(decision, name)
    ]
    return (*different, f"by {decision.rule}: {decision.reason}") if different else ()


def _check(root: Node) -> list[Mistake]:
    """Names of scores that there are none of, and cases of the same name."""
    mistakes: list[Mistake] = []
    listed = root.get("cases")
    seen: dict[str, int] = {}
    for case in listed.items if listed else ():
        name, given, expect = case.get("name"), case.get("given"), case.get("expect")
        if name is not None and name.text is not None:
            if name.text in seen:
                mistakes.append(name.mistake(f"duplicate name; the case in line {seen[name.text]} has it"))
            seen.setdefault(name.text, name.place.line)
        for key, known in (("uncertainty", NUMBERS), ("quantile", QUANTILES)):
            scores = given.get(key) if given else None
            for score, entry in (scores.entries if scores else {}).items():
                if score not in known:
                    said = f"unknown score{did_you_mean(score, known)}"
                    mistakes.append(Mistake(entry.key, entry.node.path, said))
        if expect is not None and expect.value == {}:
            mistakes.append(expect.mistake("expects nothing; name an action, a rule, a message or a target"))
    return mistakes
