"""Test cases for a policy: given evidence and the expected decision.

    cases:
      - name: a sure answer passes
        given: {confidence: 0.97, certified: [{max_error: 0.05, confidence: 0.95}]}
        expect: pass
      - name: an answer that could not be scored is withheld
        given: {error: out of memory}
        expect: {action: abstain, rule: on_error}

Case files are checked as strictly as policies.
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
    """Evidence about an answer.

    Attributes:
        confidence: Probability of being correct; None means there is no calibrated profile.
        uncertainty: Scores by name.
        quantile: Quantiles of the scores among the profile's reference answers.
        certified: Guarantees that accept the answer. Without this key, none if there is a confidence.
        finish_reason: Why it ended; ``unknown`` if that is not known.
        tags: Tags of the request.
        tool_call: Names of the tools it calls.
        error: Why it could not be scored.
        outside_domain: Why the profile does not hold for the answer, such as "it is another model's".
            Confidence, quantile and certified are then unknown to the rules, even if given.
    """

    # NaN goes to on_error, which a case may want to test.
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
        """The evidence as the policy sees it."""
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
    """The expected decision; fields that are not given may be anything."""

    action: Action | None = None
    rule: str | None = None
    message: str | None = None
    to: str | None = None
    enforced: Annotated[bool, Strict()] | None = None


class PolicyCase(FrozenModel):
    """A test case."""

    name: Annotated[str, Field(min_length=1)]
    given: Given
    expect: Annotated[Expected, BeforeValidator(_as_action)]


class _Cases(FrozenModel):
    cases: Annotated[tuple[PolicyCase, ...], Field(min_length=1)]


class Placed(NamedTuple):
    """A case and its place in the file."""

    case: PolicyCase
    place: Place


@dataclass(frozen=True, slots=True)
class CaseResult:
    """The result of a case.

    Attributes:
        name: The case's name.
        place: Its place in the file.
        decision: The policy's decision.
        differences: Each field that differs from the expectation, in words; empty if the case passes.
    """

    name: str
    place: Place
    decision: Decision
    differences: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether everything is as expected."""
        return not self.differences


def read_cases(file: str | Path) -> tuple[Placed, ...]:
    """Read a file of cases.

    Raises:
        PolicyError: It is invalid; the error lists every mistake with its place.
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
    """Decide every case by a policy."""
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
    """Unknown scores, and duplicate names of cases."""
    mistakes: list[Mistake] = []
    listed = root.get("cases")
    seen: dict[str, int] = {}
    for case in listed.items if listed else ():
        name, given, expect = case.get("name"), case.get("given"), case.get("expect")
        if name is not None and name.text is not None:
            if name.text in seen:
                mistakes.append(
                    name.mistake(f"duplicate name; the case in line {seen[name.text]} already has it")
                )
            seen.setdefault(name.text, name.place.line)
        for key, known in (("uncertainty", NUMBERS), ("quantile", QUANTILES)):
            scores = given.get(key) if given else None
            for score, entry in (scores.entries if scores else {}).items():
                if score not in known:
                    said = f"unknown score{did_you_mean(score, known)}"
                    mistakes.append(Mistake(entry.key, entry.node.path, said))
        if expect is not None and expect.value == {}:
            mistakes.append(expect.mistake("expects nothing; give an action, a rule, a message or a target"))
    return mistakes
