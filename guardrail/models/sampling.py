"""How a response is to be drawn: plain values, checked where they are given."""

from dataclasses import dataclass, replace
from math import isfinite
from typing import Any, Self

from guardrail.errors import OptionError
from guardrail.utils.text import takes_no_others

__all__ = ["SEEDS", "Sampling", "check_number"]

# What a generator of torch takes.
SEEDS = range(-(2**63), 2**64)
# Logits divided by less, or by more, leave what float32 and float16 can tell apart.
_LEAST_TEMPERATURE, _MOST_TEMPERATURE = 1e-4, 1e4


@takes_no_others
@dataclass(frozen=True, slots=True)
class Sampling:
    """Options of a generation. The defaults are greedy decoding.

    Attributes:
        max_tokens: Most tokens of the answer, at least 1.
        temperature: 0 for greedy decoding; above 0, tokens are drawn from the distribution sharpened by it.
        top_p: Draw from the smallest set of tokens with this much probability, in (0, 1].
        seed: Makes drawing repeatable; None draws afresh.
        stop: Strings that end the response; they are left out of its text.
        ignore_end: Go on after the end of turn, to measure answers of equal length.
        max_reasoning_tokens: Most tokens that a model which reasons may think for before it answers; 2,048 if
            not given. One that has not come to an answer by then is cut off.

    Raises:
        OptionError: A value is out of its range.
    """

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    ignore_end: bool = False
    max_reasoning_tokens: int | None = None

    def __post_init__(self) -> None:
        check_number("max_tokens", self.max_tokens, whole=True)
        check_number("temperature", self.temperature)
        check_number("top_p", self.top_p)
        if self.max_tokens < 1:
            raise OptionError(f"max_tokens is {self.max_tokens}; an answer needs at least 1 token.")
        if self.max_reasoning_tokens is not None:
            check_number("max_reasoning_tokens", self.max_reasoning_tokens, whole=True)
        if self.max_reasoning_tokens is not None and self.max_reasoning_tokens < 1:
            raise OptionError(
                f"max_reasoning_tokens is {self.max_reasoning_tokens}; it is at least 1. What keeps a model "
                'from reasoning is an argument of its chat template, such as {"enable_thinking": false}.'
            )
        if not isfinite(self.temperature) or self.temperature < 0:
            raise OptionError(f"temperature is {self.temperature}; give 0 (greedy) or a number above it.")
        if self.temperature and not _LEAST_TEMPERATURE <= self.temperature <= _MOST_TEMPERATURE:
            raise OptionError(
                f"temperature is {self.temperature}, which no logits can be divided by; give 0 (greedy), or "
                f"from {_LEAST_TEMPERATURE:g} to {_MOST_TEMPERATURE:g}."
            )
        if not 0 < self.top_p <= 1:
            raise OptionError(f"top_p is {self.top_p}; give a number above 0 and up to 1.")
        if self.seed is not None:
            check_number("seed", self.seed, whole=True)
            if self.seed not in SEEDS:
                raise OptionError(f"seed is {self.seed}; give a whole number of 64 bits, such as 0.")
        if isinstance(self.stop, str) or not all(isinstance(one, str) and one for one in self.stop):
            raise OptionError("stop takes a list of strings, none of them empty.")

    def drawn_apart(self, by: int) -> Self:
        """The same with another seed, where there is one: batches that draw by one seed draw alike.

        Args:
            by: What tells one batch from another.
        """
        return self if self.seed is None else replace(self, seed=(self.seed + by) % SEEDS.stop)


def check_number(name: str, value: Any, *, whole: bool = False, least: float | None = None) -> None:
    """See that a value is a number: no text, neither True nor False, and not less than may be.

    Raises:
        OptionError: It is none.
    """
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise OptionError(f"{name} is {value!r}; give a {'whole number' if whole else 'number'}.")
    if least is not None and not value >= least:
        raise OptionError(f"{name} is {value}; it is at least {least}.")
