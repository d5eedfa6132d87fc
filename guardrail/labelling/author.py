"""Who gave an answer: a profile holds for the answers of whoever gave those that it is made of.

A model whose weights are here is told by its fingerprint. Any other is known by a name alone, which somebody
declares: of a served model nobody can see more.
"""

from typing import NamedTuple

from guardrail.errors import OptionError

__all__ = ["Author", "author_of", "name_problem", "same_name"]


_LONGEST = 200


class Author(NamedTuple):
    """Who gave an answer that was not generated here.

    Attributes:
        name: What it is called.
        doubt: Why the name is no declaration, such as that nobody made one; empty where it is one.
    """

    name: str
    doubt: str = ""


def author_of(given: "str | Author | None") -> Author | None:
    """Read a declaration.

    Raises:
        OptionError: It is no name.
    """
    if given is None or isinstance(given, Author):
        return given
    if problem := name_problem(given):
        raise OptionError(f"answered_by {problem}.")
    return Author(given.strip())


def name_problem(name: object) -> str:
    """Why something is no name of a model, in words; empty where it is one."""
    if not isinstance(name, str):
        return f"is of type {type(name).__name__}, and the name of a model is a text"
    if not name.strip():
        return "is empty; give the name of the model that answered"
    if len(name) > _LONGEST or not name.isprintable():
        return f"is {name[:40]!r}, which is no name: at most {_LONGEST} characters, all of them printable"
    return ""


def same_name(one: str, other: str) -> bool:
    """Whether two names are one but for upper case and white space around them."""
    return one.strip().casefold() == other.strip().casefold()
