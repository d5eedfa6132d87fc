"""A betting test of two samples: is traffic drawn from what the states of a profile were drawn from?

After every tenth answer logistic classifiers learn to tell states of the traffic from states of the profile.
Each new answer is then paired with a *fresh* state of the profile, one that no classifier and no earlier bet
of this epoch has seen, and money is put on the answer's logit being the higher one: the capital is multiplied
by 1 + 0.8 · tanh of half the difference.

**The bet is fair.** If nothing has changed, the new answer and the fresh state are exchangeable given all
that the classifier and the earlier bets were made of, so their difference and its negative are equally
likely; and since the factor is 1 plus an odd function of the difference, its mean given the past is 1. So the
capital is a test martingale, and by Ville's inequality it reaches c with probability at most 1/c, however
long one looks.

**When the fresh states are used up**, a new epoch begins with all states in a new order and with capital 1. A
state is fresh at most once in an epoch, and the classifiers of an epoch start from states set aside for them
and from the traffic, never from what earlier epochs learned of states that are now fresh: given the traffic
so far, which tells nothing of the profile's states, each epoch's capital is a test martingale of its own.
Their capitals are never multiplied together. Epoch j has the share 1/(j(j+1)) of all false alarms, and since
these add up to 1, all epochs for ever have those of one. A late change so costs more evidence (at the 20th
epoch e-values of 42,000 instead of 200, about a dozen answers), and not, as with states that are rationed, a
delay that grows with the length of the stream.

Half of an epoch's capital is put down at once and half evenly over its bets, so that a change in the midst of
an epoch finds capital that was not yet lost. Of the two classifiers one knows the last 40 answers, which
shows a change soon, and one the last 200, which shows a smaller one; each has half.
"""

from base64 import b64decode, b64encode
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Annotated, Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from guardrail.errors import CalibrationError
from guardrail.utils.record_store import FiniteFloat, FrozenModel

__all__ = ["CLASSIFIERS", "EVERY", "Classifier", "TwoSampleTest", "factors", "logistic"]

FloatArray = NDArray[np.float64]

# Answers between two lessons of the classifiers; none is bet on before the first.
EVERY = 10
_STAKE = 0.8
# Share of the states that the classifiers of an epoch start from.
_SET_ASIDE = 1 / 3
# Share of an epoch's capital that is put down over its bets, and not at once.
_HELD_BACK = 0.5
_NEWTON_STEPS = 4
# Far above any alarm; keeps the number finite for JSON.
_MOST = 1e100


class Classifier(NamedTuple):
    """How one of the classifiers learns.

    Attributes:
        window: How many of the latest answers it knows.
        ridge: Penalty of its weights; states have a mean square of about 1.
    """

    window: int
    ridge: float


CLASSIFIERS = (Classifier(40, 0.5), Classifier(200, 0.1))
_WINDOW = max(one.window for one in CLASSIFIERS)


def logistic(reference: FloatArray, traffic: FloatArray, ridge: float) -> FloatArray:
    """Weights of a ridge-penalised logistic classifier of two samples that count alike.

    Without the intercept, which is the same for both members of a pair. Leading axes are streams.
    """
    rows = np.concatenate([reference, traffic], axis=-2)
    rows = np.concatenate([rows, np.ones((*rows.shape[:-1], 1))], axis=-1)
    *streams, n, columns = rows.shape
    ours, theirs = reference.shape[-2], traffic.shape[-2]
    is_traffic = np.arange(n) >= ours
    counts = np.where(is_traffic, n / (2 * theirs), n / (2 * ours))
    penalty = np.full(columns, ridge)
    # The intercept is free, but for what keeps the equations solvable.
    penalty[-1] = 1e-9
    weights = np.zeros((*streams, columns))
    transposed = rows.swapaxes(-1, -2)
    for _ in range(_NEWTON_STEPS):
        # As a hyperbolic tangent, which does not overflow.
        chances = 0.5 * (1 + np.tanh(0.5 * (rows @ weights[..., None])[..., 0]))
        slope = (transposed @ (counts * (is_traffic - chances))[..., None])[..., 0] - penalty * weights
        spread = counts * chances * (1 - chances)
        curvature = transposed @ (rows * spread[..., None]) + np.diag(penalty)
        weights = weights + np.linalg.solve(curvature, slope[..., None])[..., 0]
    if not np.isfinite(weights).all():
        raise CalibrationError("The states of the answers so far could not be compared with the profile's.")
    return weights[..., :-1]


def factors(weights: FloatArray, state: FloatArray, fresh: FloatArray) -> FloatArray:
    """By what each classifier's capital is multiplied: 1 plus an odd function of state − fresh."""
    difference = (weights @ (state - fresh)[..., None])[..., 0]
    return np.asarray(1 + _STAKE * np.tanh(0.5 * difference))


class _State(FrozenModel):
    """A test as plain values."""

    n: Annotated[int, Field(ge=0, strict=True)]
    highest: Annotated[FiniteFloat, Field(ge=0)]
    capital: Annotated[tuple[Annotated[FiniteFloat, Field(ge=0)], ...], Field(max_length=len(CLASSIFIERS))]
    weights: str
    seen: str


@dataclass(slots=True)
class TwoSampleTest:
    """The test on one stream of answers. Deterministic: a restart goes on identically.

    Leading axes of the reference are several streams, each with a profile of its own, that run side by side.

    Attributes:
        reference: States of the profile (m × width).
        seed: Decides in which order states are fresh.
        n: Number of answers seen.
        highest: Largest e-value so far, weighted by its epoch's share of the false alarms.
        capital: Capital of each classifier in this epoch.
        weights: Weights of each classifier; None before the first lesson.
        seen: The latest states of the traffic.
    """

    reference: FloatArray
    seed: str
    n: int = 0
    highest: float = 0.0
    capital: FloatArray = field(init=False)
    weights: FloatArray | None = None
    seen: "deque[FloatArray]" = field(default_factory=lambda: deque(maxlen=_WINDOW))
    _orders: dict[int, NDArray[np.int64]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.capital = self._at_first()

    @property
    def aside(self) -> int:
        """How many states the classifiers of an epoch start from."""
        return round(_SET_ASIDE * int(self.reference.shape[-2]))

    @property
    def length(self) -> int:
        """Bets of an epoch: as many as it has fresh states."""
        return int(self.reference.shape[-2]) - self.aside

    def add(self, state: FloatArray) -> None:
        """Add the state of an answer."""
        if self.weights is not None:
            self._bet(state, self.weights)
        self.seen.append(state)
        self.n += 1
        epoch, bets = self._place()
        if epoch > 1 and not bets:
            self.capital = self._at_first()
            self._learn(epoch, bets)
        elif self.n % EVERY == 0:
            self._learn(epoch, bets)

    def _bet(self, state: FloatArray, weights: FloatArray) -> None:
        epoch, bets = self._place()
        fresh = self.reference[..., self._order(epoch)[self.aside + bets], :]
        put_down = self.capital + _HELD_BACK / self.length
        self.capital = np.minimum(put_down * factors(weights, state, fresh), _MOST)
        left = _HELD_BACK * (1 - (bets + 1) / self.length)
        e_value = self.capital.mean(axis=-1) + left
        self.highest = np.maximum(self.highest, e_value / (epoch * (epoch + 1)))

    def _learn(self, epoch: int, bets: int) -> None:
        # The fresh states of earlier bets are used up, and may be learned from.
        known = self.reference[..., self._order(epoch)[: self.aside + bets], :]
        seen = np.stack(self.seen, axis=-2)
        weights = [logistic(known, seen[..., -one.window :, :], one.ridge) for one in CLASSIFIERS]
        self.weights = np.stack(weights, axis=-2)

    def _place(self) -> tuple[int, int]:
        """The epoch of the next bet, from 1, and how many it has had: one for each answer but the first."""
        epoch, bets = divmod(max(0, self.n - EVERY), self.length)
        return epoch + 1, bets

    def _order(self, epoch: int) -> NDArray[np.int64]:
        if epoch not in self._orders:
            ranks = [
                blake2b(f"{self.seed} {epoch} {at}".encode(), digest_size=8).digest()
                for at in range(self.reference.shape[-2])
            ]
            self._orders = {epoch: np.array(sorted(range(len(ranks)), key=ranks.__getitem__))}
        return self._orders[epoch]

    def as_plain(self) -> dict[str, Any]:
        """The state as plain values for JSON."""
        state = _State(
            n=self.n,
            highest=float(self.highest),
            capital=tuple(self.capital.tolist()),
            weights="" if self.weights is None else _packed(self.weights, "<f8"),
            seen=_packed(np.array(self.seen), "<f2"),
        )
        return state.model_dump(mode="json")

    @classmethod
    def from_plain(cls, reference: FloatArray, seed: str, values: Mapping[str, Any]) -> Self:
        """A test with the state returned by :meth:`as_plain`.

        Raises:
            ValueError: The values are none that it can have.
        """
        state = _State.model_validate(values)
        width = reference.shape[1]
        seen, weights = _unpacked(state.seen, "<f2"), _unpacked(state.weights, "<f8")
        learned = len(CLASSIFIERS) * width if state.n >= EVERY else 0
        sizes = (len(state.capital), seen.size, weights.size)
        if sizes != (len(CLASSIFIERS), min(state.n, _WINDOW) * width, learned):
            raise ValueError(f"{sizes} numbers after {state.n} answers")
        test = cls(
            reference,
            seed,
            n=state.n,
            highest=state.highest,
            weights=weights.reshape(len(CLASSIFIERS), width) if learned else None,
            seen=deque(seen.reshape(-1, width), maxlen=_WINDOW),
        )
        test.capital = np.array(state.capital)
        return test

    def _at_first(self) -> FloatArray:
        return np.full((*self.reference.shape[:-2], len(CLASSIFIERS)), 1 - _HELD_BACK)


def _packed(values: FloatArray, kind: str) -> str:
    return b64encode(values.astype(kind).tobytes()).decode()


def _unpacked(text: str, kind: str) -> FloatArray:
    values = np.frombuffer(b64decode(text, validate=True), dtype=kind).astype(np.float64)
    if not np.isfinite(values).all():
        raise ValueError("a number is not finite")
    return values
