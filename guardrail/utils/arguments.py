"""Arguments by name: one that is not taken is refused, with the name that was probably meant."""

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from guardrail.errors import OptionError
from guardrail.utils.text import did_you_mean

__all__ = ["takes_no_others"]

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
