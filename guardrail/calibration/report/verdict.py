"""What the figures come to, in sentences."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from guardrail.calibration.figure import Figure
from guardrail.calibration.profile import Profile
from guardrail.calibration.report.rows import ThresholdRow, threshold_rows
from guardrail.calibration.report.words import counted, figure_of, interval, percent, promised

__all__ = ["Statement", "Tone", "verdict"]

Tone = Literal["good", "caution", "bad", "plain"]


class Statement(NamedTuple):
    """One sentence or two.

    Attributes:
        tone: Whether it is good news.
        topic: What it is about, in a word or two.
        text: It.
    """

    tone: Tone
    topic: str
    text: str


def verdict(profile: Profile) -> tuple[Statement, ...]:
    """What may be said of a profile, the basis first."""
    if not profile.is_calibrated:
        return (
            Statement(
                "plain",
                "Not calibrated",
                "This profile was made without labels. It tells where a score stands among "
                f"{counted(profile.making.answers, 'answer')} of the same model, and gives neither a "
                "probability of being right nor a guarantee.",
            ),
        )
    report = profile.report
    parts = (_basis(report), _ranking(report), _probabilities(report), _skill(report))
    return (*(part for part in parts if part), *map(_threshold, threshold_rows(profile)))


def _basis(report: Mapping[str, Any]) -> Statement | None:
    accuracy = figure_of(report, "accuracy")
    if accuracy is None or accuracy.value is None:
        return None
    right = round(accuracy.value * accuracy.n)
    return Statement(
        "plain",
        "Basis",
        f"Of {counted(accuracy.n, 'held-out answer')}, {right:,} {'was' if right == 1 else 'were'} right "
        f"({percent(accuracy.value)}). Nothing was fitted or certified on them.",
    )


def _ranking(report: Mapping[str, Any]) -> Statement | None:
    auroc = figure_of(report, "auroc")
    if auroc is None:
        return None
    if auroc.value is None:
        text = f"Whether the score tells right from wrong is open: {auroc.reason}."
        return Statement("caution", "Ranking", text)
    often = f"of a right and a wrong answer, the right one has the higher score {percent(auroc.value)} of the"
    often += f" time{_span(auroc)}"
    if auroc.low is None or auroc.high is None:
        return Statement("caution", "Ranking", f"On these answers, {often}: {auroc.reason}.")
    if auroc.low > 0.5:
        return Statement("good", "Ranking", f"The score tells right from wrong: {often}.")
    if auroc.high < 0.5:
        return Statement("bad", "Ranking", f"The score is worse than chance: {often}.")
    return Statement("caution", "Ranking", f"The score cannot be told from chance: {often}.")


def _probabilities(report: Mapping[str, Any]) -> Statement | None:
    ece, chance = figure_of(report, "ece"), figure_of(report, "ece_if_calibrated")
    if ece is None or chance is None or ece.value is None or chance.value is None or chance.high is None:
        return None
    off = f"they are off by {_points(ece.value)} on average"
    perfect = (
        f"on as many answers, perfect ones would be by {_points(chance.value)}, and by up to "
        f"{_points(chance.high)}, by chance"
    )
    if ece.value <= chance.high:
        text = f"Nothing speaks against the probabilities: {off}; {perfect}."
        return Statement("good", "Probabilities", text)
    text = f"The probabilities are off by more than chance explains: {off}; {perfect}."
    return Statement("caution", "Probabilities", text)


def _skill(report: Mapping[str, Any]) -> Statement | None:
    skill = figure_of(report, "brier_skill")
    if skill is None or skill.value is None:
        return None
    if skill.low is not None and skill.low > 0:
        text = "The probabilities tell more than the share of right answers alone: their Brier score is"
        return Statement("good", "Gain", f"{text} {percent(skill.value)} lower{_span(skill)}.")
    text = "It is not shown that the probabilities tell more than the share of right answers alone: their"
    return Statement("caution", "Gain", f"{text} Brier skill is {percent(skill.value)}{_span(skill)}.")


def _threshold(row: ThresholdRow) -> Statement:
    certified, coverage, error = row.certified, row.coverage, row.error
    most, sure = promised(certified.max_error), promised(certified.confidence)
    if certified.threshold is None:
        reason = certified.reason.removesuffix(".")
        return Statement(
            "bad", "No guarantee", f"No threshold for at most {most} wrong with {sure} confidence: {reason}."
        )
    text = (
        f"At most {most} of the answers let through are wrong, with {sure} confidence: certified on "
        f"{counted(certified.accepted, 'answer')} let through, {certified.errors:,} of them wrong."
    )
    if coverage is None or coverage.value is None or error is None:
        return Statement("plain", "Guarantee", text)
    if error.value is None or error.low is None:
        text += " It lets none of the held-out answers through, so nothing is known of the error there."
        return Statement("caution", "Guarantee", text)
    text += f" Of the held-out answers {percent(coverage.value)} are let through, and {row.errors:,} of these"
    text += f" {row.accepted:,} are wrong: {percent(error.value)}{_span(error)}"
    if error.value <= certified.max_error:
        return Statement("good", "Guarantee", f"{text}.")
    if error.low <= certified.max_error:
        return Statement("caution", "Guarantee", f"{text}, above the promise, though chance may explain it.")
    text += ", more than chance explains. Do not rely on it; calibrate again."
    return Statement("bad", "Guarantee", text)


def _span(figure: Figure) -> str:
    return (
        f" (95\N{NO-BREAK SPACE}% interval {interval(figure, as_percent=True)})"
        if figure.low is not None
        else ""
    )


def _points(share: float) -> str:
    return f"{100 * share:.1f} points"
