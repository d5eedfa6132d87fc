"""Which tokens of a response are meant. Plain values: nothing here needs torch."""

from collections.abc import Sequence
from typing import NamedTuple

from guardrail.errors import OptionError

__all__ = ["Span", "check_spans"]


class Span(NamedTuple):
    """Token indices of a response, from ``start`` up to, without, ``end``."""

    start: int
    end: int


def check_spans(spans: Sequence[Span], tokens: int) -> None:
    """See that every span lies within a response of so many tokens and holds at least one of them.

    Raises:
        OptionError: One does not.
    """
    for at, (start, end) in enumerate(spans):
        if not 0 <= start < end <= tokens:
            raise OptionError(
                f"Segment {at} is tokens {start} to {end} (exclusive) of a response of {tokens}; a segment "
                f"holds at least one token and lies between 0 and {tokens}."
            )
