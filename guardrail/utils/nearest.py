"""The name that was probably meant."""

from collections.abc import Collection
from difflib import get_close_matches

__all__ = ["did_you_mean"]

_FEW = 16
# Of more, or longer ones, looking for the nearest takes long.
_MANY, _LONG = 200, 200


def did_you_mean(name: str, known: Collection[str]) -> str:
    """End of a sentence about a name that is none of these: the nearest, or all where they are few."""
    looks = len(known) <= _MANY and len(name) <= _LONG
    near = get_close_matches(name.lower(), known, n=1, cutoff=0.6) if looks else ()
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; it can be {' or '.join(known)}" if 0 < len(known) <= _FEW else ""
