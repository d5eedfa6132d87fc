"""A profile for people: its verdict in sentences, its figures and thresholds."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from pydantic import TypeAdapter, ValidationError

from guardrail.calibration.profile import CertifiedThreshold, Guarantee, Profile
from guardrail.metrics import Figure, figure_of
from guardrail.reports.formatting import counted, interval, percent, promised, visible
from guardrail.utils.record_store import FrozenModel

__all__ = [
    "FigureRow",
    "Statement",
    "ThresholdRow",
    "Tone",
    "figure_rows",
    "threshold_rows",
    "verdict",
]


Better = Literal["higher", "lower", ""]


class FigureRow(NamedTuple):
    """A figure of the report.

    Attributes:
        name: Its name in the literature.
        figure: Its value, interval and n.
        better: Which direction is better.
        meaning: What it means.
    """

    name: str
    figure: Figure
    better: Better
    meaning: str


class ThresholdRow(NamedTuple):
    """A certified threshold and its result on the held-out answers.

    Attributes:
        certified: The threshold, feasible or not.
        coverage: Share of held-out answers accepted.
        error: Share of those that are wrong.
        accepted: Number of held-out answers accepted.
        errors: Number of wrong ones among them.
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
        "How often a right answer ranks above a wrong one; 0.5 is chance, 1 is perfect.",
    ),
    (
        "auprc",
        "AUPRC of wrong answers",
        "higher",
        "Precision of finding wrong answers, least confident first; chance is the share of wrong answers.",
    ),
    ("prr", "PRR", "higher", "Gain from rejecting the least confident, from 0 (chance) to 1 (an oracle)."),
    (
        "aurc",
        "AURC",
        "lower",
        "Error rate among the accepted answers, averaged over all coverages; chance is the share of wrong "
        "answers.",
    ),
    (
        "ece",
        "ECE",
        "lower",
        "How far the probabilities are off on average. Chance contributes to it: compare the next line.",
    ),
    (
        "ece_if_calibrated",
        "ECE by chance",
        "",
        "ECE of perfect probabilities on as many answers, with the middle 95 % of its distribution.",
    ),
    ("brier", "Brier score", "lower", "Mean squared distance between probability and outcome."),
    (
        "brier_base_rate",
        "Brier of the base rate",
        "",
        "The same for always predicting the share of right answers.",
    ),
    ("brier_skill", "Brier skill", "higher", "Share of the base rate's Brier score that is removed."),
)


def figure_rows(report: Mapping[str, Any]) -> Iterator[FigureRow]:
    """The figures in a report."""
    for key, name, better, meaning in _ROWS:
        figure = figure_of(report, key)
        if figure is not None:
            yield FigureRow(name, figure, better, meaning)


def threshold_rows(profile: Profile) -> Iterator[ThresholdRow]:
    """Every requested threshold with its result on the held-out answers."""
    measured = {(one.max_error, one.confidence, one.kind): one for one in _measured(profile.report)}
    for certified in profile.certified:
        one = measured.get((certified.max_error, certified.confidence, certified.kind))
        if one is None or one.threshold != certified.threshold:
            yield ThresholdRow(certified, None, None, 0, 0)
        else:
            yield ThresholdRow(certified, one.coverage, one.error, one.accepted, one.errors)


class _Measured(FrozenModel):
    max_error: float
    confidence: float
    threshold: float | None
    coverage: Figure
    error: Figure
    accepted: int
    errors: int
    kind: str = ""


def _measured(report: Mapping[str, Any]) -> list[_Measured]:
    try:
        return TypeAdapter(list[_Measured]).validate_python(report.get("certified", []))
    except ValidationError:
        return []


Tone = Literal["good", "caution", "bad", "plain"]


class Statement(NamedTuple):
    """One or two sentences of the verdict.

    Attributes:
        tone: Whether it is good news.
        topic: Its subject in a word or two.
        text: The sentences.
    """

    tone: Tone
    topic: str
    text: str


_GENERAL = Statement(
    "caution",
    "General",
    "A general profile, for other people's traffic: it gives a confidence, and its thresholds accept no "
    "answer of an app. A profile of your own questions certifies (guardrail calibrate).",
)
_WITHOUT_STATES = Statement(
    "caution",
    "Familiarity",
    "It keeps no states of its answers, so whether an app's questions are like its own cannot be found out: "
    "its thresholds accept no answer of an app. A profile of about 100 answers or more keeps some.",
)


def verdict(profile: Profile) -> tuple[Statement, ...]:
    """What can be said about a profile, the basis first."""
    if not profile.is_calibrated:
        return (
            Statement(
                "plain",
                "Not calibrated",
                "This profile was made without labels. It gives a score's rank among "
                f"{counted(profile.making.answers, 'answer')} of the same model, but no probability of being "
                "right and no guarantee.",
            ),
        )
    if profile.is_adapted:
        few = counted(profile.making.answers, "answer")
        text = (
            f"The confidence of another profile, corrected by {few} to questions like those that it is for. "
            "So few tell how high it should be, within an interval that is given with each answer. They "
            "cannot show how well it does, and certify nothing."
        )
        return (Statement("caution", "Adapted", text),)
    report = profile.report
    parts = (_basis(report), _ranking(report), _probabilities(report), _skill(report))
    promises = any(one.threshold is not None for one in profile.certified)
    general = (_GENERAL,) if profile.is_general else ()
    without = (_WITHOUT_STATES,) if promises and not general and profile.states is None else ()
    has_kinds = any(one.kind for one in profile.certified)
    rows = [*threshold_rows(profile)]
    lacking = [row for row in rows if row.certified.kind and row.certified.threshold is None]
    told = (_threshold(row, has_kinds=has_kinds) for row in rows if row not in lacking)
    return (*(part for part in parts if part), *told, *_without_threshold(lacking), *general, *without)


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
        text = f"Whether the score separates right from wrong is unknown: {auroc.reason}."
        return Statement("caution", "Ranking", text)
    often = f"a right answer scores higher than a wrong one {percent(auroc.value)} of the time{_span(auroc)}"
    if auroc.low is None or auroc.high is None:
        return Statement("caution", "Ranking", f"On these answers, {often}: {auroc.reason}.")
    if auroc.low > 0.5:
        return Statement("good", "Ranking", f"The score separates right from wrong: {often}.")
    if auroc.high < 0.5:
        return Statement("bad", "Ranking", f"The score is worse than chance: {often}.")
    return Statement("caution", "Ranking", f"The score is not distinguishable from chance: {often}.")


def _probabilities(report: Mapping[str, Any]) -> Statement | None:
    ece, chance = figure_of(report, "ece"), figure_of(report, "ece_if_calibrated")
    if ece is None or chance is None or ece.value is None or chance.value is None or chance.high is None:
        return None
    off = (
        f"average error {_points(ece.value)}; chance alone gives {_points(chance.value)}, and up to "
        f"{_points(chance.high)}"
    )
    if ece.value <= chance.high:
        return Statement("good", "Probabilities", f"No sign of miscalibration: {off}.")
    text = f"The probabilities are off by more than chance explains: {off}."
    return Statement("caution", "Probabilities", text)


def _skill(report: Mapping[str, Any]) -> Statement | None:
    skill, accuracy = figure_of(report, "brier_skill"), figure_of(report, "accuracy")
    if skill is None or skill.value is None or accuracy is None or accuracy.value is None:
        return None
    if skill.low is not None and skill.low > 0:
        text = f"Better than always saying {percent(accuracy.value)}: the Brier score is"
        return Statement("good", "Gain", f"{text} {percent(skill.value)} lower{_span(skill)}.")
    text = f"Not shown to be better than always saying {percent(accuracy.value)}: the Brier skill is"
    return Statement("caution", "Gain", f"{text} {percent(skill.value)}{_span(skill)}.")


def _threshold(row: ThresholdRow, *, has_kinds: bool) -> Statement:
    certified, coverage, error = row.certified, row.coverage, row.error
    # Beside promises about kinds, a pooled one must not be read as one about each of them.
    among = " in this mix of kinds" if has_kinds else ""
    if certified.kind:
        among = f" of kind {visible(certified.kind)}"
    most, sure = promised(certified.max_error), promised(certified.confidence)
    if certified.threshold is None:
        reason = certified.reason.removesuffix(".")
        return Statement(
            "bad",
            "No guarantee",
            f"No threshold for at most {most} wrong{among} with {sure} confidence: {reason}.",
        )
    text = (
        f"At most {most} of the accepted answers{among} are wrong, with {sure} confidence: certified on "
        f"{counted(certified.accepted, 'accepted answer')}, {certified.errors:,} of them wrong."
    )
    if coverage is None or coverage.value is None or error is None:
        return Statement("plain", "Guarantee", text)
    if error.value is None or error.low is None:
        text += f" It accepts none of the held-out answers{among}, so its error rate there is unknown."
        return Statement("caution", "Guarantee", text)
    text += (
        f" It accepts {percent(coverage.value)} of the held-out answers{among}, and {row.errors:,} of these"
    )
    text += f" {row.accepted:,} are wrong: {percent(error.value)}{_span(error)}"
    if error.value <= certified.max_error:
        return Statement("good", "Guarantee", f"{text}.")
    if error.low <= certified.max_error:
        return Statement("caution", "Guarantee", f"{text}, above the promise, but chance may explain it.")
    text += ", more than chance explains. Do not rely on it; calibrate again."
    return Statement("bad", "Guarantee", text)


def _without_threshold(rows: Sequence[ThresholdRow]) -> list[Statement]:
    """Kinds without a threshold: one statement a promise, since a reason for each would bury the rest."""
    of_promises: dict[Guarantee, list[ThresholdRow]] = {}
    for row in rows:
        of_promises.setdefault(row.certified.guarantee, []).append(row)
    statements = []
    for guarantee, several in of_promises.items():
        if len(several) == 1:
            statements.append(_threshold(several[0], has_kinds=True))
            continue
        kinds = ", ".join(visible(row.certified.kind) for row in several)
        statements.append(
            Statement(
                "bad",
                "No guarantee",
                f"No threshold for at most {promised(guarantee.max_error)} wrong with "
                f"{promised(guarantee.confidence)} confidence of each of these kinds: {kinds}. The profile "
                "itself has the reasons.",
            )
        )
    return statements


def _span(figure: Figure) -> str:
    return (
        f" (95\N{NO-BREAK SPACE}% interval {interval(figure, as_percent=True)})"
        if figure.low is not None
        else ""
    )


def _points(share: float) -> str:
    return f"{100 * share:.1f} points"
