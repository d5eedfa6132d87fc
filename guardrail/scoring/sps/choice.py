"""Which position of the prompt preserves the meaning best, and how far that can be relied on."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from guardrail.scoring.sps.preservation import QueryStates, preservation

__all__ = ["LEVEL", "Choice", "choose"]

LEVEL = 0.95
_SAMPLES = 1000
# Samples drawn at once: their sums are held together.
_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Choice:
    """The position with the highest SPS in the upper half of the layers.

    Positions count from the end of the prompt, −1 for its last token.

    Attributes:
        position: The chosen one.
        score: Its mean SPS over the upper half.
        runner_up: The position next to it in score.
        margin: By how much the chosen one is ahead.
        low: Lower end of the margin's 95 % interval, by a bootstrap over queries.
        high: Upper end of it.
        wins: Share of the bootstrap's samples that each candidate won, by position.
    """

    position: int
    score: float
    runner_up: int
    margin: float
    low: float
    high: float
    wins: dict[int, float]


def choose(states: QueryStates, upper: slice, candidates: slice, seed: int = 0) -> Choice:
    """Choose among positions by their mean SPS over some layers, and draw the queries again a thousand times.

    Args:
        states: Of Q queries (… × L × N …).
        upper: The layers, normally the upper half.
        candidates: Which of the N positions may be chosen; two of them at least.
        seed: What the samples are drawn by.
    """
    count = states.within.shape[2]
    positions = np.arange(-count, 0)[candidates]
    some = QueryStates(states.means[:, upper, candidates], states.within[:, upper, candidates])
    scores = preservation(some).mean(0)
    # Among equals the one nearest to the answer.
    order = len(scores) - 1 - np.argsort(-scores[::-1], kind="stable")
    best, second = int(order[0]), int(order[1])
    drawn = _resampled(some, seed)
    winners = drawn.shape[1] - 1 - drawn[:, ::-1].argmax(1)
    margins = drawn[:, best] - drawn[:, second]
    low, high = np.quantile(margins, ((1 - LEVEL) / 2, (1 + LEVEL) / 2))
    won = np.bincount(winners, minlength=len(scores)) / len(drawn)
    return Choice(
        position=int(positions[best]),
        score=float(scores[best]),
        runner_up=int(positions[second]),
        margin=float(scores[best] - scores[second]),
        low=float(low),
        high=float(high),
        wins=dict(zip(positions.tolist(), won.tolist(), strict=True)),
    )


def _resampled(states: QueryStates, seed: int) -> NDArray[np.float64]:
    """Mean SPS over the layers in each sample of queries drawn with replacement (samples × positions)."""
    queries = len(states.means)
    drawn = np.random.default_rng(seed).multinomial(queries, [1 / queries] * queries, size=_SAMPLES)
    # A sample of one query alone has no different queries to compare.
    weights = drawn[(drawn > 0).sum(1) > 1].astype(np.float64)
    parts = (weights[at : at + _AT_ONCE] for at in range(0, len(weights), _AT_ONCE))
    return np.concatenate([preservation(states, part).mean(1) for part in parts])
