"""The figures of a comparison as texts, the best AUROC first: one row a method, the same in every report."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from guardrail.calibration.figure import Figure
from guardrail.calibration.report.words import NONE, decimal, interval, percent, visible
from guardrail.evaluation.comparing import METRICS, Comparison, MethodFigures
from guardrail.evaluation.confounding import MATCHED

__all__ = ["Row", "method_rows", "remarks"]

_ACCURACIES = tuple(name for name in METRICS if name.startswith("accuracy_at_"))


class Row(NamedTuple):
    """A method's figures as texts.

    Attributes:
        name: The method's name.
        title: What tables call it, with a dagger where a stand-in took a second model's place.
        paper: Where it comes from.
        is_reference: Whether differences are to it.
        auroc: AUROC.
        auroc_interval: Its interval.
        difference: AUROC less that of the reference.
        difference_interval: Its interval.
        auprc: Average precision of finding wrong answers.
        aurc: Area under the risk–coverage curve.
        prr: Prediction rejection ratio.
        accuracies: Share of right answers among the surest 70, 80 and 90 %.
        matched: AUROC among answers of like length.
        matched_interval: Its interval.
        seconds: What it takes an answer, beyond generating that.
        memory: What it holds at most.
    """

    name: str
    title: str
    paper: str
    is_reference: bool
    auroc: str
    auroc_interval: str
    difference: str
    difference_interval: str
    auprc: str
    aurc: str
    prr: str
    accuracies: Sequence[str]
    matched: str
    matched_interval: str
    seconds: str
    memory: str


def method_rows(comparison: Comparison) -> Iterator[Row]:
    """A row for each method, the best AUROC first."""
    for one in comparison.ranked:
        method, figures = one.estimated.method, one.figures
        is_reference = one.name == comparison.reference
        difference = one.differences["auroc"]
        yield Row(
            name=method.name,
            title=visible(method.title) + (" †" if method.stand_in else ""),
            paper=method.paper,
            is_reference=is_reference,
            auroc=decimal(figures["auroc"].value),
            auroc_interval=interval(figures["auroc"]),
            difference=NONE if is_reference else _signed(difference),
            difference_interval=NONE if is_reference else interval(difference),
            auprc=decimal(figures["auprc"].value),
            aurc=decimal(figures["aurc"].value),
            prr=decimal(figures["prr"].value),
            accuracies=[_share(figures[name]) for name in _ACCURACIES],
            matched=decimal(one.matched.auroc.value),
            matched_interval=interval(one.matched.auroc),
            seconds=_seconds(one.estimated.seconds),
            memory=_memory(one.estimated.peak_bytes),
        )


def remarks(comparison: Comparison) -> list[str]:
    """What a reader must know of the figures."""
    answers, first = len(comparison.correct), comparison.methods[0]
    said = [
        f"n = {answers:,} for every figure. Intervals hold 95 % of a bootstrap over {comparison.questions:,} "
        f"questions; differences are to {_title(comparison)}, on the same draws.",
        f"Like length: AUROC among {first.matched.pairs:,} pairs of a right and a wrong answer whose lengths "
        f"differ by at most a factor of {MATCHED:g} ({first.matched.auroc.n:,} answers).",
        "Time and memory are what a method adds to generating the answer. HybridGrad, SemGrad and ParaGrad "
        "come of one pass; what tokens tell comes of generation.",
    ]
    reasons = dict.fromkeys(
        figure.reason for one in comparison.methods for figure in _all_figures(one) if figure.reason
    )
    said += [f"Where a figure or interval is missing: {reason}." for reason in reasons]
    by_what: dict[str, list[str]] = {}
    for title, stand_in in comparison.stand_ins.items():
        by_what.setdefault(stand_in, []).append(title)
    said += [f"† {stand_in} ({', '.join(titles)})" for stand_in, titles in by_what.items()]
    return said


def _all_figures(one: MethodFigures) -> list[Figure]:
    return [*one.figures.values(), one.matched.auroc]


def _title(comparison: Comparison) -> str:
    titles = {one.name: one.estimated.method.title for one in comparison.methods}
    return titles[comparison.reference]


def _signed(figure: Figure) -> str:
    text = decimal(figure.value)
    return f"+{text}" if figure.value is not None and figure.value > 0 else text


def _share(figure: Figure) -> str:
    return NONE if figure.value is None else percent(figure.value)


def _seconds(seconds: float) -> str:
    if seconds < 0.0005:
        return "< 1 ms"
    return f"{1000 * seconds:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _memory(size: int | None) -> str:
    if size is None:
        return NONE
    return f"{size / 1e6:.1f} MB" if size else "none"
