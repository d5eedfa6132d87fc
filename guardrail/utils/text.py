"""Text for people: safe for a terminal, and the name that was probably meant by a misspelt one."""

import inspect
from collections.abc import Callable, Collection
from difflib import get_close_matches
from functools import wraps
from typing import Any, TypeVar, cast
from unicodedata import category

from guardrail.errors import OptionError

__all__ = ["did_you_mean", "escaped", "takes_no_others", "text_before", "visible", "visible_line"]


_MARK = "\N{REPLACEMENT CHARACTER}"
# Controls (including ESC, and the C1 set that some terminals obey), formats (such as direction changes and
# zero-width characters), halves of surrogate pairs, and separators that end a line.
_ORDERS = ("Cc", "Cf", "Cs", "Zl", "Zp")
# Needed in family emoji and Persian words.
_JOINERS = "\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}"


def visible(text: str, keep: str = "\n\t") -> str:
    """The text with characters that could control a terminal replaced by U+FFFD.

    Args:
        text: Untrusted text.
        keep: Characters to keep.
    """
    if text.isprintable():
        return text
    return "".join(one if one in keep or not _is_order(one) else _MARK for one in text)


def visible_line(text: str) -> str:
    """Like :func:`visible`, on one line: a name or message must not pass for another line of output."""
    return visible(" ".join(text.splitlines()), "")


def text_before(text: str, strings: Collection[str]) -> str:
    """The text before the first of some strings; all of it where it holds none of them."""
    found = [at for at in map(text.find, strings) if at >= 0]
    return text[: min(found)] if found else text


def escaped(json: str) -> str:
    """JSON of the same value, with control characters written as escapes."""
    if json.isprintable():
        return json
    return "".join(_escape(one) if _is_order(one) and one not in "\n\t\r" else one for one in json)


def _is_order(character: str) -> bool:
    return category(character) in _ORDERS and character not in _JOINERS


def _escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))


_FEW = 16
# Finding the nearest of more or longer names takes too long.
_MANY, _LONG = 200, 200


def did_you_mean(name: str, known: Collection[str]) -> str:
    """End of a sentence about an unknown name: the nearest known one, or all of them if they are few."""
    looks = len(known) <= _MANY and len(name) <= _LONG
    near = get_close_matches(name.lower(), known, n=1, cutoff=0.6) if looks else ()
    if near:
        return f"; did you mean {near[0]!r}?"
    return f"; it can be {' or '.join(known)}" if 0 < len(known) <= _FEW else ""


T = TypeVar("T", bound=Callable[..., Any])


def takes_no_others(function: T) -> T:
    """Have a function, or the making of a class's objects, say which of its arguments was probably meant.

    Python refuses an unknown argument by itself, with a ``TypeError`` that says no more than its name. With
    this it is an :class:`~guardrail.errors.OptionError`, as for any option that cannot be followed.
    """
    if inspect.isclass(function):
        # The class itself is given back: it stays a type, and subclasses can be made of it.
        kind: Any = function
        kind.__init__ = _checked(kind.__init__, kind.__name__)
        return function
    return cast("T", _checked(function, function.__name__))


def _checked(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    parameters = list(inspect.signature(function).parameters.values())
    known = [one.name for one in parameters if one.kind is not one.POSITIONAL_ONLY and one.name != "self"]

    @wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        for given in kwargs:
            if given not in known:
                raise OptionError(f"{name} has no option {given!r}{did_you_mean(given, known)}")
        return function(*args, **kwargs)

    return checked
