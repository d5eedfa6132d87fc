"""Sets of answers that conditions can distinguish, to find rules that can never decide.

A condition becomes a set of boxes: an interval for each number, a set of possible values for each fact. What
remains of a rule's boxes after subtracting those of earlier rules is what it decides on. Where this becomes
too large, nothing is claimed. The work is limited by a budget of steps rather than by a clock, so that the
result is the same on every machine.
"""

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from math import inf
from typing import NamedTuple, get_args

from guardrail.policy.conditions import SHARE, Bounds, Familiar, Range, When, range_of

__all__ = [
    "Box",
    "Budget",
    "Patterns",
    "TooManyBoxesError",
    "boxes_of",
    "is_covered",
    "near",
    "patterns_of",
    "without",
]


_MOST_BOXES = 512
# Steps look at one fact of one box; about half a second in total.
_MOST_STEPS = 250_000
# ``other`` stands for reasons that a rule cannot name.
_REASONS = frozenset({"stop", "length", "reasoning_length", "other"})
_FAMILIAR = frozenset[object](get_args(Familiar))

Key = tuple[str, ...]
Patterns = Mapping[str, frozenset[str]]


class Interval(NamedTuple):
    """Numbers between two bounds, each included or not."""

    low: float
    high: float
    with_low: bool = True
    with_high: bool = True


Domain = Interval | frozenset[object]
Box = Mapping[Key, Domain]


class TooManyBoxesError(Exception):
    """There are too many boxes to reason about."""


class Budget:
    """Remaining work, shared by everything that uses it.

    Args:
        steps: How many facts of boxes may be looked at.
    """

    def __init__(self, steps: int = _MOST_STEPS) -> None:
        self._left = steps

    @property
    def is_spent(self) -> bool:
        """Whether nothing remains."""
        return self._left < 0

    def spend(self, steps: int) -> None:
        """Subtract the cost of something.

        Raises:
            TooManyBoxesError: The remainder does not suffice.
        """
        self._left -= steps
        if self._left < 0:
            raise TooManyBoxesError


def patterns_of(whens: Iterable[When]) -> Patterns:
    """All tag and tool patterns in these conditions."""
    found: dict[str, set[str]] = {"tags": set(), "tool_call": set()}
    waiting = list(whens)
    while waiting:
        when = waiting.pop()
        found["tags"].update(when.tags or ())
        found["tool_call"].update(when.tool_call or ())
        waiting += [*(when.all_ or ()), *(when.any_ or ()), *([when.not_] if when.not_ else [])]
    return {kind: frozenset(patterns) for kind, patterns in found.items()}


def boxes_of(when: When, patterns: Patterns, budget: Budget | None = None) -> list[Box]:
    """The answers for which a condition holds; none if it contradicts itself.

    Raises:
        TooManyBoxesError: There are too many.
    """
    return _Boxes(patterns, _confidence_key(when), budget or Budget()).of(when, holds=True)


def without(boxes: Iterable[Box], taken: Iterable[Box], budget: Budget | None = None) -> list[Box]:
    """Subtract some answers from others.

    Raises:
        TooManyBoxesError: There are too many.
    """
    budget = budget or Budget()
    left = list(boxes)
    for box in taken:
        if not left:
            break
        pieces: list[Box] = []
        for one in left:
            budget.spend(len(box) + 1)
            pieces += _minus(one, box)
        left = pieces
        _check_number(left)
    return left


def near(boxes: Sequence[Box], others: Sequence[Box], budget: Budget) -> bool:
    """Whether some answer may be in boxes of both; True if the budget is spent."""
    try:
        budget.spend(len(boxes) * len(others) // 2 + 1)
    except TooManyBoxesError:
        return True
    return not all(_are_apart(one, other) for one in boxes for other in others)


def is_covered(boxes: Sequence[Box], by: Iterable[Box], budget: Budget | None = None) -> bool | None:
    """Whether some answers are covered by others; None if that cannot be determined."""
    try:
        return not without(boxes, by, budget)
    except TooManyBoxesError:
        return None


def _confidence_key(when: When) -> Key:
    """The key of the confidence that conditions use: one that names tools may use that of a call."""
    return ("confidence", *sorted(patterns_of([when])["tool_call"]))


class _Boxes(NamedTuple):
    """Turns conditions into boxes.

    Attributes:
        patterns: All tag and tool patterns that may have to be distinguished.
        confidence: Key of the confidence that the conditions use.
        budget: The remaining work.
    """

    patterns: Patterns
    confidence: Key
    budget: Budget

    def of(self, when: When, *, holds: bool) -> list[Box]:
        """The answers for which the conditions hold, or do not hold."""
        parts = self._parts(when, holds=holds)
        return self._all(parts) if holds else self._any(parts)

    def _parts(self, when: When, *, holds: bool) -> list[list[Box]]:
        """Boxes of each condition, or of its negation."""
        parts: list[list[Box]] = []
        if when.confidence is not None:
            parts.append(_number(self.confidence, when.confidence, SHARE, holds))
        for name, bounds in (when.uncertainty or {}).items():
            parts.append(_number(("uncertainty", name), bounds, range_of(name), holds))
        for name, share in (when.quantile or {}).items():
            parts.append(_number(("quantile", name), share, SHARE, holds))
        if when.certified is not None:
            key = ("certified", f"{when.certified.max_error} {when.certified.confidence}")
            parts.append([{key: frozenset({holds})}])
        if when.finish_reason is not None:
            named = frozenset[object](when.finish_reason)
            parts.append([{("finish_reason",): named if holds else _REASONS - named}])
        if when.familiar is not None:
            wanted = frozenset[object](when.familiar)
            parts.append([{("familiar",): wanted if holds else _FAMILIAR - wanted}])
        for kind, named_patterns in (("tags", when.tags), ("tool_call", when.tool_call)):
            if named_patterns is not None:
                parts.append(self._named(kind, named_patterns, holds))
        if when.all_ is not None:
            inner = [self.of(one, holds=holds) for one in when.all_]
            parts.append(self._all(inner) if holds else self._any(inner))
        if when.any_ is not None:
            inner = [self.of(one, holds=holds) for one in when.any_]
            parts.append(self._any(inner) if holds else self._all(inner))
        if when.not_ is not None:
            parts.append(self.of(when.not_, holds=not holds))
        return parts

    def _named(self, kind: str, named: Sequence[str], holds: bool) -> list[Box]:
        # A name that matches a pattern counts for that pattern too.
        known = self.patterns[kind]
        self.budget.spend(len(named) * len(known) // 8)
        atoms = {one for pattern in named for one in known if one == pattern or _fits(one, pattern)}
        boxes: list[Box] = [{(kind, atom): frozenset({holds})} for atom in sorted(atoms)]
        return self._any([boxes]) if holds else self._all([[box] for box in boxes])

    def _any(self, parts: Iterable[list[Box]]) -> list[Box]:
        """Union of sets of boxes."""
        boxes = [box for part in parts for box in part]
        self.budget.spend(len(boxes))
        _check_number(boxes)
        return boxes

    def _all(self, parts: Iterable[list[Box]]) -> list[Box]:
        """Intersection of sets of boxes."""
        boxes: list[Box] = [{}]
        for part in parts:
            met: list[Box] = []
            for box in boxes:
                for other in part:
                    self.budget.spend(len(other) + len(box) // 8 + 1)
                    both = _both(box, other)
                    met += [] if both is None else [both]
                _check_number(met)
            boxes = met
        return boxes


def _number(key: Key, bounds: Bounds, within: Range, holds: bool) -> list[Box]:
    whole = Interval(*within)
    inside: Interval | None = whole
    for wanted in (
        Interval(-inf if bounds.gte is None else bounds.gte, inf),
        Interval(-inf if bounds.gt is None else bounds.gt, inf, with_low=bounds.gt is None),
        Interval(-inf, inf if bounds.lte is None else bounds.lte),
        Interval(-inf, inf if bounds.lt is None else bounds.lt, with_high=bounds.lt is None),
    ):
        inside = _overlap(inside, wanted) if inside else None
    if holds:
        return [{key: inside}] if inside else []
    return [{key: piece} for piece in (_outside(whole, inside) if inside else [whole])]


def _fits(name: str, pattern: str) -> bool:
    # The name may itself be a pattern: one with only stars is matched with its wildcards as letters.
    is_plain = not set(name) & set("*?[")
    return (is_plain or ("[" not in name and not set(pattern) & set("?["))) and fnmatchcase(name, pattern)


def _both(one: Box, other: Box) -> Box | None:
    both = dict(one)
    for key, domain in other.items():
        met = _meet(both[key], domain) if key in both else domain
        if not met:
            return None
        both[key] = met
    return both


def _minus(box: Box, taken: Box) -> list[Box]:
    if _are_apart(box, taken):
        # Unsplit, the set stays small.
        return [box]
    pieces: list[Box] = []
    rest = dict(box)
    for key, domain in taken.items():
        here = rest.get(key, _universe(key))
        pieces += [{**rest, key: piece} for piece in _outside(here, domain)]
        met = _meet(here, domain)
        if met:
            rest[key] = met
    return pieces


def _are_apart(one: Box, other: Box) -> bool:
    """Whether no answer is in both boxes."""
    for key, domain in other.items():
        here = one.get(key)
        if here is None:
            continue
        if isinstance(here, frozenset) or isinstance(domain, frozenset):
            if frozenset(here).isdisjoint(frozenset(domain)):
                return True
        elif _end_before(here, domain) or _end_before(domain, here):
            return True
    return False


def _end_before(one: Interval, other: Interval) -> bool:
    return one.high < other.low or (one.high == other.low and not (one.with_high and other.with_low))


def _meet(one: Domain, other: Domain) -> Domain | None:
    """The intersection of two domains of a key; None if it is empty."""
    if isinstance(one, frozenset) or isinstance(other, frozenset):
        return frozenset(one) & frozenset(other) or None
    return _overlap(one, other)


def _overlap(one: Interval, other: Interval) -> Interval | None:
    if _end_before(one, other) or _end_before(other, one):
        return None
    low, high = max(one.low, other.low), min(one.high, other.high)
    return Interval(
        low,
        high,
        (one.with_low or one.low < low) and (other.with_low or other.low < low),
        (one.with_high or one.high > high) and (other.with_high or other.high > high),
    )


def _outside(here: Domain, domain: Domain) -> list[Domain]:
    """The part of ``here`` outside a domain of the same key."""
    if isinstance(here, frozenset) or isinstance(domain, frozenset):
        left = frozenset(here) - frozenset(domain)
        return [left] if left else []
    below = Interval(here.low, domain.low, here.with_low, not domain.with_low)
    above = Interval(domain.high, here.high, not domain.with_high, here.with_high)
    return [met for piece in (below, above) if (met := _meet(here, piece))]


def _universe(key: Key) -> Domain:
    if key[0] == "finish_reason":
        return _REASONS
    if key[0] == "familiar":
        return _FAMILIAR
    if key[0] in ("certified", "tags", "tool_call"):
        return frozenset({True, False})
    return Interval(*(range_of(key[1]) if key[0] == "uncertainty" else SHARE))


def _check_number(boxes: Sequence[Box]) -> None:
    if len(boxes) > _MOST_BOXES:
        raise TooManyBoxesError
