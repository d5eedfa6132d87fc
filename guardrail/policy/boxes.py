"""Sets of answers, as far as conditions tell them apart: which rules can never decide.

A condition is turned into boxes: for each number an interval, for each fact the values it may have. What is
left of a rule's boxes when those of the rules above are taken away is what it decides on. Where this gets
large, nothing is claimed.
"""

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from math import inf
from typing import NamedTuple

from guardrail.policy.conditions import Bounds, When
from guardrail.policy.ranges import SHARE, Range, range_of

__all__ = ["Box", "Patterns", "TooManyBoxesError", "boxes_of", "is_covered", "patterns_of", "without"]

_MOST_BOXES = 512
# ``other`` stands for reasons that no rule can name.
_REASONS = frozenset({"stop", "length", "other"})

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


def boxes_of(when: When, patterns: Patterns) -> list[Box]:
    """The answers that a condition holds for; none where it contradicts itself.

    Raises:
        TooManyBoxesError: They are too many to look through.
    """
    return _boxes(when, patterns, _confidence_key(when), holds=True)


def without(boxes: Iterable[Box], taken: Iterable[Box]) -> list[Box]:
    """What is left of some answers when others are taken away.

    Raises:
        TooManyBoxesError: They are too many to look through.
    """
    left = list(boxes)
    for box in taken:
        left = [piece for one in left for piece in _minus(one, box)]
        _check_number(left)
    return left


def is_covered(boxes: Sequence[Box], by: Iterable[Box]) -> bool:
    """Whether nothing is left of some answers when others are taken away; False where it cannot be told."""
    try:
        return not without(boxes, by)
    except TooManyBoxesError:
        return False


def _confidence_key(when: When) -> Key:
    """The confidence that conditions go by: where they name tools, it may be that of a call of one."""
    return ("confidence", *sorted(patterns_of([when])["tool_call"]))


def _boxes(when: When, patterns: Patterns, confidence: Key, *, holds: bool) -> list[Box]:
    parts = _parts(when, patterns, confidence, holds=holds)
    return _all(parts) if holds else [box for part in parts for box in part]


def _parts(when: When, patterns: Patterns, confidence: Key, *, holds: bool) -> list[list[Box]]:
    """Boxes of each condition, or of its contrary."""
    parts: list[list[Box]] = []
    if when.confidence is not None:
        parts.append(_number(confidence, when.confidence, SHARE, holds))
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
            parts.append(_named(kind, named_patterns, patterns[kind], holds))
    if when.all_ is not None:
        inner = [_boxes(one, patterns, confidence, holds=holds) for one in when.all_]
        parts.append(_all(inner) if holds else [box for one in inner for box in one])
    if when.any_ is not None:
        inner = [_boxes(one, patterns, confidence, holds=holds) for one in when.any_]
        parts.append([box for one in inner for box in one] if holds else _all(inner))
    if when.not_ is not None:
        parts.append(_boxes(when.not_, patterns, confidence, holds=not holds))
    return parts


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


def _named(kind: str, named: Iterable[str], known: Iterable[str], holds: bool) -> list[Box]:
    # A name that fits a pattern is one that the pattern holds for.
    atoms = {one for pattern in named for one in known if one == pattern or _fits(one, pattern)}
    boxes: list[Box] = [{(kind, atom): frozenset({holds})} for atom in sorted(atoms)]
    return boxes if holds else _all([[box] for box in boxes])


def _fits(name: str, pattern: str) -> bool:
    # A pattern may stand for a name where the other only has stars: these take in its own wildcards.
    is_plain = not set(name) & set("*?[")
    return (is_plain or ("[" not in name and not set(pattern) & set("?["))) and fnmatchcase(name, pattern)


def _all(parts: Iterable[list[Box]]) -> list[Box]:
    """Boxes within one of each."""
    boxes: list[Box] = [{}]
    for part in parts:
        boxes = [both for box in boxes for other in part if (both := _both(box, other)) is not None]
        _check_number(boxes)
    return boxes


def _both(one: Box, other: Box) -> Box | None:
    both = dict(one)
    for key, domain in other.items():
        met = _meet(both[key], domain) if key in both else domain
        if not met:
            return None
        both[key] = met
    return both


def _minus(box: Box, taken: Box) -> list[Box]:
    pieces: list[Box] = []
    rest = dict(box)
    for key, domain in taken.items():
        here = rest.get(key, _universe(key))
        pieces += [{**rest, key: piece} for piece in _outside(here, domain)]
        met = _meet(here, domain)
        if not met:
            return pieces
        rest[key] = met
    return pieces


def _meet(one: Domain, other: Domain) -> Domain | None:
    """What two domains of one key have in common, or None."""
    if isinstance(one, frozenset) or isinstance(other, frozenset):
        return frozenset(one) & frozenset(other) or None
    return _overlap(one, other)


def _overlap(one: Interval, other: Interval) -> Interval | None:
    low, high = max(one.low, other.low), min(one.high, other.high)
    with_low = all(each.with_low for each in (one, other) if each.low == low)
    with_high = all(each.with_high for each in (one, other) if each.high == high)
    is_empty = low > high or (low == high and not (with_low and with_high))
    return None if is_empty else Interval(low, high, with_low, with_high)


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
