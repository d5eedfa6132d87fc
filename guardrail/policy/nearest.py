"""The name that was probably meant."""

from collections.abc import Collection
from difflib import get_close_matches

__all__ = ["did_you_mean"]

_FEW = 16


def did_you_mean(name: str, known: Collection[str]) -> str:
    """End of a sentence about a name that is none of these: the nearest, or all where they are few."""
    near = get_close_matches(name.lower(), known, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; it can be {' or '.join(known)}" if 0 < len(known) <= _FEW else ""
