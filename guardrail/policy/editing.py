"""Change numbers in a policy's text without touching the rest, and write a policy as YAML.

Numbers are replaced at their place, so comments, order and layout stay exactly as they are. A YAML round
trip, even one that keeps comments, would rewrite indentation, quotes and flow maps elsewhere in a user's
file.
"""

import re
from collections.abc import Iterator
from math import isclose
from typing import Any, NamedTuple

import yaml

from guardrail.policy.document import Node, Place
from guardrail.policy.model import Policy
from guardrail.policy.reachability import rules_of
from guardrail.policy.yaml_document import read_text

__all__ = ["Bound", "bounds_of", "policy_yaml", "with_bound"]


_BOUNDS = ("gte", "gt", "lte", "lt")
# A plain YAML number, followed by what may come after one.
_NUMBER = re.compile(r"[-+]?[\d.][\d.eE+-]*(?=[\s,}\]]|$)")
_DIGITS = 6


class Bound(NamedTuple):
    """A bound between 0 and 1 in a rule.

    Attributes:
        rule: The rule's id.
        of: What is bounded: ``confidence``, or the score whose quantile it is.
        kind: ``gte``, ``gt``, ``lte`` or ``lt``.
        value: The number.
        path: Its path of keys: ``rules[1].when.confidence.gte``.
        place: Its line and column.
    """

    rule: str
    of: str
    kind: str
    value: float
    path: str
    place: Place


def bounds_of(text: str) -> tuple[Bound, ...]:
    """All bounds of a confidence or quantile in a policy's text, in order.

    Never raises: invalid YAML has none. Bounds inherited from other files are not included.
    """
    root = read_text(text, "policy").root
    if root is None:
        return ()
    found = {bound.place: bound for rule in rules_of(root) for bound in _of_rule(rule)}
    return tuple(bound for bound in found.values() if _written(text, bound) is not None)


def with_bound(text: str, bound: Bound, value: float) -> str:
    """The text with another number for a bound; unchanged if the bound is not there."""
    span = _written(text, bound)
    if span is None:
        return text
    number = f"{value:.{_DIGITS}f}".rstrip("0").removesuffix(".")
    return text[: span[0]] + number + text[span[1] :]


def _of_rule(rule: Node) -> Iterator[Bound]:
    name, when = rule.get("id"), rule.get("when")
    for conditions in _nested(when) if when else ():
        yield from _of(conditions.get("confidence"), (name and name.text) or "", "confidence")
        quantile = conditions.get("quantile")
        for score, entry in (quantile.entries if quantile else {}).items():
            yield from _of(entry.node, (name and name.text) or "", score)


def _nested(when: Node) -> Iterator[Node]:
    yield when
    inner = [node.items for key in ("all", "any") if (node := when.get(key))]
    negated = when.get("not")
    for one in (*(item for items in inner for item in items), *((negated,) if negated else ())):
        yield from _nested(one)


def _of(bounds: Node | None, rule: str, of: str) -> Iterator[Bound]:
    for kind in _BOUNDS:
        node = bounds.get(kind) if bounds else None
        if node is not None and isinstance(node.value, int | float) and 0 <= node.value <= 1:
            yield Bound(rule, of, kind, float(node.value), node.path, node.place)


def _written(text: str, bound: Bound) -> tuple[int, int] | None:
    """Start and end of a bound's number in the text; None if something else is there."""
    lines = text.splitlines(keepends=True)
    if bound.place.line > len(lines):
        return None
    start = sum(map(len, lines[: bound.place.line - 1])) + bound.place.column - 1
    found = _NUMBER.match(text, start)
    try:
        fits = found is not None and isclose(float(found[0]), bound.value)
    except ValueError:
        return None
    return found.span() if found is not None and fits else None


# Texts that no reader takes for a number or a date; PyYAML quotes whatever else needs it.
_PLAIN = re.compile(r"[A-Za-z_][\w ,./:()-]*")


def policy_yaml(policy: Policy) -> str:
    """The whole policy as YAML, with every default written out."""
    return yaml.dump(
        _escaped(policy.as_plain()), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100
    )


class _Dumper(yaml.SafeDumper):
    pass


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = None if _PLAIN.fullmatch(text) else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _escaped(value: Any) -> Any:
    """Double dollar signs, so that values that were filled in are not filled in again."""
    if isinstance(value, dict):
        return {key: _escaped(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_escaped(one) for one in value]
    return value.replace("$", "$$") if isinstance(value, str) else value


_Dumper.add_representer(str, _represent_text)
