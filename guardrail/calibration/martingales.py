"""E-processes against the hypothesis that nothing has changed; they may be looked at after every answer.

An e-process starts at 1 and, as long as nothing has changed, is not expected to grow. By Ville's inequality
the probability that it *ever* reaches 1/a is then at most a, however often it is looked at.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from math import isfinite, log
from typing import Any, Self

__all__ = ["ErrorEProcess", "ShiftEProcess", "Wager"]


# Stakes on a p-value and on its distance from 1/2; each has mean 1/2.
_STAKES = (-1.5, 1.5)
# Alternative error rates, as multiples of the promised one.
_WORSE = (1.25, 1.5, 2.0, 3.0, 5.0)
# A longer stream starts a new epoch, so that a monitor can run for ever.
EPOCH = 50_000


@dataclass(slots=True)
class Wager:
    """Capital on several bets, part of it held back for a late change.

    At step t a share w(t) of the initial capital is invested, with Σ w(t) ≤ 1, so that a change after t
    answers is detected about log(1/w(t)) later than one at the start. The sum of martingales started at
    different times, and of the capital not yet invested, is a martingale (Shiryaev–Roberts, normalised).

    Attributes:
        capital: Capital of each bet.
        steps: Number of steps so far.
    """

    capital: list[float]
    steps: int = 0

    @property
    def value(self) -> float:
        """The e-value: all capital, including what is held back."""
        return sum(self.capital) + _held_back(self.steps)

    @classmethod
    def from_plain(cls, values: Mapping[str, Any], bets: int) -> Self:
        """A wager with the given capital and steps."""
        capital, steps = [float(one) for one in values["capital"]], int(values["steps"])
        if len(capital) != bets or steps < 0 or not all(isfinite(one) and one >= 0 for one in capital):
            raise ValueError(f"capital {capital} after {steps} steps")
        return cls(capital, steps)

    def play(self, factors: Sequence[float]) -> None:
        """Multiply each bet's capital by its factor, with expectation at most 1 if nothing changed."""
        brought_in = (_held_back(self.steps) - _held_back(self.steps + 1)) / len(self.capital)
        self.capital = [
            # Far above any alarm; the cap keeps the number finite for JSON.
            min((capital + brought_in) * factor, 1e100)
            for capital, factor in zip(self.capital, factors, strict=True)
        ]
        self.steps += 1


@dataclass(slots=True)
class ShiftEProcess:
    """E-process against one score still having its reference distribution.

    A conformal test martingale (Vovk, Gammerman & Shafer 2005, ch. 7; Vovk 2021): the rank of each value
    among the reference and all earlier values, ties broken at random, gives independent uniform p-values if
    reference and traffic are exchangeable. The finite size of the reference is accounted for.

    Attributes:
        reference: Sorted values of the reference.
        seed: Seed for breaking ties.
        wager: The bets on the p-values.
        seen: Sorted values of the traffic in this epoch.
        epoch: Number of the epoch, from 1.
        n: Number of values seen.
        highest: Largest e-value so far, weighted by its epoch's share of the false alarms.
    """

    reference: Sequence[float]
    seed: str
    wager: Wager = field(default_factory=lambda: Wager([0.0] * 2 * len(_STAKES)))
    seen: list[float] = field(default_factory=list)
    epoch: int = 1
    n: int = 0
    highest: float = 0.0

    def add(self, value: float) -> None:
        """Add a value of the traffic."""
        if len(self.seen) >= EPOCH:
            self.wager, self.seen, self.epoch = Wager([0.0] * 2 * len(_STAKES)), [], self.epoch + 1
        p_value = self._p_value(value)
        middle = abs(2 * p_value - 1)
        self.wager.play([1 + stake * (u - 0.5) for u in (p_value, middle) for stake in _STAKES])
        insort(self.seen, value)
        self.n += 1
        # Σ 1/(j(j+1)) = 1: all epochs together have the false-alarm rate of one.
        self.highest = max(self.highest, self.wager.value / (self.epoch * (self.epoch + 1)))

    def as_plain(self) -> dict[str, Any]:
        """The state as plain values for JSON."""
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
        """An e-process with the state returned by :meth:`as_plain`."""
        seen = sorted(float(one) for one in values["seen"])
        n, epoch, highest = int(values["n"]), int(values["epoch"]), float(values["highest"])
        if not all(map(isfinite, (*seen, highest))) or epoch < 1 or n < len(seen):
            raise ValueError(f"{len(seen)} values seen of {n}, epoch {epoch}, e-value {highest}")
        return cls(reference, seed, Wager.from_plain(values, 2 * len(_STAKES)), seen, epoch, n, highest)

    def _p_value(self, value: float) -> float:
        below = bisect_left(self.reference, value) + bisect_left(self.seen, value)
        up_to = bisect_right(self.reference, value) + bisect_right(self.seen, value)
        # By a hash, so that a restart continues identically.
        digest = blake2b(f"{self.seed} {self.n}".encode(), digest_size=8).digest()
        chance = int.from_bytes(digest) / 2**64
        return (below + chance * (up_to - below + 1)) / (len(self.reference) + len(self.seen) + 1)


@dataclass(slots=True)
class ErrorEProcess:
    """E-process against the accepted answers being wrong at most as often as promised.

    Likelihood ratios of worse error rates against the promised one; none is expected to grow while the
    conditional probability of an error is at most ``max_error`` (Waudby-Smith & Ramdas 2024).

    Attributes:
        max_error: The promised error rate.
        wager: The bets on worse rates.
        n: Number of accepted answers.
        errors: How many of them are wrong.
        highest: Largest e-value so far.
    """

    max_error: float
    wager: Wager = field(default_factory=lambda: Wager([0.0] * len(_WORSE)))
    n: int = 0
    errors: int = 0
    highest: float = 0.0

    def add(self, *, correct: bool) -> None:
        """Add an accepted answer."""
        self.wager.play([self._ratio(worse, correct) for worse in _WORSE])
        self.n += 1
        self.errors += not correct
        self.highest = max(self.highest, self.wager.value)

    def as_plain(self) -> dict[str, Any]:
        """The state as plain values for JSON."""
        return {
            "capital": self.wager.capital,
            "steps": self.wager.steps,
            "n": self.n,
            "errors": self.errors,
            "highest": self.highest,
        }

    @classmethod
    def from_plain(cls, max_error: float, values: Mapping[str, Any]) -> Self:
        """An e-process with the state returned by :meth:`as_plain`."""
        n, errors, highest = int(values["n"]), int(values["errors"]), float(values["highest"])
        if not (0 <= errors <= n and isfinite(highest)):
            raise ValueError(f"{errors} errors among {n} answers, e-value {highest}")
        return cls(max_error, Wager.from_plain(values, len(_WORSE)), n, errors, highest)

    def _ratio(self, worse: float, correct: bool) -> float:
        # Halfway to certain error if the multiple would exceed it.
        rate = min(worse * self.max_error, (1 + self.max_error) / 2)
        return (1 - rate) / (1 - self.max_error) if correct else rate / self.max_error


def _held_back(steps: int) -> float:
    """Share of the capital not invested after this many steps; falls slowly to 0."""
    return 1 / (1 + log(1 + steps / 50)) ** 2
