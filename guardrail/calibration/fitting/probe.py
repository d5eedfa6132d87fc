"""Linear models on few answers: a logistic of the signals, and a probe on hidden states."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression

from guardrail.errors import CalibrationError

__all__ = ["Linear", "fit_logistic", "fit_probe"]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

# Directions of the hidden state that the probe may read: a few hundred answers tell no more apart.
_COMPONENTS = 24


class Linear(NamedTuple):
    """intercept + x · weights, in the units of what it was fitted on."""

    weights: FloatArray
    intercept: float


def fit_logistic(x: FloatArray, correct: BoolArray, *, penalty: float) -> Linear:
    """Logistic regression on standardised columns.

    Args:
        x: n × m; a column without spread gets no weight.
        correct: What is to be told.
        penalty: Of half the squared weights, against the sum of the losses of all answers (1/C).

    Raises:
        CalibrationError: All answers are of one kind.
    """
    if correct.all() or not correct.any():
        raise CalibrationError(
            "The correct or the wrong answers belong to too few different questions to learn from some and "
            "judge others. More questions are needed."
        )
    centre, spread = x.mean(axis=0), x.std(axis=0)
    flat = spread <= 1e-9 * np.maximum(np.abs(centre), 1.0)
    spread = np.where(flat, 1.0, spread)
    standardised = np.where(flat, 0.0, (x - centre) / spread)
    model = LogisticRegression(C=1 / penalty, max_iter=1000).fit(standardised, correct)
    weights = np.where(flat, 0.0, model.coef_[0] / spread)
    return Linear(weights, float(model.intercept_[0] - weights @ centre))


def fit_probe(hidden: NDArray[np.float32], correct: BoolArray, *, penalty: float) -> Linear:
    """Standardise, keep the 24 directions of most variance, and tell right from wrong by them.

    Args:
        hidden: n × 2d.
        correct: What is to be told.
        penalty: As for :func:`fit_logistic`.

    Returns:
        One weight for each value of the hidden state.
    """
    centre, spread = hidden.mean(axis=0, dtype=np.float64), hidden.std(axis=0, dtype=np.float64)
    spread = np.where(spread <= 1e-9 * np.maximum(np.abs(centre), 1.0), np.inf, spread)
    standardised = ((hidden - centre) / spread).astype(np.float32)
    count = min(_COMPONENTS, *standardised.shape)
    reduced = PCA(count, svd_solver="randomized", random_state=0).fit(standardised)
    inner = fit_logistic(reduced.transform(standardised).astype(np.float64), correct, penalty=penalty)
    by_column = reduced.components_.T @ inner.weights
    weights = by_column / spread
    return Linear(weights, float(inner.intercept - reduced.mean_ @ by_column - weights @ centre))
