"""How a response is to be drawn: plain values, checked where they are given."""

from dataclasses import dataclass
from math import isfinite

from guardrail.errors import OptionError


@dataclass(frozen=True, slots=True)
class Sampling:
    """Options of a generation. The defaults are greedy decoding.

    Attributes:
        max_tokens: Most tokens to generate, at least 1.
        temperature: 0 for greedy decoding; above 0, tokens are drawn from the distribution sharpened by it.
        top_p: Draw from the smallest set of tokens with this much probability, in (0, 1].
        seed: Makes drawing repeatable; None draws afresh.
        stop: Strings that end the response; they are left out of its text.
        ignore_end: Go on after the end of turn, to measure answers of equal length.

    Raises:
        OptionError: A value is out of its range.
    """

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    ignore_end: bool = False

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise OptionError(f"max_tokens is {self.max_tokens}; an answer needs at least 1 token.")
        if not isfinite(self.temperature) or self.temperature < 0:
            raise OptionError(f"temperature is {self.temperature}; give 0 (greedy) or a number above it.")
        if not 0 < self.top_p <= 1:
            raise OptionError(f"top_p is {self.top_p}; give a number above 0 and up to 1.")
        if isinstance(self.stop, str) or not all(self.stop):
            raise OptionError("stop takes a list of strings, none of them empty.")
