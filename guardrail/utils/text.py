"""Text for people: made harmless for a terminal, and the name that was probably meant."""

from collections.abc import Collection
from difflib import get_close_matches
from unicodedata import category

__all__ = ["did_you_mean", "escaped", "visible", "visible_line"]


_MARK = "\N{REPLACEMENT CHARACTER}"
# Controls (ESC among them, and the C1 set that some terminals obey), formats (what turns the direction of
# text round, what has no width), halves of surrogate pairs, and separators that end a line.
_ORDERS = ("Cc", "Cf", "Cs", "Zl", "Zp")
# Family emoji and Persian words are written with these.
_JOINERS = "\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}"


def visible(text: str, keep: str = "\n\t") -> str:
    """A text without characters that give orders to a terminal; U+FFFD stands where each of them stood.

    Args:
        text: Anything that a file, a model or a person said.
        keep: Characters that stay all the same.
    """
    if text.isprintable():
        return text
    return "".join(one if one in keep or not _is_order(one) else _MARK for one in text)


def visible_line(text: str) -> str:
    """The same on one line: what a name or a message holds must not look like the next line of the output."""
    return visible(" ".join(text.splitlines()), "")


def escaped(json: str) -> str:
    """JSON of the same value, whose characters that give orders are written in four digits each."""
    if json.isprintable():
        return json
    return "".join(_escape(one) if _is_order(one) and one not in "\n\t\r" else one for one in json)


def _is_order(character: str) -> bool:
    return category(character) in _ORDERS and character not in _JOINERS


def _escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


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
