"""The author of an answer: a profile is valid for answers from the author of those it was made from.

A model whose weights are available is identified by its fingerprint. Any other is known only by a declared
name, because a served model reveals no more.
"""

from typing import NamedTuple

from guardrail.errors import OptionError

__all__ = ["Author", "author_of", "name_problem", "same_name"]


_LONGEST = 200


class Author(NamedTuple):
    """The author of an answer that was not generated here.

    Attributes:
        name: The author's name.
        doubt: Why the name is not a declaration, for example because nobody made one; empty if it is.
    """

    name: str
    doubt: str = ""


def author_of(given: "str | Author | None") -> Author | None:
    """Read a declaration of the author.

    Raises:
        OptionError: It is not a valid name.
    """
    if given is None or isinstance(given, Author):
        return given
    if problem := name_problem(given):
        raise OptionError(f"answered_by {problem}.")
    return Author(given.strip())


def name_problem(name: object) -> str:
    """Why something is not a valid name of a model; empty if it is."""
    if not isinstance(name, str):
        return f"is of type {type(name).__name__}; the name of a model must be text"
    if not name.strip():
        return "is empty; give the name of the model that answered"
    if len(name) > _LONGEST or not name.isprintable():
        return f"is {name[:40]!r}; a name has at most {_LONGEST} characters, all printable"
    return ""


def same_name(one: str, other: str) -> bool:
    """Whether two names are equal apart from case and surrounding white space."""
    return one.strip().casefold() == other.strip().casefold()
