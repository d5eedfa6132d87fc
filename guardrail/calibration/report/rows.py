"""The figures of a report in the order in which they are read, and what each means."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from pydantic import TypeAdapter, ValidationError

from guardrail.calibration.figure import Figure
from guardrail.calibration.plain import PlainData
from guardrail.calibration.profile import CertifiedThreshold, Profile
from guardrail.calibration.report.words import figure_of

__all__ = ["FigureRow", "ThresholdRow", "figure_rows", "threshold_rows"]

Better = Literal["higher", "lower", ""]


class FigureRow(NamedTuple):
    """A figure as it is shown.

    Attributes:
        name: What the field calls it.
        figure: Its value, interval and n.
        better: Which way is better.
        meaning: What it says.
    """

    name: str
    figure: Figure
    better: Better
    meaning: str


class ThresholdRow(NamedTuple):
    """A certified threshold, and how it did on the held-out answers.

    Attributes:
        certified: It, feasible or not.
        coverage: Share of held-out answers that it lets through.
        error: Share of them that are wrong.
        accepted: Held-out answers let through.
        errors: Wrong ones among them.
    """

    certified: CertifiedThreshold
    coverage: Figure | None
    error: Figure | None
    accepted: int
    errors: int


_ROWS: tuple[tuple[str, str, Better, str], ...] = (
    ("accuracy", "Right answers", "", "Share of the held-out answers that were judged right."),
    (
        "auroc",
        "AUROC",
        "higher",
        "How often a right answer is ranked above a wrong one; 0.5 is chance, 1 is perfect.",
    ),
    (
        "auprc",
        "AUPRC of wrong answers",
        "higher",
        "Precision when looking for wrong answers from the least sure on; chance is the share of wrong ones.",
    ),
    ("prr", "PRR", "higher", "What rejecting the least sure gains, from 0 (chance) to 1 (an oracle)."),
    (
        "aurc",
        "AURC",
        "lower",
        "Share of wrong answers among those let through, averaged over how many are; chance is the share of "
        "wrong ones.",
    ),
    (
        "ece",
        "ECE",
        "lower",
        "How far the probabilities are off on average. Chance alone adds to it: compare the next line.",
    ),
    (
        "ece_if_calibrated",
        "ECE by chance",
        "",
        "What perfect probabilities would show on as many answers, and the middle 95 % of that.",
    ),
    ("brier", "Brier score", "lower", "Mean squared distance of the probability from what was the case."),
    (
        "brier_base_rate",
        "Brier of the base rate",
        "",
        "The same for always saying the share of right answers.",
    ),
    ("brier_skill", "Brier skill", "higher", "Share of the base rate's Brier score that is taken away."),
)


def figure_rows(report: Mapping[str, Any]) -> Iterator[FigureRow]:
    """The figures that a report has."""
    for key, name, better, meaning in _ROWS:
        figure = figure_of(report, key)
        if figure is not None:
            yield FigureRow(name, figure, better, meaning)


def threshold_rows(profile: Profile) -> Iterator[ThresholdRow]:
    """Every threshold that was asked for, with what the report measured of it."""
    measured = {(one.max_error, one.confidence): one for one in _measured(profile.report)}
    for certified in profile.certified:
        one = measured.get((certified.max_error, certified.confidence))
        if one is None or one.threshold != certified.threshold:
            yield ThresholdRow(certified, None, None, 0, 0)
        else:
            yield ThresholdRow(certified, one.coverage, one.error, one.accepted, one.errors)


class _Measured(PlainData):
    max_error: float
    confidence: float
    threshold: float | None
    coverage: Figure
    error: Figure
    accepted: int
    errors: int


def _measured(report: Mapping[str, Any]) -> list[_Measured]:
    try:
        return TypeAdapter(list[_Measured]).validate_python(report.get("certified", []))
    except ValidationError:
        return []
