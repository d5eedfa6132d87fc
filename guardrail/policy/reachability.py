"""Rules that can never decide: the default is missing, or earlier rules leave nothing for them."""

from collections.abc import Iterator
from math import inf
from typing import NamedTuple

from pydantic import ValidationError

from guardrail.policy.answer_boxes import (
    Box,
    Budget,
    Patterns,
    TooManyBoxesError,
    boxes_of,
    is_covered,
    near,
    patterns_of,
)
from guardrail.policy.conditions import NUMBERS, When, range_of
from guardrail.policy.document import Mistake, Node

__all__ = ["check_reach", "conditions_of", "rules_of"]


# Steps for finding the single contradictory condition; if they do not suffice, all are named.
_OF_ONE_CONDITION = 2_000


class _Seen(NamedTuple):
    """An earlier rule, and the answers that it decides on."""

    rule: Node
    boxes: list[Box]


def check_reach(root: Node, budget: Budget | None = None) -> tuple[list[Mistake], list[Mistake]]:
    """Mistakes that keep a rule from deciding or leave answers undecided, and warnings where this is unknown.

    Args:
        root: The policy's values.
        budget: Steps that may be spent; rules not reached are warned of.
    """
    unclaimed: list[Node] = []
    mistakes = [
        *_check_default(root),
        *_check_ranges(root),
        *_check_coverage(root, budget or Budget(), unclaimed),
    ]
    return mistakes, [*_end_of_claims(unclaimed)]


def conditions_of(root: Node) -> Iterator[Node]:
    """All maps of conditions in the rules, outer before inner."""
    waiting = [when for rule in rules_of(root) if (when := rule.get("when")) is not None]
    while waiting:
        when = waiting.pop(0)
        yield when
        for key in ("all", "any"):
            inner = when.get(key)
            waiting += inner.items if inner else ()
        negated = when.get("not")
        waiting += [negated] if negated else []


def rules_of(root: Node) -> tuple[Node, ...]:
    """The rules in order."""
    rules = root.get("rules")
    return rules.items if rules else ()


def _check_default(root: Node) -> Iterator[Mistake]:
    rules = root.get("rules")
    if rules is None or not rules.items:
        return
    last = rules.items[-1]
    if "when" in last.entries or not last.entries:
        yield Mistake(
            last.place,
            rules.path,
            "no default: the last rule has conditions, so answers that match no rule are undecided; add a "
            "rule "
            "without when, such as {id: default, action: abstain}",
        )
    for above, rule in enumerate(rules.items[:-1]):
        if not rule.entries or "when" in rule.entries:
            continue
        for later in rules.items[above + 1 :]:
            said = f"can never decide: {_called(rule, later)} has no when and always decides first"
            if later.place.file != rule.place.file:
                said += f"; give that one the id {_name(later)} to replace this"
            yield later.mistake(said)
        return


def _check_ranges(root: Node) -> Iterator[Mistake]:
    for when in conditions_of(root):
        uncertainty = when.get("uncertainty")
        for name, entry in (uncertainty.entries if uncertainty else {}).items():
            low, high = range_of(name)
            for bound in entry.node.entries.values():
                value = bound.node.value
                if name not in NUMBERS or type(value) not in (int, float):
                    continue
                if not low <= float(str(value)) <= high:
                    limits = [f"at least {low:g}"] * (low > -inf) + [f"at most {high:g}"] * (high < inf)
                    said = f"is {value}; {name} must be {' and '.join(limits)}"
                    yield bound.node.mistake(said)


def _check_coverage(root: Node, budget: Budget, unclaimed: list[Node]) -> Iterator[Mistake]:
    """Rules that contradict themselves, or for which earlier rules leave nothing.

    Rules for which this cannot be determined are added to ``unclaimed``.
    """
    conditions = [(rule, _when(rule.get("when"))) for rule in rules_of(root) if "when" in rule.entries]
    patterns = patterns_of(when for _, when in conditions if when)
    seen: list[_Seen] = []
    for rule, when in conditions:
        if when is None:
            continue
        boxes = _boxes(when, patterns, budget)
        if boxes is None:
            unclaimed.append(rule)
            continue
        if not boxes:
            node = _contradiction(rule)
            yield node.mistake("can never hold: its conditions contradict each other")
            continue
        above = [one for one in seen if near(boxes, one.boxes, budget)]
        by = next((one.rule for one in above if is_covered(boxes, one.boxes, budget)), None)
        is_taken = None if by else is_covered(boxes, (box for one in above for box in one.boxes), budget)
        if by is not None:
            yield rule.mistake(f"can never decide: {_called(by, rule)} decides first on all its answers")
        elif is_taken is None:
            unclaimed.append(rule)
        elif is_taken:
            yield rule.mistake("can never decide: earlier rules decide first on all its answers")
        seen.append(_Seen(rule, boxes))


def _end_of_claims(unclaimed: list[Node]) -> Iterator[Mistake]:
    if unclaimed:
        first, others = unclaimed[0], len(unclaimed) - 1
        these = f"{_name(first)} and {others} below it" if others else _name(first)
        yield first.mistake(
            f"it is unknown whether {these} can ever decide: there are too many conditions to compare"
        )


def _contradiction(rule: Node) -> Node:
    """The one condition that contradicts itself, or all of them."""
    whole = rule.get("when") or rule
    for key, entry in whole.entries.items():
        alone = _when(whole.with_entries({key: entry}))
        if alone and _boxes(alone, patterns_of([alone]), Budget(_OF_ONE_CONDITION)) == []:
            return entry.node
    return whole


def _boxes(when: When, patterns: Patterns, budget: Budget) -> list[Box] | None:
    """The answers for which conditions hold; None if there are too many boxes."""
    try:
        return boxes_of(when, patterns, budget)
    except TooManyBoxesError:
        return None


def _when(node: Node | None) -> When | None:
    """The conditions; None if they have mistakes of their own."""
    try:
        return When.model_validate(node.plain()) if node else None
    except ValidationError:
        return None


def _called(rule: Node, by: Node) -> str:
    place = rule.place
    where = f"line {place.line}" if place.file == by.place.file else f"{place.file}:{place.line}"
    return f"{_name(rule)} ({where})"


def _name(rule: Node) -> str:
    node = rule.get("id")
    return repr(node.text) if node and node.text else "the rule"
