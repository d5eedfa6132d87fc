"""``${VAR}`` and ``${VAR:-default}`` in the texts of a policy; ``$$`` is one dollar sign."""

import re
from collections.abc import Mapping

from guardrail.policy.places import Entry, Mistake, Node

__all__ = ["fill_in"]

_PART = re.compile(r"\$\$|\$\{(?P<inside>[^}]*)(?P<end>\}?)")
_INSIDE = re.compile(r"(?P<name>[A-Za-z_]\w*)(?::-(?P<default>.*))?", re.ASCII | re.DOTALL)


def fill_in(node: Node, environment: Mapping[str, str]) -> tuple[Node, list[Mistake]]:
    """Put the environment's values where they are asked for. They stay texts, and are not looked into."""
    mistakes: list[Mistake] = []
    return _filled(node, environment, mistakes), mistakes


def _filled(node: Node, environment: Mapping[str, str], mistakes: list[Mistake]) -> Node:
    if node.items:
        return node.with_items(_filled(item, environment, mistakes) for item in node.items)
    if node.entries:
        return node.with_entries(
            {
                key: Entry(entry.key, _filled(entry.node, environment, mistakes))
                for key, entry in node.entries.items()
            }
        )
    if node.text is None or "$" not in node.text:
        return node

    def value(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        inside = _INSIDE.fullmatch(found["inside"]) if found["end"] else None
        if inside is None:
            said = f"{found[0][:40]!r} is no variable; write ${{NAME}}, ${{NAME:-default}} or $$"
            mistakes.append(node.mistake(said))
            return found[0]
        name, default = inside["name"], inside["default"]
        given = environment.get(name)
        if default is not None:
            return given or default
        if given is None:
            mistakes.append(
                node.mistake(
                    f"the environment variable {name} is not set; set it, or write ${{{name}:-default}}"
                )
            )
            return found[0]
        return given

    return node.with_text(_PART.sub(value, node.text))
