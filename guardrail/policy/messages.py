"""What a person reads in place of an answer, or beside it: text with a few placeholders.

Not ``str.format`` on what the author wrote: that reaches into attributes, and a width of a billion fills the
memory. The names are a fixed set, the formats a few digits.
"""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from guardrail.policy.ranges import NUMBERS, QUANTILES
from guardrail.utils.nearest import did_you_mean

__all__ = [
    "PLACEHOLDERS",
    "TEXTS",
    "TICKET",
    "UNKNOWN",
    "Part",
    "check_message",
    "names_ticket",
    "parts_of",
    "render_message",
    "rendered_but_for_ticket",
]

# Placeholders that stand for a word; all others stand for a number.
TEXTS = ("rule", "finish_reason", "ticket")
# What is not known before somebody was asked.
TICKET = "ticket"
PLACEHOLDERS = (
    "confidence",
    *NUMBERS,
    *(f"quantile_{name}" for name in QUANTILES),
    *TEXTS,
)
UNKNOWN = "unknown"
# Literal text, doubled braces, a placeholder, or a brace that is none of these.
_PART = re.compile(
    r"(?P<text>[^{}]+)|(?P<brace>\{\{|\}\})|\{(?P<name>[^{}:]*)(?::(?P<spec>[^{}]*))?\}|(?P<odd>[{}])"
)
_SPEC = re.compile(r"(,?(\.\d{1,2})?[efg%]?)", re.IGNORECASE)


class Part(NamedTuple):
    """A part of a message.

    Attributes:
        text: What it says as it is; empty for a placeholder.
        name: The placeholder's name; None for a text.
        spec: The placeholder's format.
    """

    text: str
    name: str | None = None
    spec: str = ""


def check_message(template: str) -> str:
    """Give back a message that can be rendered.

    Raises:
        ValueError: A placeholder or its format is none of those there are; the message says which.
    """
    for part in parts_of(template):
        if part.name is None:
            continue
        if part.name not in PLACEHOLDERS:
            raise ValueError(
                f"has the unknown placeholder {{{part.name}}}{did_you_mean(part.name, PLACEHOLDERS)}"
            )
        example = part.name if part.name in TEXTS else f"{part.name}:.2f"
        if part.spec and (part.name in TEXTS or not _SPEC.fullmatch(part.spec)):
            raise ValueError(f"has the format {part.spec!r} for {part.name}; write {{{example}}}")
    return template


def render_message(template: str, values: Mapping[str, float | str | None]) -> str:
    """Fill in a message that was checked. What has no value, or None, reads ``unknown``."""
    return "".join(
        part.text if part.name is None else _shown(values.get(part.name), part.spec)
        for part in parts_of(template)
    )


def rendered_but_for_ticket(template: str, values: Mapping[str, float | str | None]) -> str:
    """Fill in a message that was checked, but for ``{ticket}``: a message of which that alone is left."""
    return "".join(
        "{ticket}"
        if part.name == TICKET
        else (part.text if part.name is None else _shown(values.get(part.name), part.spec))
        .replace("{", "{{")
        .replace("}", "}}")
        for part in parts_of(template)
    )


def names_ticket(template: str) -> bool:
    """Whether a message has a place for a ticket; one that cannot be read has none."""
    try:
        return any(part.name == TICKET for part in parts_of(template))
    except ValueError:
        return False


def parts_of(template: str) -> Iterator[Part]:
    """The parts of a message, in their order.

    Raises:
        ValueError: A brace belongs to no placeholder.
    """
    for found in _PART.finditer(template):
        if found["odd"]:
            raise ValueError(
                f"has a {found['odd']} that belongs to no placeholder; write {found['odd'] * 2} for one"
            )
        if found["name"] is not None:
            yield Part("", found["name"], found["spec"] or "")
        else:
            yield Part(found["text"] or found["brace"][0])


def _shown(value: float | str | None, spec: str) -> str:
    if value is None:
        return UNKNOWN
    return value if isinstance(value, str) else format(value, spec or ".3g")
