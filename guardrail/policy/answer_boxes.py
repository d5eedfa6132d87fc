"""Sets of answers, as far as conditions tell them apart: which rules can never decide.

A condition is turned into boxes: for each number an interval, for each fact the values it may have. What is
left of a rule's boxes when those of the rules above are taken away is what it decides on. Where this gets
large, nothing is claimed: what is looked through is counted against a budget rather than a clock, so that the
same is claimed on every machine.
"""

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from math import inf
from typing import NamedTuple

from guardrail.policy.conditions import SHARE, Bounds, Range, When, range_of

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
# Looks at one fact of one box: about half a second of them.
_MOST_STEPS = 250_000
# ``other`` stands for reasons that no rule can name.
_REASONS = frozenset({"stop", "length", "reasoning_length", "other"})

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
    """The conditions are too tangled for this kind of reasoning."""


class Budget:
    """What may still be looked through, by all who share it.

    Args:
        steps: How many facts of boxes may be looked at.
    """

    def __init__(self, steps: int = _MOST_STEPS) -> None:
        self._left = steps

    @property
    def is_spent(self) -> bool:
        """Whether nothing is left of it."""
        return self._left < 0

    def spend(self, steps: int) -> None:
        """Take away what something costs.

        Raises:
            TooManyBoxesError: So much is not left.
        """
        self._left -= steps
        if self._left < 0:
            raise TooManyBoxesError


def patterns_of(whens: Iterable[When]) -> Patterns:
    """Every tag and tool pattern that these conditions name."""
    found: dict[str, set[str]] = {"tags": set(), "tool_call": set()}
    waiting = list(whens)
    while waiting:
        when = waiting.pop()
        found["tags"].update(when.tags or ())
        found["tool_call"].update(when.tool_call or ())
        waiting += [*(when.all_ or ()), *(when.any_ or ()), *([when.not_] if when.not_ else [])]
    return {kind: frozenset(patterns) for kind, patterns in found.items()}


def boxes_of(when: When, patterns: Patterns, budget: Budget | None = None) -> list[Box]:
    """The answers that a condition holds for; none where it contradicts itself.

    Raises:
        TooManyBoxesError: They are too many to look through.
    """
    return _Boxes(patterns, _confidence_key(when), budget or Budget()).of(when, holds=True)


def without(boxes: Iterable[Box], taken: Iterable[Box], budget: Budget | None = None) -> list[Box]:
    """What is left of some answers when others are taken away.

    Raises:
        TooManyBoxesError: They are too many to look through.
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
    """Whether some answer may be in boxes of both; True where that is not looked into any more."""
    try:
        budget.spend(len(boxes) * len(others) // 2 + 1)
    except TooManyBoxesError:
        return True
    return not all(_are_apart(one, other) for one in boxes for other in others)


def is_covered(boxes: Sequence[Box], by: Iterable[Box], budget: Budget | None = None) -> bool | None:
    """Whether nothing is left of some answers when others are taken away; None where it cannot be told."""
    try:
        return not without(boxes, by, budget)
    except TooManyBoxesError:
        return None


def _confidence_key(when: When) -> Key:
    """The confidence that conditions go by: where they name tools, it may be that of a call of one."""
    return ("confidence", *sorted(patterns_of([when])["tool_call"]))


class _Boxes(NamedTuple):
    """Makes boxes of conditions.

    Attributes:
        patterns: Every tag and tool pattern that they may have to be told from.
        confidence: The confidence that they go by.
        budget: What may be looked through.
    """

    patterns: Patterns
    confidence: Key
    budget: Budget

    def of(self, when: When, *, holds: bool) -> list[Box]:
        """The answers that conditions hold for, or their contrary."""
        parts = self._parts(when, holds=holds)
        return self._all(parts) if holds else self._any(parts)

    def _parts(self, when: When, *, holds: bool) -> list[list[Box]]:
        """Boxes of each condition, or of its contrary."""
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
        # A name that fits a pattern is one that the pattern holds for.
        known = self.patterns[kind]
        self.budget.spend(len(named) * len(known) // 8)
        atoms = {one for pattern in named for one in known if one == pattern or _fits(one, pattern)}
        boxes: list[Box] = [{(kind, atom): frozenset({holds})} for atom in sorted(atoms)]
        return self._any([boxes]) if holds else self._all([[box] for box in boxes])

    def _any(self, parts: Iterable[list[Box]]) -> list[Box]:
        """Boxes of one of each."""
        boxes = [box for part in parts for box in part]
        self.budget.spend(len(boxes))
        _check_number(boxes)
        return boxes

    def _all(self, parts: Iterable[list[Box]]) -> list[Box]:
        """Boxes within one of each."""
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
    # A pattern may stand for a name where the other only has stars: these take in its own wildcards.
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
        # In one piece it stays small.
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
    """What two domains of one key have in common, or None."""
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
    """What of ``here`` is not in a domain of the same key."""
    if isinstance(here, frozenset) or isinstance(domain, frozenset):
        left = frozenset(here) - frozenset(domain)
        return [left] if left else []
    below = Interval(here.low, domain.low, here.with_low, not domain.with_low)
    above = Interval(domain.high, here.high, not domain.with_high, here.with_high)
    return [met for piece in (below, above) if (met := _meet(here, piece))]


def _universe(key: Key) -> Domain:
    if key[0] == "finish_reason":
        return _REASONS
    if key[0] in ("certified", "tags", "tool_call"):
        return frozenset({True, False})
    return Interval(*(range_of(key[1]) if key[0] == "uncertainty" else SHARE))


def _check_number(boxes: Sequence[Box]) -> None:
    if len(boxes) > _MOST_BOXES:
        raise TooManyBoxesError
