"""Try a policy without running a model: on written cases, and on answers that were given earlier."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, get_args

from pydantic import BeforeValidator, ConfigDict, Field, Strict

from guardrail.errors import PolicyError
from guardrail.policy.conditions import NUMBERS, QUANTILES, Certified, Familiar
from guardrail.policy.decide import decide
from guardrail.policy.document import Mistake, Node, Place, in_order
from guardrail.policy.evidence import Action, Decision, Evidence
from guardrail.policy.load import fill_in
from guardrail.policy.model import Policy
from guardrail.policy.validation import validate
from guardrail.policy.yaml_document import read_file
from guardrail.utils.record_store import FrozenModel
from guardrail.utils.text import did_you_mean

if TYPE_CHECKING:
    from guardrail.calibration.held_out import HeldOutAnswer
    from guardrail.calibration.profile import Profile
    from guardrail.metrics import Figure

__all__ = [
    "Accepted",
    "CaseResult",
    "Expected",
    "Given",
    "KnownAnswer",
    "PolicyCase",
    "WhatIf",
    "known_answers",
    "read_cases",
    "run_cases",
    "what_if",
]


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
        familiar: Whether the questions so far are like the profile's: untried, familiar or unlike.
        uncertified: Why no guarantee holds, whatever the confidence, such as "the profile is a general one".
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
    familiar: Familiar | None = None
    uncertified: str = ""
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
            familiar=self.familiar,
            uncertified=self.uncertified,
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


def what_if(policy: Policy, answers: Sequence[KnownAnswer]) -> WhatIf:
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
    """A profile's held-out answers as a policy would see them in familiar traffic.

    What a profile certifies in its report is no guarantee of traffic where it is a general one or keeps no
    states, and none is met here either.
    """
    return tuple(_known(profile, answer) for answer in held_out)


def _known(profile: "Profile", answer: "HeldOutAnswer") -> KnownAnswer:
    if not answer.response.strip():
        return KnownAnswer(Evidence(error="the answer has no text"), answer.correct)
    assessment = profile.assess_score(answer.confidence_score, answer.scores)
    evidence = Evidence(
        confidence=assessment.confidence,
        scores=answer.scores,
        quantiles=assessment.quantiles,
        guarantees=frozenset() if profile.certifies_nothing else frozenset(assessment.guarantees),
        uncertified=profile.certifies_nothing,
        familiar=None if profile.states is None else "familiar",
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
