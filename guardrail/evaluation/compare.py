"""Comparison of methods on the same answers: figures, paired differences, and length as a confounder."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, isfinite
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from guardrail.calibration.splits import question_groups
from guardrail.errors import CalibrationError, OptionError, ScoringError
from guardrail.evaluation.evaluated_answers import EvaluatedAnswer
from guardrail.evaluation.methods import Method
from guardrail.metrics import Figure
from guardrail.metrics.confidence_quality import auprc, aurc, auroc, prr, risk_coverage
from guardrail.metrics.intervals import (
    LEVEL,
    RESAMPLES,
    FloatArray,
    Metric,
    checked,
    divide,
    draws,
    figure,
    middle,
    resampled,
)
from guardrail.utils.text import did_you_mean
from guardrail.utils.threads import ProgressCallback, report

__all__ = [
    "COVERAGES",
    "MATCHED",
    "METRICS",
    "Comparison",
    "Estimated",
    "Matched",
    "MethodFigures",
    "compare",
    "estimate_all",
    "matched_auroc",
    "selective_accuracy",
]


# Some estimates compare texts by a second model: this many answers at once fill its batches.
_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Estimated:
    """Uncertainties of a method for answers.

    Attributes:
        method: The method.
        uncertainties: One per answer; higher is less sure.
        seconds: Time per answer beyond generating it: medians of scoring, sampling and asking the model, and
            the mean of the estimate itself.
        peak_bytes: Most memory that scoring or sampling holds for one answer; 0 for by-products of
            generation, None if not measured. A second model that compares texts is not included.
    """

    method: Method
    uncertainties: Sequence[float]
    seconds: float
    peak_bytes: int | None


def estimate_all(
    methods: Sequence[Method], records: Sequence[EvaluatedAnswer], progress: ProgressCallback | None = None
) -> list[Estimated]:
    """Estimate the uncertainty of each answer by each method.

    Raises:
        ScoringError: An estimate is not a finite number.
        MissingDependencyError: A method needs a package that is not installed.
    """
    estimated = []
    for number, method in enumerate(methods):
        report(progress, "estimating", number, len(methods))
        began = time.perf_counter()
        values: list[float] = []
        for first in range(0, len(records), _AT_ONCE):
            some = [record.answered for record in records[first : first + _AT_ONCE]]
            values += map(float, method.estimate(some))
        seconds = (time.perf_counter() - began) / len(records)
        wrong = next((at for at, value in enumerate(values) if not isfinite(value)), None)
        if wrong is not None or len(values) != len(records):
            shown = "as many numbers as answers" if wrong is None else "a number"
            place = "" if wrong is None else f" for {records[wrong].answered.question!r:.80}"
            raise ScoringError(f"{method.name} does not give {shown}{place}: run again without it.")
        estimated.append(
            Estimated(method, values, seconds + _making_s(method, records), _peak(method, records))
        )
    report(progress, "estimating", len(methods), len(methods))
    return estimated


def _making_s(method: Method, records: Sequence[EvaluatedAnswer]) -> float:
    costs = [record.costs for record in records]
    parts = [median(one.score_s.get(way, 0.0) for one in costs) for way in method.options]
    if method.samples is not None:
        parts.append(median(one.samples_s for one in costs))
    if method.asides:
        parts.append(median(one.asides_s for one in costs))
    return sum(parts)


def _peak(method: Method, records: Sequence[EvaluatedAnswer]) -> int | None:
    costs = [record.costs for record in records]
    sizes = [max((one.score_bytes.get(way, 0) for one in costs), default=0) for way in method.options]
    if method.samples is not None:
        sizes.append(max((one.samples_bytes or 0 for one in costs), default=0))
    return None if 0 in sizes else max(sizes, default=0)


# Lengths that differ by at most this factor count as similar.
MATCHED = 1.25


class Matched(NamedTuple):
    """AUROC among pairs of similar length.

    Attributes:
        auroc: The figure; its n is the number of answers in a pair.
        pairs: Number of pairs of a right and a wrong answer.
    """

    auroc: Figure
    pairs: int


def matched_auroc(
    confidence: ArrayLike,
    correct: ArrayLike,
    lengths: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Matched:
    """Share of pairs of a right and a wrong answer of similar length in which the right one is surer.

    This is the AUROC adjusted for a covariate by matching (Janes & Pepe, 2009, with neighbourhoods of each
    length as strata): a score that depends only on length has 0.5. Ties count half.

    Args:
        confidence: Any score that goes up when the model is surer, (n,).
        correct: Whether each answer is right, (n,).
        lengths: Tokens of each answer, at least 1, (n,).
        groups: Group of each answer; whole groups are resampled.
        seed: Seed of the bootstrap.
        resamples: Number of resamples.

    Raises:
        CalibrationError: There are no answers, or a value is not a number.
    """
    values, right = checked(confidence, correct)
    logarithms = np.log(np.asarray(lengths, dtype=np.float64))
    above, below = values[right][:, None], values[~right][None]
    apart = np.abs(logarithms[right][:, None] - logarithms[~right][None])
    # A small margin, so that 4 and 5 tokens are similar despite rounding.
    alike = (apart <= np.log(MATCHED) + 1e-9).astype(np.float64)
    surer = alike * ((above > below) + 0.5 * (above == below))
    pairs = int(alike.sum())
    paired = int(alike.any(1).sum() + alike.any(0).sum())
    if not pairs:
        return Matched(
            Figure(
                value=None,
                low=None,
                high=None,
                n=0,
                reason="no right and wrong answer have similar length",
            ),
            0,
        )
    counts = _counts(len(right), groups, seed, resamples)
    of_right, of_wrong = counts[:, right], counts[:, ~right]
    found = divide(((of_right @ surer) * of_wrong).sum(1), ((of_right @ alike) * of_wrong).sum(1))
    ends = middle(found)
    low, high = ends or (None, None)
    reason = "" if ends else "too few pairs of similar length for an interval"
    value = float(surer.sum() / pairs)
    return Matched(Figure(value=value, low=low, high=high, n=paired, reason=reason), pairs)


def _counts(answers: int, groups: ArrayLike | None, seed: int, resamples: int) -> FloatArray:
    """How often each answer is in each resample, (resamples, answers)."""
    rows = []
    for drawn in draws(answers, groups, seed=seed, resamples=resamples):
        places = drawn + answers * np.arange(len(drawn))[:, None]
        rows.append(np.bincount(places.ravel(), minlength=answers * len(drawn)).reshape(len(drawn), answers))
    return np.concatenate(rows).astype(np.float64)


COVERAGES = (0.7, 0.8, 0.9)


def selective_accuracy(coverage: float) -> Metric:
    """Metric: share of right answers among the most confident ones that make up this share of all."""

    def metric(confidence: ArrayLike, correct: ArrayLike, /) -> FloatArray:
        risk = risk_coverage(confidence, correct).risk
        # Without the margin, 0.7 of 10 answers would be 8.
        return np.asarray(1 - risk[..., max(ceil(coverage * risk.shape[-1] - 1e-9), 1) - 1])

    return metric


METRICS: Mapping[str, Metric] = {
    "auroc": auroc,
    "auprc": auprc,
    "aurc": aurc,
    "prr": prr,
    **{f"accuracy_at_{round(100 * share)}": selective_accuracy(share) for share in COVERAGES},
}


@dataclass(frozen=True, slots=True)
class MethodFigures:
    """How well a method separates right from wrong, and its cost.

    Attributes:
        estimated: The method, its estimates and its cost.
        confidences: The negated estimates of the labelled answers, in the order of ``correct``.
        figures: Figures by metric.
        differences: This method's figures minus the reference's, by metric.
        matched: AUROC among right and wrong answers of similar length.
    """

    estimated: Estimated
    confidences: Sequence[float]
    figures: Mapping[str, Figure]
    differences: Mapping[str, Figure]
    matched: Matched

    @property
    def name(self) -> str:
        """The method's name."""
        return self.estimated.method.name


@dataclass(frozen=True, slots=True)
class Comparison:
    """Methods compared on the same answers.

    Attributes:
        methods: The methods in the requested order.
        reference: Name of the method that differences are to.
        correct: Whether each answer is right.
        questions: Number of different questions, the unit of resampling.
        tokens: Median length of the answers.
        seed: Seed of the bootstrap.
    """

    methods: Sequence[MethodFigures]
    reference: str
    correct: Sequence[bool]
    questions: int
    tokens: float
    seed: int

    @property
    def ranked(self) -> Sequence[MethodFigures]:
        """The methods, best AUROC first."""
        return sorted(self.methods, key=lambda one: one.figures["auroc"].value or 0.0, reverse=True)

    @property
    def stand_ins(self) -> Mapping[str, str]:
        """The stand-ins for a second model, by title of the method."""
        methods = [one.estimated.method for one in self.methods]
        return {method.title: method.stand_in for method in methods if method.stand_in}

    def as_plain(self) -> dict[str, Any]:
        """The comparison as values for JSON."""
        return {
            "n": len(self.correct),
            "correct": sum(self.correct),
            "questions": self.questions,
            "median_tokens": self.tokens,
            "reference": self.reference,
            "intervals": {"level": LEVEL, "resamples": RESAMPLES, "seed": self.seed, "by": "question"},
            "lengths_alike_within": MATCHED,
            "methods": [_plain(one) for one in self.methods],
        }


def compare(
    estimated: Sequence[Estimated],
    records: Sequence[EvaluatedAnswer],
    *,
    reference: str | None = None,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> Comparison:
    """Measure methods on the labelled answers.

    Intervals are percentile bootstrap intervals over questions: several answers to one question are drawn
    together. All methods are measured on the same draws, so intervals of differences are paired.

    Args:
        estimated: Estimates of each method for each answer.
        records: The answers.
        reference: The method that differences are to; by default ``hybridgrad``, or else the first.
        seed: Seed of the bootstrap.
        progress: Called for each method.

    Raises:
        OptionError: The reference is not among the methods.
        CalibrationError: No answer has a label.
    """
    names = [one.method.name for one in estimated]
    chosen = reference or ("hybridgrad" if "hybridgrad" in names else names[0])
    if chosen not in names:
        raise OptionError(f"The reference {chosen!r} is not among the methods{did_you_mean(chosen, names)}.")
    labelled = [at for at, record in enumerate(records) if record.judgement.correct is not None]
    if not labelled:
        raise CalibrationError(
            "No answer has a label: give accepted answers, labels, or a judge that needs neither."
        )
    right = np.array([bool(records[at].judgement.correct) for at in labelled])
    lengths = np.array([len(records[at].answered.token_ids) for at in labelled])
    questions = question_groups([records[at].answered.question for at in labelled])
    alone = len(np.unique(questions)) == len(questions)
    groups = None if alone else questions
    confidences = {one.method.name: -np.asarray(one.uncertainties)[labelled] for one in estimated}
    drawn: dict[str, dict[str, FloatArray]] = {}
    for number, (name, confidence) in enumerate(confidences.items()):
        report(progress, "comparing", number, len(names))
        drawn[name] = {
            key: resampled(metric, confidence, right, groups=groups, seed=seed)
            for key, metric in METRICS.items()
        }
    values = {
        name: {key: float(metric(confidence, right)) for key, metric in METRICS.items()}
        for name, confidence in confidences.items()
    }
    methods = [
        MethodFigures(
            one,
            confidences[name].tolist(),
            {key: figure(values[name][key], drawn[name][key], right) for key in METRICS},
            {
                key: figure(
                    values[name][key] - values[chosen][key], drawn[name][key] - drawn[chosen][key], right
                )
                for key in METRICS
            },
            matched_auroc(confidences[name], right, lengths, groups=groups, seed=seed),
        )
        for name, one in zip(names, estimated, strict=True)
    ]
    report(progress, "comparing", len(names), len(names))
    return Comparison(
        methods=methods,
        reference=chosen,
        correct=right.tolist(),
        questions=len(np.unique(questions)),
        tokens=float(np.median(lengths)),
        seed=seed,
    )


def _plain(one: MethodFigures) -> dict[str, Any]:
    method = one.estimated.method
    return {
        "name": method.name,
        "title": method.title,
        "paper": method.paper,
        "stand_in": method.stand_in or None,
        "seconds_per_answer": one.estimated.seconds,
        "peak_bytes": one.estimated.peak_bytes,
        **{key: value.as_plain() for key, value in one.figures.items()},
        "length_matched_auroc": {**one.matched.auroc.as_plain(), "pairs": one.matched.pairs},
        "differences": {key: value.as_plain() for key, value in one.differences.items()},
    }
