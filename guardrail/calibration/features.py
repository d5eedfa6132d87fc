"""Features of a confidence: scores and hidden states as arrays, and linear models over them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

from guardrail.calibration.confidence import ConfidenceModel, Probe, Term
from guardrail.calibration.options import InputsChoice
from guardrail.errors import CalibrationError
from guardrail.scoring.uncertainty import DOCUMENT_GAIN, SCORES, Observation

__all__ = ["INPUTS", "Inputs", "Linear", "LinearSum", "available", "fit_logistic", "fit_sum", "read_inputs"]


FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

# From simple to rich.
INPUTS: tuple[InputsChoice, ...] = ("hybridgrad", "signals", "probe")
# All scores span decades, and so does the answer's length.
_TRANSFORMS = dict.fromkeys((*SCORES, "tokens"), "log") | {
    "log_likelihood": "log_negative",
    # Negative where the document made the answer less likely.
    DOCUMENT_GAIN: "identity",
}


@dataclass(frozen=True, slots=True)
class Inputs:
    """Features, one row per answer.

    Attributes:
        terms: The scores that every answer has, each with weight 1.
        signals: Their values (n × terms).
        hidden: [mean, last] of the hidden state (n × 2d); None if answers lack it or differ in depth.
        depth: Depth of the hidden state.
        kinds: Number of the kind of question, 0 for those that name none (n).
    """

    terms: tuple[Term, ...]
    signals: FloatArray
    hidden: NDArray[np.float32] | None
    depth: float
    kinds: NDArray[np.int64]

    def take(self, rows: NDArray[np.int64]) -> "Inputs":
        """The rows of some answers."""
        hidden = None if self.hidden is None else self.hidden[rows]
        return replace(self, signals=self.signals[rows], hidden=hidden, kinds=self.kinds[rows])


@dataclass(frozen=True, slots=True)
class LinearSum:
    """A confidence model as arrays: intercept + signals · weights + hidden · probe.

    Attributes:
        intercept: The constant term.
        weights: A weight for each of the inputs' terms.
        probe: A weight for each value of the hidden state; None without a probe.
    """

    intercept: float
    weights: FloatArray
    probe: FloatArray | None = None

    def scores(self, inputs: Inputs, rows: NDArray[np.int64]) -> FloatArray:
        """The sum for these answers."""
        total: FloatArray = self.intercept + inputs.signals[rows] @ self.weights
        if self.probe is not None and inputs.hidden is not None:
            total += inputs.hidden[rows] @ self.probe
        return total

    def as_model(self, kind: InputsChoice, inputs: Inputs) -> ConfidenceModel:
        """The sum as plain data, without terms of weight 0."""
        terms = [
            term.model_copy(update={"weight": float(weight)})
            for term, weight in zip(inputs.terms, self.weights, strict=True)
        ]
        probe = None
        if self.probe is not None:
            probe = Probe.of(inputs.depth, self.probe.tolist(), bias=0.0)
        return ConfidenceModel.model_validate(
            {
                "inputs": kind,
                "intercept": self.intercept,
                "terms": [term for term in terms if term.weight] or terms[:1],
                "probe": probe,
            }
        )


def read_inputs(observations: Sequence[Observation], kinds: Sequence[str] = ()) -> Inputs:
    """Arrange the observations as features.

    Args:
        observations: What a pass told of each answer.
        kinds: Kind of question of each, empty for those that name none; by default none does.

    Raises:
        CalibrationError: HybridGrad is missing or not finite in one of them.
    """
    for at, observation in enumerate(observations):
        if not isfinite(observation.scores.get("hybridgrad", float("nan"))):
            raise CalibrationError(
                f"Answer {at + 1} of {len(observations)} has no finite HybridGrad. Leave it out, or score it "
                "again."
            )
    terms = []
    columns = []
    for name, transform in _TRANSFORMS.items():
        if all(isfinite(observation.scores.get(name, float("nan"))) for observation in observations):
            terms.append(Term.model_validate({"score": name, "transform": transform, "weight": 1.0}))
            columns.append([terms[-1].value(observation.scores) for observation in observations])
    states = [observation.hidden for observation in observations]
    shapes = {(one.depth, len(one.mean), len(one.last)) if one else None for one in states}
    hidden, depth = None, 0.0
    if len(shapes) == 1 and None not in shapes:
        rows = [(*one.mean, *one.last) for one in states if one]
        hidden, depth = np.array(rows, dtype=np.float32), states[0].depth if states[0] else 0.0
        if not np.isfinite(hidden).all():
            raise CalibrationError("The hidden state of an answer is not finite. Leave that answer out.")
    numbers = {kind: at for at, kind in enumerate(["", *sorted({*kinds} - {""})])}
    of_each = np.array([numbers[kind] for kind in kinds or [""] * len(observations)], dtype=np.int64)
    return Inputs(tuple(terms), np.array(columns, dtype=np.float64).T, hidden, depth, of_each)


def available(inputs: Inputs, asked: InputsChoice) -> tuple[InputsChoice, ...]:
    """The inputs to try, from simple to rich.

    Raises:
        CalibrationError: A probe was requested, but there are no hidden states for it.
    """
    if asked == "probe" and inputs.hidden is None:
        raise CalibrationError(
            "A probe needs the hidden state of every answer at the same depth, but not every answer has one. "
            "Score the answers with a depth, or leave the probe out."
        )
    if asked != "auto":
        return (asked,)
    return INPUTS if inputs.hidden is not None else INPUTS[:-1]


# Directions of the hidden state that a probe reads, and the penalty on squared weights (see fit_logistic).
# docs/explanation/results.md, "Across kinds of questions", has what else was tried.
_DIRECTIONS = 48
_PENALTY = 30.0
# The intercept of a kind is hardly held back; one of fewer answers has none of its own.
_PENALTY_OF_KINDS = 0.3
_LEAST_OF_A_KIND = 20


class Linear(NamedTuple):
    """intercept + x · weights, in the units of the data it was fitted on."""

    weights: FloatArray
    intercept: float


def fit_logistic(
    x: FloatArray, correct: BoolArray, *, penalty: float = _PENALTY, beside: FloatArray | None = None
) -> Linear:
    """Logistic regression on standardised columns.

    Args:
        x: n × m; a constant column gets no weight.
        correct: The labels.
        penalty: Penalty on half the squared weights relative to the summed loss (1/C).
        beside: Further columns of mean 0, which are fitted beside the others, nearly without a penalty, and
            left out of what is returned (n × k).

    Raises:
        CalibrationError: All labels are the same.
    """
    if correct.all() or not correct.any():
        raise CalibrationError(
            "The right or the wrong answers belong to too few different questions to learn from some and "
            "test on "
            "others. More questions are needed."
        )
    centre, spread = x.mean(axis=0), x.std(axis=0)
    flat = spread <= 1e-9 * np.maximum(np.abs(centre), 1.0)
    spread = np.where(flat, 1.0, spread)
    standardised = np.where(flat, 0.0, (x - centre) / spread)
    if beside is not None:
        standardised = np.hstack([standardised, beside * np.sqrt(penalty / _PENALTY_OF_KINDS)])
    model = LogisticRegression(C=1 / penalty, max_iter=1000).fit(standardised, correct)
    weights = np.where(flat, 0.0, model.coef_[0][: x.shape[1]] / spread)
    return Linear(weights, float(model.intercept_[0] - weights @ centre))


def fit_sum(
    signals: FloatArray,
    hidden: NDArray[np.float32] | None,
    correct: BoolArray,
    kinds: NDArray[np.int64] | None = None,
) -> LinearSum:
    """Fit the weights of scores, and of a hidden state beside them, in one logistic regression.

    Of the hidden state the mean over the response is read, standardised and reduced to the 48 directions of
    most variance. The state at the last token is not: with it the ranking was worse.

    Each kind of question has an intercept of its own while fitting, so that what is learned tells right from
    wrong within a kind, and not one kind from another: that is what holds for further kinds. The sum has
    their mean.

    Args:
        signals: Scores, n × terms.
        hidden: [mean, last], n × 2d; None for a sum of scores alone.
        correct: The labels.
        kinds: Number of each answer's kind (n); None if all are of one.

    Raises:
        CalibrationError: All labels are the same.
    """
    terms = signals.shape[1]
    of_kinds = _intercepts(np.zeros_like(correct, dtype=np.int64) if kinds is None else kinds, correct)
    if hidden is None:
        fitted = fit_logistic(signals, correct, beside=of_kinds)
        return LinearSum(fitted.intercept, fitted.weights)
    mean = hidden[:, : hidden.shape[1] // 2]
    columns, directions, centre = _principal(mean)
    fitted = fit_logistic(np.column_stack([signals, columns]), correct, beside=of_kinds)
    of_mean = directions @ fitted.weights[terms:]
    return LinearSum(
        float(fitted.intercept - centre @ of_mean),
        fitted.weights[:terms],
        np.concatenate([of_mean, np.zeros_like(of_mean)]),
    )


def _intercepts(kinds: NDArray[np.int64], correct: BoolArray) -> FloatArray:
    """A column for each kind that can have an intercept of its own, of mean 0 (n × kinds)."""
    columns = []
    for kind in np.unique(kinds)[1:]:
        here = kinds == kind
        if here.sum() >= _LEAST_OF_A_KIND and 0 < correct[here].sum() < here.sum():
            columns.append(here - here.mean())
    return np.array(columns, dtype=np.float64).reshape(len(columns), len(kinds)).T


class _Principal(NamedTuple):
    """Values along k directions (n × k), which are (x − centre) · directions, with directions d × k."""

    values: FloatArray
    directions: FloatArray
    centre: FloatArray


def _principal(states: NDArray[np.float32]) -> _Principal:
    """The directions of most variance of standardised states (n × d)."""
    centre, spread = states.mean(axis=0, dtype=np.float64), states.std(axis=0, dtype=np.float64)
    spread = np.where(spread <= 1e-9 * np.maximum(np.abs(centre), 1.0), np.inf, spread)
    standardised = ((states - centre) / spread).astype(np.float32)
    count = min(_DIRECTIONS, *standardised.shape)
    reduced = PCA(count, svd_solver="randomized", random_state=0).fit(standardised)
    # The mean of what was standardised is 0 but for rounding.
    values = standardised.astype(np.float64) @ reduced.components_.T
    return _Principal(values, reduced.components_.T / spread[:, None], centre)
