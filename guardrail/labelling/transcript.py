"""How a conversation is written as text, and what was asked last in it."""

import re
from collections.abc import Sequence

__all__ = ["last_asked", "transcript"]


_BEGINS_WITH_ROLE = re.compile(r"[a-z]+: ")
_BETWEEN, _USER = "\n\n", "user: "


def transcript(turns: Sequence[tuple[object, str]]) -> str:
    """The turns of a conversation, each as its role and what was said; a single turn as what was said."""
    if len(turns) == 1:
        return turns[0][1]
    return _BETWEEN.join(f"{role}: {content}" for role, content in turns)


def last_asked(text: str) -> str:
    """The user's last message in a transcript; any other text as it is."""
    before, _, last = text.rpartition(f"{_BETWEEN}{_USER}")
    return last if before and _BEGINS_WITH_ROLE.match(text) else text
