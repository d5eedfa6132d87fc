"""What the answers show: how well each method tells right from wrong, for each kind of question."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from experiments.controlled_world.asking import Answer, Interview, Setting
from experiments.controlled_world.facts import WorldOptions
from guardrail.metrics.confidence_quality import auroc
from guardrail.metrics.intervals import LEVEL, divide, ends, in_order

__all__ = ["GROUPS", "METHODS", "AveragedFigure", "Comparison", "Method", "compare", "weighted_auroc"]

_RESAMPLES = 1000
_LEAST = 5

Array = NDArray[np.float64]
Filter = Callable[[Answer], bool]


class Method(NamedTuple):
    """A score of guardrail by its name, as tables show it, and whether it goes up with uncertainty."""

    score: str
    title: str
    up: bool = True


METHODS = (
    Method("semgrad", "SemGrad"),
    Method("paragrad", "ParaGrad"),
    Method("exgrad", "ExGrad"),
    Method("hybridgrad", "HybridGrad"),
    Method("mean_entropy", "mean entropy"),
    Method("max_entropy", "largest entropy"),
    Method("sum_entropy", "summed entropy"),
    Method("log_likelihood", "log-likelihood", up=False),
    Method("perplexity", "perplexity"),
)


def _knows_none(answer: Answer) -> bool:
    return answer.frequency == "never" and not answer.correct


def _knows(answer: Answer, *, several: bool) -> bool:
    return answer.frequency == "often" and answer.correct and (answer.right_answers > 1) == several


def _several_or_none(answer: Answer) -> bool:
    return _knows(answer, several=True) or _knows_none(answer)


def _of_pool(pool: int) -> Filter:
    return lambda answer: _several_or_none(answer) and answer.pool == pool


GROUPS: Mapping[str, Filter] = {
    "one right answer": lambda a: a.right_answers == 1,
    "several right answers": lambda a: a.right_answers > 1,
    "all questions": lambda _: True,
    "told often": lambda a: a.frequency == "often",
    "told rarely": lambda a: a.frequency == "rarely",
    "never told": lambda a: a.frequency == "never",
    "single tokens": lambda a: not a.is_name,
    "names of 2–3 tokens": lambda a: a.is_name,
    # Without luck: right answers about facts told often, against wrong ones about facts never told.
    "knows one or none": lambda a: _knows(a, several=False) or _knows_none(a),
    "knows several or none": _several_or_none,
    "knows several or none, single tokens": lambda a: _several_or_none(a) and not a.is_name,
    "knows several or none, names": lambda a: _several_or_none(a) and a.is_name,
    **{f"knows several or none, of {pool}": _of_pool(pool) for pool in WorldOptions().pools},
}


@dataclass(frozen=True, slots=True)
class AveragedFigure:
    """A figure as a mean over worlds.

    Attributes:
        value: The mean.
        low: Lower end of its 95 % interval: facts are drawn again within each world (a clustered bootstrap).
        high: Upper end of it.
        spread: Standard deviation between the worlds; None for one world.
        n: Answers, of all worlds.
        facts: Facts that they are about.
    """

    value: float
    low: float
    high: float
    spread: float | None
    n: int
    facts: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Methods on one group of answers.

    Attributes:
        correct: Share of right answers.
        auroc: Of each method, by its score's name.
        ahead: By how much each method's AUROC is ahead of mean entropy's, paired by answers and draws.
    """

    correct: float
    auroc: Mapping[str, AveragedFigure]
    ahead: Mapping[str, AveragedFigure]


class _Sample:
    """A group's answers in one world, as the bootstrap wants them."""

    def __init__(self, answers: Sequence[Answer], setting: Setting) -> None:
        self.correct = np.array([answer.correct for answer in answers])
        self.confidences = np.array(
            [[_confidence(answer.scores[setting], method) for answer in answers] for method in METHODS]
        )
        facts, self.fact_of = np.unique([answer.fact for answer in answers], return_inverse=True)
        self.facts = len(facts)

    @property
    def rarer(self) -> int:
        """How many are right, or wrong where those are fewer."""
        return int(min(self.correct.sum(), (~self.correct).sum()))

    def values(self) -> Array:
        """AUROC of each method."""
        return auroc(self.confidences, np.broadcast_to(self.correct, self.confidences.shape))

    def drawn(self, seed: int) -> Array:
        """AUROC of each method when facts are drawn with replacement (resamples × methods)."""
        draws = np.random.default_rng(seed).multinomial(
            self.facts, [1 / self.facts] * self.facts, size=_RESAMPLES
        )
        weights = draws[:, self.fact_of].astype(np.float64)
        return np.stack([weighted_auroc(row, self.correct, weights) for row in self.confidences], axis=1)


def weighted_auroc(confidence: Array, correct: NDArray[np.bool_], weights: Array) -> Array:
    """AUROC of answers that count several times each, or not at all, as when facts are drawn.

    Sorting once is enough for every draw, which is what makes a thousand of them cheap.

    Args:
        confidence: Goes up when the model is surer (n).
        correct: Whether each answer is right (n).
        weights: How often each answer counts (draws × n).

    Returns:
        One for each draw; NaN where it holds right answers only, or wrong ones only.
    """
    order, first, last = in_order(confidence)
    right, wrong = weights[:, order] * correct[order], weights[:, order] * ~correct[order]
    # How many wrong answers are surer than the first k; at each place, those tied with it count half.
    surer = np.concatenate([np.zeros((len(weights), 1)), np.cumsum(wrong, axis=1)], axis=1)
    lost = (right * (surer[:, first] + surer[:, last + 1]) / 2).sum(1)
    return 1 - divide(lost, right.sum(1) * wrong.sum(1))


def _confidence(scores: Mapping[str, float], method: Method) -> float:
    return -scores[method.score] if method.up else scores[method.score]


def compare(
    interviews: Sequence[Interview], wanted: Filter, settings: Sequence[Setting]
) -> Comparison | None:
    """Compare all methods on a group of answers.

    A world with fewer than five right or five wrong answers among them says nothing and is left out.

    Args:
        interviews: One a world.
        wanted: Which answers.
        settings: How they were scored, one for each world.

    Returns:
        None where every world is left out.
    """
    samples = [
        _Sample([answer for answer in interview.answers if wanted(answer)], setting)
        for interview, setting in zip(interviews, settings, strict=True)
    ]
    samples = [sample for sample in samples if sample.rarer >= _LEAST]
    if not samples:
        return None
    values = np.array([sample.values() for sample in samples])
    drawn = np.mean([sample.drawn(seed) for seed, sample in enumerate(samples)], axis=0)
    n = sum(len(sample.correct) for sample in samples)
    facts = sum(sample.facts for sample in samples)
    entropy = [method.score for method in METHODS].index("mean_entropy")

    def figures(values: Array, drawn: Array) -> dict[str, AveragedFigure]:
        found = {}
        for at, method in enumerate(METHODS):
            column = drawn[:, at]
            low, high = ends(column[~np.isnan(column)], LEVEL)
            spread = float(values[:, at].std(ddof=1)) if len(values) > 1 else None
            found[method.score] = AveragedFigure(float(values[:, at].mean()), low, high, spread, n, facts)
        return found

    return Comparison(
        correct=float(np.mean(np.concatenate([sample.correct for sample in samples]))),
        auroc=figures(values, drawn),
        ahead=figures(values - values[:, [entropy]], drawn - drawn[:, [entropy]]),
    )
