"""What a confidence could be made of: single scores, sums of several, probes on hidden states, and both."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from experiments.ensemble.reading import DEPTHS, WAYS, Features
from guardrail.scoring.uncertainty import SCORES

__all__ = ["PROBES", "SINGLE", "SUMS", "Candidate", "Probe"]

FloatArray = NDArray[np.float64]
Predictor = Callable[[Features], FloatArray]

GRADIENTS = ("hybridgrad", "semgrad", "paragrad", "exgrad")
LIKELIHOODS = tuple(name for name in (*SCORES, "tokens") if name not in GRADIENTS)
_SURER_UP = ("log_likelihood", "min_token_probability")
_USUAL, _PUBLIC = WAYS


class Candidate(NamedTuple):
    """A way of making a confidence.

    Attributes:
        name: As tables show it.
        fit: Learns from labelled answers, and gives what ranks others: up is surer.
        learns: Whether it looks at labels at all.
    """

    name: str
    fit: Callable[[Features], Predictor]
    learns: bool = True


class Probe(NamedTuple):
    """A linear probe on a hidden state.

    Attributes:
        depth: Index of its depth in ``DEPTHS``.
        pooling: ``mean`` over the response, ``last`` token, or ``both``.
        components: Directions of most variance that it may read.
        penalty: Of half the squared weights, against the sum of the losses (1/C).
    """

    depth: int = 2
    pooling: str = "both"
    components: int = 24
    penalty: float = 30.0

    def read(self, answers: Features) -> NDArray[np.float32]:
        """The numbers it reads, (n, d) or (n, 2d)."""
        mean, last = answers.mean[:, self.depth], answers.last[:, self.depth]
        return {"mean": mean, "last": last, "both": np.hstack([mean, last])}[self.pooling]

    def fit(self, answers: Features) -> Predictor:
        """Learn, and give its logit for others."""
        count = min(self.components, len(answers.correct) - 1)
        model = make_pipeline(
            StandardScaler(),
            PCA(count, svd_solver="randomized", random_state=0),
            LogisticRegression(C=1 / self.penalty, max_iter=2000),
        ).fit(self.read(answers), answers.correct)
        return lambda others: model.decision_function(self.read(others))


def signals(answers: Features, names: Sequence[str], ways: Sequence[str] = (_USUAL,)) -> FloatArray:
    """Logarithms of scores, (n, len(ways) · len(names))."""
    columns = [np.abs(answers.scores[way][name]) for way in ways for name in names]
    return np.log(np.maximum(np.stack(columns, axis=-1), 1e-12))


def _single(way: str, name: str) -> Candidate:
    sign = 1.0 if name in _SURER_UP else -1.0
    label = f"{name} ({way})" if name in GRADIENTS else name
    return Candidate(label, lambda _: lambda others: sign * others.scores[way][name], learns=False)


def _ranks(way: str) -> Candidate:
    def predict(others: Features) -> FloatArray:
        scores = others.scores[way]
        return -rankdata(scores["hybridgrad"]) - rankdata(scores["max_entropy"])

    return Candidate(f"ranks of hybridgrad and max_entropy ({way})", lambda _: predict, learns=False)


def _logistic(name: str, columns: Callable[[Features], FloatArray], penalty: float = 10.0) -> Candidate:
    def fit(answers: Features) -> Predictor:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=1 / penalty, max_iter=2000))
        model.fit(columns(answers), answers.correct)
        return lambda others: model.decision_function(columns(others))

    return Candidate(name, fit)


def _stacked(
    name: str, names: Sequence[str], probes: Sequence[Probe], ways: Sequence[str] = (_USUAL,)
) -> Candidate:
    """Scores and probes in one sum; it sees, of each answer, probes that were fitted without it."""

    def fit(answers: Features) -> Predictor:
        held_out = np.empty((len(answers.correct), len(probes)))
        folds = StratifiedKFold(5, shuffle=True, random_state=0).split(answers.correct, answers.correct)
        for train, test in folds:
            for at, probe in enumerate(probes):
                held_out[test, at] = probe.fit(answers.take(train))(answers.take(test))
        final = [probe.fit(answers) for probe in probes]
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))
        model.fit(np.hstack([signals(answers, names, ways), held_out]), answers.correct)

        def predict(others: Features) -> FloatArray:
            values = np.column_stack([probe(others) for probe in final])
            return model.decision_function(np.hstack([signals(others, names, ways), values]))

        return predict

    return Candidate(name, fit)


_DEFAULT = Probe()
_ALL = (*GRADIENTS, *LIKELIHOODS)

SINGLE = [
    *(_single(way, name) for way in WAYS for name in GRADIENTS),
    *(_single(_USUAL, name) for name in LIKELIHOODS),
    *map(_ranks, WAYS),
]

# Every probe of one factor changed, and none of the others.
PROBES: Mapping[str, Probe] = {
    "24 of both at 2/3": _DEFAULT,
    **{f"at {DEPTHS[depth]:.2f}": Probe(depth=depth) for depth in (0, 1, 3)},
    **{f"of {pooling}": Probe(pooling=pooling) for pooling in ("mean", "last")},
    **{f"{components} components": Probe(components=components) for components in (8, 16, 48, 96)},
    **{f"penalty {penalty:g}": Probe(penalty=penalty) for penalty in (3.0, 100.0, 300.0)},
}

SUMS = [
    _logistic(
        "parts of hybridgrad", lambda answers: signals(answers, ("semgrad", "paragrad", "mean_entropy"))
    ),
    _logistic("gradients", lambda answers: signals(answers, GRADIENTS)),
    _logistic("signals", lambda answers: signals(answers, _ALL)),
    _logistic("signals, both ways", lambda answers: signals(answers, _ALL, [*WAYS])),
    _logistic("signals, strong penalty", lambda answers: signals(answers, _ALL), penalty=1000.0),
    _logistic("mean and largest entropy", lambda answers: signals(answers, ("mean_entropy", "max_entropy"))),
    _logistic("signals without gradients", lambda answers: signals(answers, LIKELIHOODS)),
    *(Candidate(f"probe {name}", probe.fit) for name, probe in PROBES.items()),
    _stacked("probe and signals", _ALL, [_DEFAULT]),
    _stacked(f"probe and signals ({_PUBLIC})", _ALL, [_DEFAULT], [_PUBLIC]),
    _stacked("probe and signals without gradients", LIKELIHOODS, [_DEFAULT]),
    _stacked("probe and hybridgrad", ("hybridgrad",), [_DEFAULT]),
    _stacked("probes at 3 depths and signals", _ALL, [Probe(depth=depth) for depth in (1, 2, 3)]),
]
