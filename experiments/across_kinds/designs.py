"""Ways of making a confidence of the scores and the hidden state of an answer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from experiments.across_kinds.reading import Kind
from guardrail.calibration.features import read_inputs

__all__ = ["DESIGNS", "SINGLE", "Columns", "Design", "columns_of"]

FloatArray = NDArray[np.float64]
# Of these more is surer; of all other scores less is.
_SURER_UP = ("log_likelihood", "min_token_probability")

# Single scores, which learn nothing. The largest entropy is the one that others are compared with.
SINGLE = ("max_entropy", "mean_entropy", "perplexity", "min_token_probability", "hybridgrad", "semgrad")


@dataclass(frozen=True, slots=True)
class Columns:
    """Answers of one kind as arrays.

    Attributes:
        signals: Logarithms of scores, up is surer, (n, scores).
        names: Their names.
        mean: Hidden state, mean over the response, (n, d).
        last: Hidden state at the last token, (n, d).
        correct: Labels, (n,).
        fold: Fold of each, (n,).
    """

    signals: FloatArray
    names: tuple[str, ...]
    mean: FloatArray
    last: FloatArray
    correct: NDArray[np.bool_]
    fold: NDArray[np.int64]

    def take(self, rows: NDArray[np.bool_]) -> "Columns":
        """Those of some answers."""
        return Columns(
            self.signals[rows],
            self.names,
            self.mean[rows],
            self.last[rows],
            self.correct[rows],
            self.fold[rows],
        )


def columns_of(kind: Kind) -> Columns:
    """The answers of a kind as arrays."""
    inputs = read_inputs([answer.observation for answer in kind.answers])
    if inputs.hidden is None:
        raise ValueError(f"{kind.name} has no hidden states")
    names = tuple(term.score for term in inputs.terms)
    # The logarithm of a negated log-likelihood goes up with uncertainty.
    sign = np.array([1.0 if name == "min_token_probability" else -1.0 for name in names])
    mean, last = np.hsplit(inputs.hidden.astype(np.float64), 2)
    return Columns(inputs.signals * sign, names, mean, last, kind.correct, kind.fold)


@dataclass(frozen=True, slots=True)
class Design:
    """A penalised logistic regression on scores and principal directions of the hidden state.

    Attributes:
        name: As tables show it.
        directions: How many directions of the state it reads; 0 for none.
        scores: The scores it reads; empty for all.
        penalty: On half the squared weights of standardised columns, against the sum of the losses.
        signs_held: A score may only count in the direction that it should.
        within: ``intercepts``, one for each kind while fitting, so that a contrast within kinds is learned;
            ``means``, each kind's mean is subtracted as well; or ``no``, for neither.
        state: ``mean`` over the response, or ``both``, that and the last token.
    """

    name: str
    directions: int = 48
    scores: tuple[str, ...] = ()
    penalty: float = 30.0
    signs_held: bool = False
    within: Literal["intercepts", "means", "no"] = "intercepts"
    state: str = "mean"

    def fit(self, kinds: Sequence[Columns]) -> Callable[[Columns], FloatArray]:
        """Learn from kinds of answers, and give what ranks others: up is surer."""
        kind = np.repeat(np.arange(len(kinds)), [len(one.correct) for one in kinds])
        correct = np.concatenate([one.correct for one in kinds])

        def centred(values: FloatArray) -> FloatArray:
            if self.within != "means":
                whole: FloatArray = values - values.mean(0)
                return whole
            return np.concatenate(
                [values[kind == at] - values[kind == at].mean(0) for at in range(len(kinds))]
            )

        signals = centred(np.concatenate([self._signals(one) for one in kinds]))
        of_signals = 1 / np.maximum(signals.std(0), 1e-9)
        x = signals * of_signals
        to_columns = np.empty((0, 0))
        if self.directions:
            states = centred(np.concatenate([self._states(one) for one in kinds]))
            spread = np.maximum(states.std(0), 1e-6)
            directions = np.linalg.svd(states / spread, full_matrices=False)[2][: self.directions].T
            values = (states / spread) @ directions
            to_columns = directions / spread[:, None] / values.std(0)
            x = np.hstack([x, states @ to_columns])
        groups = np.zeros_like(kind) if self.within == "no" else kind
        held = signals.shape[1] if self.signs_held else 0
        weights, levels = _logistic(x, correct, groups, self.penalty, held)

        def ranked(others: Columns) -> FloatArray:
            total: FloatArray = self._signals(others) @ (of_signals * weights[: signals.shape[1]])
            if self.directions:
                total += self._states(others) @ (to_columns @ weights[signals.shape[1] :])
            return total

        # Fits of different folds are compared: each must have its level.
        offset = np.concatenate([ranked(one) for one in kinds]).mean() - levels[groups].mean()
        return lambda others: ranked(others) - offset

    def _signals(self, kind: Columns) -> FloatArray:
        rows = [kind.names.index(name) for name in self.scores or kind.names]
        return kind.signals[:, rows]

    def _states(self, kind: Columns) -> FloatArray:
        return kind.mean if self.state == "mean" else np.hstack([kind.mean, kind.last])


def _logistic(
    x: FloatArray, correct: NDArray[np.bool_], group: NDArray[np.int64], penalty: float, held: int
) -> tuple[FloatArray, FloatArray]:
    """Weights and an intercept for each group; the first ``held`` weights are not negative."""
    count, groups = x.shape[1], int(group.max()) + 1
    sign = np.where(correct, 1.0, -1.0)

    def loss(parameters: FloatArray) -> tuple[float, FloatArray]:
        weights, levels = parameters[:count], parameters[count:]
        margin = sign * (x @ weights + levels[group])
        slope = -sign * expit(-margin)
        value = np.logaddexp(0, -margin).sum() + penalty / 2 * weights @ weights
        gradient = [x.T @ slope + penalty * weights, np.bincount(group, slope, groups)]
        return float(value), np.concatenate(gradient)

    bounds = [(0.0, None)] * held + [(None, None)] * (count - held + groups)
    found = minimize(loss, np.zeros(count + groups), jac=True, method="L-BFGS-B", bounds=bounds)
    return found.x[:count], found.x[count:]


_ENTROPIES = ("mean_entropy", "max_entropy")
_FEW = ("hybridgrad", "perplexity", *_ENTROPIES)

# The first is the one that was chosen; of the others each differs in one or two things.
DESIGNS = (
    Design("all scores and 48 directions"),
    Design("all scores", directions=0),
    Design("all scores, signs held", directions=0, signs_held=True),
    Design("two entropies", directions=0, scores=_ENTROPIES),
    Design("24 directions", directions=24),
    Design("32 directions", directions=32),
    Design("64 directions", directions=64),
    Design("96 directions", directions=96),
    Design("penalty 10", penalty=10.0),
    Design("penalty 100", penalty=100.0),
    Design("signs held", signs_held=True),
    Design("no contrast within kinds", within="no"),
    Design("signs held, means of kinds subtracted", signs_held=True, within="means"),
    Design("two entropies and 32 directions", 32, _ENTROPIES, signs_held=True, within="means"),
    Design("two entropies and 96 directions", 96, _ENTROPIES, signs_held=True, within="means"),
    Design("four scores and 48 directions", scores=_FEW),
    Design(
        "no gradients",
        scores=(
            "mean_entropy",
            "max_entropy",
            "sum_entropy",
            "log_likelihood",
            "perplexity",
            "min_token_probability",
            "tokens",
        ),
    ),
    Design("with the state at the last token", state="both"),
)
