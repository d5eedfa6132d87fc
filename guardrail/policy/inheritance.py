"""One policy that changes another: which part of the two is kept.

An author who adds a rule to a policy adds an exception to it. Were new rules tried after the inherited ones,
an inherited rule that lets much through would make a new rule that withholds void, without a word. So new
rules come first.
"""

from guardrail.policy.places import Entry, Node

__all__ = ["merge"]

# Merged key by key: targets by their names, the log by its keys. Anything else is one value.
_MERGED = ("escalation", "log")


def merge(base: Node, child: Node) -> Node:
    """The policy that ``child`` makes of ``base``; every part keeps its place.

    Rules of the same id are replaced where they stand, new ones go before all inherited ones.
    """
    entries = {key: entry for key, entry in base.entries.items() if key != "extends"}
    for key, entry in child.entries.items():
        inherited = entries.get(key)
        if key == "extends":
            continue
        if inherited is not None and key == "rules" and inherited.node.items and entry.node.items:
            entry = Entry(entry.key, _merge_rules(inherited.node, entry.node))
        elif inherited is not None and key in _MERGED and entry.node.entries:
            both = {**inherited.node.entries, **entry.node.entries}
            entry = Entry(entry.key, entry.node.with_entries(both))
        entries[key] = entry
    return child.with_entries(entries)


def _merge_rules(base: Node, child: Node) -> Node:
    replaced = {_id(rule): rule for rule in child.items if _id(rule) is not None}
    inherited = {_id(rule) for rule in base.items}
    new = [rule for rule in child.items if _id(rule) is None or _id(rule) not in inherited]
    kept = [replaced.get(_id(rule), rule) for rule in base.items]
    return child.with_items([*new, *kept])


def _id(rule: Node) -> str | None:
    node = rule.get("id")
    return None if node is None else node.text
