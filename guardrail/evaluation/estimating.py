"""The numbers that methods give to answers, and what each takes and holds beyond generating the answer."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import median

from guardrail.errors import ScoringError
from guardrail.evaluation.methods.method import Method
from guardrail.evaluation.records import EvaluatedAnswer
from guardrail.models.progress import ProgressCallback, report

__all__ = ["Estimated", "estimate_all"]

# Estimates of samples compare texts by a second model: so many answers at once fill its batches.
_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Estimated:
    """What a method says of answers.

    Attributes:
        method: The method.
        uncertainties: One an answer; they go up with uncertainty.
        seconds: What it takes an answer, beyond generating that: the medians over answers of scoring, of
            drawing samples and of asking the model, and the mean of the estimate itself.
        peak_bytes: Most memory that scoring or drawing holds for one answer; 0 for what generation gives
            anyway, None where it was not measured. A second model that compares texts is not in it.
    """

    method: Method
    uncertainties: Sequence[float]
    seconds: float
    peak_bytes: int | None


def estimate_all(
    methods: Sequence[Method], records: Sequence[EvaluatedAnswer], progress: ProgressCallback | None = None
) -> list[Estimated]:
    """Have each method judge each answer.

    Raises:
        ScoringError: A method gives something that is not a number.
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
