"""Methods side by side on the same answers: every figure with its n and interval, and paired differences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from guardrail.calibration.figure import Figure
from guardrail.calibration.fitting.split import question_groups
from guardrail.calibration.metrics.arrays import FloatArray
from guardrail.calibration.metrics.intervals import LEVEL, RESAMPLES, Metric, figure, resampled
from guardrail.calibration.metrics.ranking import auprc, auroc
from guardrail.calibration.metrics.selective import aurc, prr, risk_coverage
from guardrail.errors import CalibrationError, OptionError
from guardrail.evaluation.confounding import MATCHED, Matched, matched_auroc
from guardrail.evaluation.estimating import Estimated
from guardrail.evaluation.records import EvaluatedAnswer
from guardrail.models.progress import ProgressCallback, report
from guardrail.utils.nearest import did_you_mean

__all__ = ["COVERAGES", "METRICS", "Comparison", "MethodFigures", "compare", "selective_accuracy"]

COVERAGES = (0.7, 0.8, 0.9)


def selective_accuracy(coverage: float) -> Metric:
    """Share of right answers among the surest ones that make up this share of all."""

    def metric(confidence: ArrayLike, correct: ArrayLike, /) -> FloatArray:
        risk = risk_coverage(confidence, correct).risk
        # Without the hair, 0.7 of 10 answers would be 8 of them.
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
    """How well one method tells right from wrong, and what it costs.

    Attributes:
        estimated: The method, its numbers and its costs.
        confidences: The negated numbers of the answers that have a label, in the order of ``correct``.
        figures: By metric.
        differences: This method's figure less the reference's, by metric.
        matched: AUROC among right and wrong answers of like length.
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
        methods: The methods, in the order they were asked for.
        reference: Name of the one that differences are to.
        correct: Whether each answer is right.
        questions: How many different questions there are: what is resampled.
        tokens: Median length of the answers.
        seed: Of the bootstrap.
    """

    methods: Sequence[MethodFigures]
    reference: str
    correct: Sequence[bool]
    questions: int
    tokens: float
    seed: int

    @property
    def ranked(self) -> Sequence[MethodFigures]:
        """The methods, the best AUROC first."""
        return sorted(self.methods, key=lambda one: one.figures["auroc"].value or 0.0, reverse=True)

    @property
    def stand_ins(self) -> Mapping[str, str]:
        """What took the place of a second model, by the titles of the methods."""
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
    """Measure methods on the answers that have a label.

    Intervals are percentile bootstrap intervals over questions: several answers to one are drawn together.
    All methods are measured on the same draws, so that intervals of differences are paired.

    Args:
        estimated: What each method says of each answer.
        records: The answers.
        reference: The method that differences are to; by default ``hybridgrad``, or the first.
        seed: Of the bootstrap.
        progress: Told of each method.

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
