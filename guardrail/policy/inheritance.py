"""One policy that changes another: which part of the two is kept.

An author who adds a rule to a policy adds an exception to it. Were new rules tried after the inherited ones,
an inherited rule that lets much through would make a new rule that withholds void, without a word. So new
rules come first.
"""

from typing import get_args

from guardrail.policy.evidence import Action
from guardrail.policy.notices import Notice
from guardrail.policy.places import Entry, Node

__all__ = ["merge", "notices_in"]

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


def notices_in(root: Node) -> list[Notice]:
    """The messages of a policy that is not checked yet."""
    rules = root.get("rules")
    said = [(_id(rule) or "", rule) for rule in (rules.items if rules else ())]
    said += [(key, entry.node) for key, entry in root.entries.items() if key.startswith("on_")]
    notices = []
    for rule, node in said:
        message, action = node.get("message"), node.get("action")
        if message is not None and message.text:
            named = action.text if action else None
            known: Action = next((one for one in get_args(Action) if one == named), "abstain")
            notices.append(Notice(message.text, known, rule))
    return notices


def _merge_rules(base: Node, child: Node) -> Node:
    replaced = {_id(rule): rule for rule in child.items if _id(rule) is not None}
    inherited = {_id(rule) for rule in base.items}
    new = [rule for rule in child.items if _id(rule) is None or _id(rule) not in inherited]
    kept = [replaced.get(_id(rule), rule) for rule in base.items]
    return child.with_items([*new, *kept])


def _id(rule: Node) -> str | None:
    node = rule.get("id")
    return None if node is None else node.text
