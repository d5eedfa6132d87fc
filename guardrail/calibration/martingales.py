"""Evidence against "nothing has changed", which may be looked at after every answer.

An e-process is a number that starts at 1 and, as long as nothing has changed, is not expected to grow; by
Ville's inequality the chance that it *ever* reaches 1/a is then at most a. No look is one too many.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from math import isfinite, log
from typing import Any, Self

__all__ = ["ErrorEvidence", "ShiftEvidence", "Wager"]


# Stakes on the mean of a p-value and on its distance from the middle, each of which is 1/2 on average.
_STAKES = (-1.5, 1.5)
# Error rates that are wagered on, as multiples of the one that was promised.
_WORSE = (1.25, 1.5, 2.0, 3.0, 5.0)
# A reference that has grown by this many answers is begun again, so that a monitor can run for ever.
EPOCH = 50_000


@dataclass(slots=True)
class Wager:
    """Capital on several bets, part of it held back for a change that comes late.

    At step t a share w(t) of the first capital is brought in, with Σ w(t) ≤ 1, so that a change after t
    answers is found about log(1/w(t)) later than one at the start. The sum of martingales begun at different
    times, and of the capital not yet brought in, is a martingale (Shiryaev–Roberts, normalised).

    Attributes:
        capital: Of each bet.
        steps: Made so far.
    """

    capital: list[float]
    steps: int = 0

    @property
    def value(self) -> float:
        """The e-value: all capital, with what is held back."""
        return sum(self.capital) + _held_back(self.steps)

    @classmethod
    def from_plain(cls, values: Mapping[str, Any], bets: int) -> Self:
        """A wager with the capital and steps that were kept."""
        capital, steps = [float(one) for one in values["capital"]], int(values["steps"])
        if len(capital) != bets or steps < 0 or not all(isfinite(one) and one >= 0 for one in capital):
            raise ValueError(f"capital {capital} after {steps} steps")
        return cls(capital, steps)

    def play(self, factors: Sequence[float]) -> None:
        """Multiply each bet's capital by its factor, whose expectation is at most 1 if nothing changed."""
        brought_in = (_held_back(self.steps) - _held_back(self.steps + 1)) / len(self.capital)
        self.capital = [
            # An alarm is raised long before this; it keeps the number one that JSON can hold.
            min((capital + brought_in) * factor, 1e100)
            for capital, factor in zip(self.capital, factors, strict=True)
        ]
        self.steps += 1


@dataclass(slots=True)
class ShiftEvidence:
    """Evidence that one score is no longer distributed as in the reference.

    A conformal test martingale (Vovk, Gammerman & Shafer 2005, ch. 7; Vovk 2021): the rank of each value
    among the reference and all values before it, ties broken by chance, gives p-values that are independent
    and uniform if reference and traffic are exchangeable. That the reference is finite is accounted for.

    Attributes:
        reference: Sorted values of the reference.
        seed: What ties are broken by.
        wager: On the p-values.
        seen: Sorted values of the traffic since the epoch began.
        epoch: Counts from 1.
        n: Values seen in all.
        highest: Largest e-value so far, times the share of all alarms that its epoch may raise.
    """

    reference: Sequence[float]
    seed: str
    wager: Wager = field(default_factory=lambda: Wager([0.0] * 2 * len(_STAKES)))
    seen: list[float] = field(default_factory=list)
    epoch: int = 1
    n: int = 0
    highest: float = 0.0

    def add(self, value: float) -> None:
        """Take one more value of the traffic into account."""
        if len(self.seen) >= EPOCH:
            self.wager, self.seen, self.epoch = Wager([0.0] * 2 * len(_STAKES)), [], self.epoch + 1
        p_value = self._p_value(value)
        middle = abs(2 * p_value - 1)
        self.wager.play([1 + stake * (u - 0.5) for u in (p_value, middle) for stake in _STAKES])
        insort(self.seen, value)
        self.n += 1
        # Σ 1/(j(j+1)) = 1: all epochs together raise no more false alarms than one would.
        self.highest = max(self.highest, self.wager.value / (self.epoch * (self.epoch + 1)))

    def as_plain(self) -> dict[str, Any]:
        """State as plain values for JSON."""
        return {
            "capital": self.wager.capital,
            "steps": self.wager.steps,
            "seen": self.seen,
            "epoch": self.epoch,
            "n": self.n,
            "highest": self.highest,
        }

    @classmethod
    def from_plain(cls, reference: Sequence[float], seed: str, values: Mapping[str, Any]) -> Self:
        """Evidence with the state that :meth:`as_plain` gave."""
        seen = sorted(float(one) for one in values["seen"])
        n, epoch, highest = int(values["n"]), int(values["epoch"]), float(values["highest"])
        if not all(map(isfinite, (*seen, highest))) or epoch < 1 or n < len(seen):
            raise ValueError(f"{len(seen)} values seen of {n}, epoch {epoch}, e-value {highest}")
        return cls(reference, seed, Wager.from_plain(values, 2 * len(_STAKES)), seen, epoch, n, highest)

    def _p_value(self, value: float) -> float:
        below = bisect_left(self.reference, value) + bisect_left(self.seen, value)
        up_to = bisect_right(self.reference, value) + bisect_right(self.seen, value)
        # By a hash, so that a restart goes on as it would have.
        digest = blake2b(f"{self.seed} {self.n}".encode(), digest_size=8).digest()
        chance = int.from_bytes(digest) / 2**64
        return (below + chance * (up_to - below + 1)) / (len(self.reference) + len(self.seen) + 1)


@dataclass(slots=True)
class ErrorEvidence:
    """Evidence that the answers let through are wrong more often than was promised.

    Likelihood ratios of worse error rates against the promised one: each is not expected to grow while the
    chance of an error, given all before it, is at most ``max_error`` (Waudby-Smith & Ramdas 2024).

    Attributes:
        max_error: What was promised.
        wager: On worse rates.
        n: Answers let through.
        errors: Wrong ones among them.
        highest: Largest e-value so far.
    """

    max_error: float
    wager: Wager = field(default_factory=lambda: Wager([0.0] * len(_WORSE)))
    n: int = 0
    errors: int = 0
    highest: float = 0.0

    def add(self, *, correct: bool) -> None:
        """Take one more answer that was let through into account."""
        self.wager.play([self._ratio(worse, correct) for worse in _WORSE])
        self.n += 1
        self.errors += not correct
        self.highest = max(self.highest, self.wager.value)

    def as_plain(self) -> dict[str, Any]:
        """State as plain values for JSON."""
        return {
            "capital": self.wager.capital,
            "steps": self.wager.steps,
            "n": self.n,
            "errors": self.errors,
            "highest": self.highest,
        }

    @classmethod
    def from_plain(cls, max_error: float, values: Mapping[str, Any]) -> Self:
        """Evidence with the state that :meth:`as_plain` gave."""
        n, errors, highest = int(values["n"]), int(values["errors"]), float(values["highest"])
        if not (0 <= errors <= n and isfinite(highest)):
            raise ValueError(f"{errors} errors among {n} answers, e-value {highest}")
        return cls(max_error, Wager.from_plain(values, len(_WORSE)), n, errors, highest)

    def _ratio(self, worse: float, correct: bool) -> float:
        # Halfway to certain error, where the multiple would be beyond it.
        rate = min(worse * self.max_error, (1 + self.max_error) / 2)
        return (1 - rate) / (1 - self.max_error) if correct else rate / self.max_error


def _held_back(steps: int) -> float:
    """Share of the capital that comes in after so many steps: falls slowly to 0."""
    return 1 / (1 + log(1 + steps / 50)) ** 2
